"""The progress of one request: its values, and every way to change them.

One report goes this way, without a task or a lock (a lossless call first waits for room):

    ctx.report_progress(3, 9, "users")
      -> ProgressReporter.report       checks the values and keeps them, for the handler to read back
           -> ProgressKeeper.report    the background task, if the call has become one
           -> CallQueue.push           what waits for the client, if the client asked for progress
      -> a cancellation point. The first report after the Trio task has yielded does not yield again; a
         later one does if YIELD_SECONDS have passed since that first one, or if so much is pending
         that the writer should have its turn

The plain methods (`increment`, `set_total`, `set_message`) go through `_publish` instead. They cannot
yield, so what a task changes between two checkpoints becomes one report.

Owns the values, and when a report yields to the scheduler. Refuses to know how a report travels (the
call queue decides that) and what a stage is: stages look at the request and set its values
(`set_from_stages`), so a report without stages costs nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

import msgspec
from trio.lowlevel import checkpoint, checkpoint_if_cancelled, current_task

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.report import Report
from trio_mcp.progress.checks import INT_MAX, INT_MIN, check_message, check_number, check_positive
from trio_mcp.wire.frames import StageState

YIELD_SECONDS: Final = 0.0001
"""How long a Trio task reports without yielding, in seconds of the clock of the reporter."""


_KEPT: Final = Report(0, None, None)
"""Stands for the newest report of a request that only its background task has."""


class ProgressKeeper(Protocol):
    """A background task that keeps the progress of its handler: a `LiveTask` of `tasks/`."""

    stages: Callable[[], tuple[StageState, ...]] | None
    """Describes the open stages; None until the handler has a stage."""

    def report(
        self, current: float | None, total: float | None, message: str | None, *, replaces: bool = False
    ) -> None:
        """Keep one report, in place of the last one if it `replaces` that; does not wait."""


class OpenStages(Protocol):
    """The stages of a request, as far as the reporter concerns them."""

    def describe(self) -> tuple[StageState, ...]:
        """The stages that are open now, as the client is told of them."""


class ProgressReporter:
    """The progress of one request. Not thread-safe: it is used on the Trio thread only.

    `current`, `total` and `message` are what the handler reads back. `stages` is None until the
    handler plans or opens one; `stages_total` is the sum of their weights, and stands for the total
    while the handler has set none.
    """

    __slots__ = (
        "_call_queue",
        "_checked_total",
        "_clock",
        "_keeper",
        "_newest",
        "_since",
        "_strict",
        "_total",
        "current",
        "message",
        "stages",
        "stages_total",
    )

    def __init__(
        self,
        call_queue: CallQueue | None,
        *,
        strict_yield: bool = False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.current: float | None = None
        self.message: str | None = None
        self._total: float | msgspec.UnsetType | None = msgspec.UNSET  # None if a report has cleared it
        self._checked_total: float | None = None  # the total of the last report: no need to check it again
        self.stages: OpenStages | None = None
        self.stages_total: float | None = None
        # Where reports go: to a client, unless it did not ask; to a task, if the call has become one.
        self._call_queue = call_queue
        self._keeper: ProgressKeeper | None = None
        # The task's turn. Trio clears `Task.custom_sleep_data` whenever it reschedules a task. So a task
        # on which the reporter has left itself there has not yielded since; `_since` is when that was,
        # and `_newest` is what `_publish` has pushed in this turn.
        self._strict = strict_yield
        self._clock = clock
        self._since = 0.0
        self._newest: Report | None = None

    def __repr__(self) -> str:
        queue = "silent" if self._call_queue is None else "sending"
        task = "" if self._keeper is None else ", recorded in a task"
        values = f"{self.current!r} of {self.total!r}, {self.message!r}"
        return f"<ProgressReporter: {values}, {queue}{task}>"

    # What the handler reads back.

    @property
    def total(self) -> float | None:
        """The total that was set last, or what the stages add up to; 1 until then."""
        return (self.stages_total or 1) if isinstance(self._total, msgspec.UnsetType) else self._total

    @property
    def has_total(self) -> bool:
        """Whether the handler has set a total."""
        return self._total is not None and not isinstance(self._total, msgspec.UnsetType)

    @property
    def known_total(self) -> float | None:
        """The total as it is sent: None until the handler has set one, or stages add up to one."""
        return self.stages_total if isinstance(self._total, msgspec.UnsetType) else self._total

    @property
    def has_stages(self) -> bool:
        """Whether stages make up a total."""
        return self.stages_total is not None

    @property
    def has_reported(self) -> bool:
        """Whether there is anything to send: a total alone is not sent."""
        return self.current is not None or self.message is not None

    # What the handler reports.

    async def report(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Set total and message, and raise the progress if it is larger; see `Context.report_progress`."""
        # The hot path: the usual types are checked in place, what was checked last is not checked
        # again, and nothing is called that need not be.
        if type(progress) is not int or not INT_MIN <= progress <= INT_MAX:
            progress = check_number(progress, "progress")
        if total is not self._checked_total and (type(total) is not int or not INT_MIN <= total <= INT_MAX):
            total = None if total is None else check_number(total, "total")
        if message is not self.message:
            check_message(message)
        call_queue = self._call_queue
        if call_queue is not None and call_queue.reports >= call_queue.limit and call_queue.lossless:
            await call_queue.wait_space()
        current = self.current
        if current is None or progress > current:
            self.current = current = progress
        self._total = self._checked_total = total
        self.message = message
        if self._keeper is not None:
            self._keeper.report(current, total, message)
            self._newest = None  # the next change of a plain method does not replace this report
        is_due = call_queue is not None and call_queue.push(Report(current, total, message))
        trio_task = current_task()
        if self._strict:
            await checkpoint()
        elif trio_task.custom_sleep_data is not self:  # the first since it yielded: Trio clears the mark
            trio_task.custom_sleep_data = self
            self._since = self._clock()
            await checkpoint_if_cancelled()
        elif is_due or self._clock() - self._since > YIELD_SECONDS:
            await checkpoint()
        else:
            await checkpoint_if_cancelled()

    def set_total(self, total: float) -> None:
        """Set the total; see `ProgressHelper.set_total`."""
        self._total = check_positive(total, "total")
        if self.has_reported:
            self._publish()

    def increment(self, by: float = 1) -> None:
        """Add to the current value; see `ProgressHelper.increment`."""
        number = check_positive(by, "the increment")
        self.current = check_number((self.current or 0) + number, "progress")
        self._publish()

    def reach(self, progress: float) -> None:
        """Raise the current value to `progress`, unless it is as large already; change nothing else."""
        number = check_number(progress, "progress")
        if self.current is None or number > self.current:
            self.current = number
            self._publish()

    def set_message(self, message: str | None) -> None:
        """Set the message; see `ProgressHelper.set_message`."""
        check_message(message)
        self.message = message
        self._publish()

    def _publish(self) -> None:
        """Report the present values; they replace the report that this method made last, if the task has not
        yielded since and the report is still the newest that is pending."""
        total = self.stages_total if isinstance(self._total, msgspec.UnsetType) else self._total
        call_queue, keeper = self._call_queue, self._keeper
        if call_queue is None and keeper is None:
            return
        trio_task = current_task()
        if trio_task.custom_sleep_data is not self:
            trio_task.custom_sleep_data = self
            self._since = self._clock()
            self._newest = None  # it was published in an earlier turn
        newest = self._newest
        if keeper is not None:
            keeper.report(self.current, total, self.message, replaces=newest is not None)
        if call_queue is None:
            self._newest = _KEPT
            return
        report = Report(0 if self.current is None else self.current, total, self.message)
        if newest is not None and call_queue.replace(newest, report):
            pass
        elif call_queue.lossless and call_queue.full:
            call_queue.replace_newest(report)  # because a plain method cannot wait for room
        else:
            call_queue.push(report)
        self._newest = report

    def end_notification(self) -> None:
        """Keep the last change apart from the next: they leave as two notifications, not as one."""
        self._newest = None

    # How a report waits.

    async def take_turn(self) -> None:
        """A cancellation point; a schedule point on the same conditions as `report`."""
        trio_task = current_task()
        if self._strict:
            await checkpoint()
        elif trio_task.custom_sleep_data is not self:  # the first since it yielded: Trio clears the mark
            trio_task.custom_sleep_data = self
            self._since = self._clock()
            self._newest = None  # it was pushed in an earlier turn
            await checkpoint_if_cancelled()
        elif self._clock() - self._since > YIELD_SECONDS or (
            self._call_queue is not None and self._call_queue.filling
        ):
            await checkpoint()
        else:
            await checkpoint_if_cancelled()

    async def wait_if_full(self) -> None:
        """Wait while the buffer of a lossless call is full; otherwise return without a checkpoint."""
        if self._call_queue is not None and self._call_queue.lossless and self._call_queue.full:
            await self._call_queue.wait_space()

    async def wait_space(self) -> None:
        """Wait until a report of a lossless call fits; always checkpoints."""
        if self._call_queue is not None and self._call_queue.lossless:
            await self._call_queue.wait_space()
        else:
            await checkpoint()

    # What stages change.

    def begin_stages(self, stages: OpenStages) -> None:
        """Let the call queue and the record ask `stages` which of them are open."""
        self.stages = stages
        if self._call_queue is not None:
            self._call_queue.stages = stages.describe
        if self._keeper is not None:
            self._keeper.stages = stages.describe

    def expect_stages(self, total: float) -> None:
        """Note that the weights of the stages add up to `total`; it is sent as `set_total` sends one."""
        self.stages_total = total or None
        if not self.has_total and self.has_reported:
            self._publish()

    def set_from_stages(self, current: float | None, stages_total: float | None, message: str | None) -> None:
        """Set what the stages add up to; a total that a report has cleared is theirs from now on."""
        self.current = current
        self.message = message
        self.stages_total = stages_total
        if self._total is None:
            self._total = msgspec.UNSET
        self._publish()

    # Where reports go.

    def record_in(self, task: ProgressKeeper) -> None:
        """Report to `task` as well from now on, beginning with the present values unless it has them."""
        has_values = self._keeper is task
        self._keeper = task
        self._newest = None
        if self.stages is not None:
            task.stages = self.stages.describe
        if self.has_reported and not has_values:
            total = self.stages_total if isinstance(self._total, msgspec.UnsetType) else self._total
            task.report(self.current, total, self.message)

    def send_by(self, call_queue: CallQueue) -> None:
        """Send by another call queue from now on."""
        self._call_queue = call_queue

    def hand_on_to(self, task: ProgressKeeper) -> None:
        """Report to `task`, which has the present values, in place of what it has reported to."""
        self._keeper = task

    def succeed(self) -> ProgressReporter:
        """Report nowhere any more; returns the reporter of the next attempt, which is told where."""
        self._call_queue = self._keeper = None
        return ProgressReporter(None, strict_yield=self._strict, clock=self._clock)

    def stop_sending(self) -> None:
        """Send nothing more: the request's token has ended, but its handler goes on."""
        self._call_queue = None
