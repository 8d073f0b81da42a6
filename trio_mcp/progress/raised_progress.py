"""The progress of a later attempt of a handler, as long as it is below what earlier ones have told.

Owns the rule that progress never goes back for those who watch, although each attempt counts from the
beginning. Once an attempt is above that, its reports go their usual way, and nothing here is in it.
"""

from __future__ import annotations

from collections.abc import Callable

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.report import Report
from trio_mcp.progress.reporter import ProgressKeeper, ProgressReporter
from trio_mcp.wire.frames import StageState


class RaisedProgress:
    """Takes the reports of `reporter`, and hands them on with `floor` for each number below it.

    They go to `task`, and to `call_queue` if there is one. It is the keeper of the reporter until a
    report is above the floor.
    """

    __slots__ = ("_call_queue", "_floor", "_reporter", "_task")

    def __init__(
        self, reporter: ProgressReporter, task: ProgressKeeper, call_queue: CallQueue | None, floor: float
    ) -> None:
        self._reporter = reporter
        self._task = task
        self._call_queue = call_queue
        self._floor = floor
        reporter.record_in(self)

    def __repr__(self) -> str:
        return f"<RaisedProgress to {self._floor!r} of {self._reporter!r}>"

    @property
    def current(self) -> float:
        """The progress as it is told."""
        current = self._reporter.current
        return self._floor if current is None else max(current, self._floor)

    @property
    def known_total(self) -> float | None:
        """The total as it is sent."""
        return self._reporter.known_total

    @property
    def message(self) -> str | None:
        """The message."""
        return self._reporter.message

    @property
    def stages(self) -> Callable[[], tuple[StageState, ...]] | None:
        """What describes the open stages."""
        return self._task.stages

    @stages.setter
    def stages(self, stages: Callable[[], tuple[StageState, ...]] | None) -> None:
        self._task.stages = stages
        if self._call_queue is not None:
            self._call_queue.stages = stages

    def report(
        self, current: float | None, total: float | None, message: str | None, *, replaces: bool = False
    ) -> None:
        """Hand on one report; does not wait."""
        is_above = current is not None and current > self._floor
        told = current if current is not None and is_above else self._floor
        self._task.report(told, total, message, replaces=replaces)
        call_queue = self._call_queue
        if call_queue is not None and not call_queue.closed:
            report = Report(told, total, message)
            if call_queue.lossless and call_queue.full:
                call_queue.replace_newest(report)  # the reporter could not wait for room
            else:
                call_queue.push(report)
        if is_above:
            self._step_aside()

    def _step_aside(self) -> None:
        if self._call_queue is not None and not self._call_queue.closed:
            self._reporter.send_by(self._call_queue)
        self._reporter.hand_on_to(self._task)
