"""How the reports of a call become progress on the wire, which strictly increases per token.

Owns the last values that were sent, and the rule for reports that do not increase (MCP progress, "MUST
increase"). What is pending, and in which order it leaves, is the business of `CallQueue`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from msgspec import UnsetType

from trio_mcp.outgoing.nudge import nudge
from trio_mcp.outgoing.report import Report
from trio_mcp.outgoing.slot import IDLE, Slot
from trio_mcp.wire.frames import OutFrame, ProgressRun, ProgressToken, StageState, Update


class CallProgress(Protocol):
    """What a handler has said of its progress: a `ProgressReporter`."""

    @property
    def current(self) -> float | None:
        """The progress; None before the first report."""

    @property
    def known_total(self) -> float | None:
        """The total as it is sent."""

    @property
    def message(self) -> str | None:
        """The message."""


class CallHeart(Protocol):
    """What shows life of a call that is silent: a `Heart` of `outgoing/heartbeats.py`."""

    def note_sent(self) -> None:
        """Note that progress of the call is being sent now."""

    def move_to(self, call_queue: ProgressSlot) -> None:
        """Show life by `call_queue` from now on."""

    def show(self, progress: CallProgress) -> None:
        """Send the values of `progress` from now on."""

    def stop(self) -> None:
        """Show no life any more, because the call has ended."""


class ProgressSlot(Slot):
    """A slot whose reports leave as runs of progress.

    `stages` returns the stages that are open now; it is None if the call never had any. `heart` shows
    life while the call is silent; most calls have none. It is a base class for the reason that `Slot` is one.
    """

    __slots__ = (
        "_floor",
        "_last",
        "_last_details",
        "_last_stages",
        "_merge",
        "_merged",
        "_related_task",
        "_token",
        "heart",
        "stages",
    )

    # `CallQueue` sets them: a constructor here would cost each call a call of a function.
    _floor: float | None
    _last: float
    _last_details: tuple[float | None, str | None]
    _last_stages: tuple[StageState, ...]
    _merge: bool
    _merged: Report | None
    _related_task: str | None
    _token: ProgressToken | UnsetType
    heart: CallHeart | None
    stages: Callable[[], tuple[StageState, ...]] | None

    def continue_from(self, before: ProgressSlot, task_id: str) -> None:
        """Go on with the progress of `before`, which has the same token, as that of the task `task_id`."""
        self._related_task = task_id
        self._last, self._last_details = before._last, before._last_details
        self._merged, before._merged = before._merged, None
        self.stages, self._last_stages = before.stages, before._last_stages
        self.heart, before.heart = before.heart, None
        if self.heart is not None:
            self.heart.move_to(self)

    def begin_above(self, floor: float) -> None:
        """Send no report up to `floor`, which an earlier round of the call has sent already."""
        self._last = self._floor = floor

    def beat(self, progress: float, total: float | None, message: str | None) -> None:
        """Send a sign of life with the handler's own values, unless something is pending anyway.

        It is no report: nothing gives way to it, and "merge" does not hold it back. If the next number that
        can be sent would reach the next integer, nothing is sent.
        """
        if not self.is_refilled or self._state is not IDLE:
            return
        if self._floor is not None:  # in a later round, what an earlier one has sent
            progress = max(progress, self._floor)
        sent, exact = progress, None
        if progress <= self._last:
            sent, exact = nudge(self._last, total), progress
            if sent >= self._last + 1:
                return
        self._last, self._last_details = sent, (total, message)
        if self._pace is not None:
            self._pace.begin_interval()
        update = (sent, total, message, exact)
        self._items.append(ProgressRun(self._token, [update], self._related_task))  # type: ignore[arg-type]  # a call without a token has no heart
        self._ask_turn()

    def _add_updates(self, frames: list[OutFrame], updates: list[Update]) -> None:
        if updates:
            if self.heart is not None:
                self.heart.note_sent()
            stages = None if self.stages is None else self._changed_stages()
            frames.append(ProgressRun(self._token, updates, self._related_task, stages))  # type: ignore[arg-type]  # no reports without a token

    def _changed_stages(self) -> tuple[StageState, ...] | None:
        """The stages that are open now; None if they did not change, or more updates follow."""
        if self.reports or self.stages is None:
            return None
        stages, last = self.stages(), self._last_stages
        self._last_stages = stages
        return None if stages == last else stages

    def _increase(self, reports: list[Report]) -> list[Update]:
        """Turn reports into updates that strictly increase (MCP progress).

        A larger number is sent. The same number with the same total and message is left out. With other
        ones it is sent as a slightly larger number (`nudge`); under `message="merge"` it is kept instead
        until a larger number is sent, which replaces it, or until the call ends.
        """
        if self._floor is not None:
            reports = self._skip_repeated(self._floor, reports)
        updates: list[Update] = []
        last = self._last
        details = self._last_details
        for report in reports:
            progress, total, message = report.progress, report.total, report.message
            if progress > last:
                last = progress
                updates.append((progress, total, message, None))
            elif (total, message) == details:
                self._merged = None
                continue
            elif self._merge:
                self._merged = report
                continue
            else:
                nudged = nudge(last, total)
                if nudged == math.inf:
                    continue  # there is no larger number to send
                last = nudged
                updates.append((nudged, total, message, progress))
            details = (total, message)
            self._merged = None
        self._last, self._last_details = last, details
        return updates

    def _skip_repeated(self, floor: float, reports: list[Report]) -> list[Report]:
        """The reports above `floor`; what is up to it, the handler has reported in an earlier round."""
        above = [report for report in reports if report.progress > floor]
        if above:
            self._floor = None
        return above

    def _release_merged(self) -> list[Update]:
        """The update for the change of message that "merge" kept for an increase that will not come."""
        if self._merged is None:
            return []
        self._merge = False
        return self._increase([self._merged])
