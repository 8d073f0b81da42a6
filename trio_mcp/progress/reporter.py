"""Progress as runtime state: one request's values, and every way to change them.

Owns validation, the values that a handler reads back, and when a report yields
to the scheduler. One report changes the local state and what waits for the
client in one place; how that travels is the call queue's business.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from trio.lowlevel import checkpoint, checkpoint_if_cancelled, current_task

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.report import Report
from trio_mcp.progress.checks import INT_MAX, INT_MIN, check_message, check_number, check_positive
from trio_mcp.wire.frames import StageState

if TYPE_CHECKING:
    from trio_mcp.progress.stages import RequestStages

YIELD_SECONDS: Final = 0.0001
"""A tight loop of reports yields this often, in seconds of real time."""


class ProgressRecord(Protocol):
    """Where the progress of a background task is kept; `stages` tells which are open, once there were any."""

    stages: Callable[[], tuple[StageState, ...]] | None

    def report(self, current: float | None, total: float | None, message: str | None) -> None:
        """Keep one report; does not wait."""


class ProgressReporter:
    """The progress of one request; lives on the Trio thread.

    `call_queue` is where reports leave to a client, or None where nobody asked. `stages` is
    None until the handler plans or opens one, and costs nothing until then; `stages_total`
    is what they add up to, and counts where no total was set.
    """

    __slots__ = (
        "_call_queue",
        "_checked_total",
        "_newest",
        "_since",
        "_strict",
        "_task",
        "_total",
        "current",
        "message",
        "stages",
        "stages_total",
    )

    def __init__(self, call_queue: CallQueue | None, *, strict_yield: bool = False) -> None:
        self._call_queue = call_queue
        self._strict = strict_yield
        self.current: float | None = None
        self.message: str | None = None
        self._total: float | msgspec.UnsetType | None = msgspec.UNSET
        self._checked_total: float | None = None
        self._newest: Report | None = None
        self._since = 0.0
        self._task: ProgressRecord | None = None
        self.stages_total: float | None = None
        self.stages: RequestStages | None = None

    @property
    def total(self) -> float | None:
        """The total that was set last, or what the stages add up to; 1 until then."""
        return (self.stages_total or 1) if isinstance(self._total, msgspec.UnsetType) else self._total

    @property
    def has_total(self) -> bool:
        """Whether the handler has set a total."""
        return self._total is not None and not isinstance(self._total, msgspec.UnsetType)

    @property
    def has_stages(self) -> bool:
        """Whether stages make up a total."""
        return self.stages_total is not None

    async def report(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Set all three values; see `Context.report_progress`."""
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
        if self._task is not None:
            self._task.report(current, total, message)
        # Others are due once the task has run for a while, or when the writer should have its turn.
        is_due = call_queue is not None and call_queue.push(Report(current, total, message))
        task = current_task()
        if self._strict:
            await checkpoint()
        elif task.custom_sleep_data is not self:
            # Trio clears the mark whenever it reschedules a task: this one has just yielded.
            task.custom_sleep_data = self
            self._since = perf_counter()
            await checkpoint_if_cancelled()
        elif is_due or perf_counter() - self._since > YIELD_SECONDS:
            await checkpoint()
        else:
            await checkpoint_if_cancelled()

    def set_total(self, total: float) -> None:
        """Set the total; see `ProgressHelper.set_total`."""
        self._total = check_positive(total, "total")
        if self.current is not None or self.message is not None:
            self._touch()

    def increment(self, by: float = 1) -> None:
        """Add to the current value; see `ProgressHelper.increment`."""
        number = check_positive(by, "the increment")
        self.current = check_number((self.current or 0) + number, "progress")
        self._touch()

    def reach(self, progress: float) -> None:
        """Set the current value, unless it is as large already, and leave the others as they are."""
        number = check_number(progress, "progress")
        if self.current is None or number > self.current:
            self.current = number
            self._touch()

    def set_message(self, message: str | None) -> None:
        """Set the message; see `ProgressHelper.set_message`."""
        check_message(message)
        self.message = message
        self._touch()

    def _touch(self) -> None:
        """Make the present values leave, in one notification with those of the same run of the task."""
        total = self.stages_total if isinstance(self._total, msgspec.UnsetType) else self._total
        if self._task is not None:
            self._task.report(self.current, total, self.message)
        call_queue = self._call_queue
        if call_queue is None:
            return
        values = Report(0 if self.current is None else self.current, total, self.message)
        task = current_task()
        same_run = task.custom_sleep_data is self
        if not same_run:
            task.custom_sleep_data = self
            self._since = perf_counter()
        if same_run and self._newest is not None and call_queue.replace(self._newest, values):
            pass
        elif call_queue.lossless and call_queue.full:
            call_queue.replace_newest(values)
        else:
            call_queue.push(values)
        self._newest = values

    def take(self, current: float | None, stages_total: float | None, message: str | None) -> None:
        """Set what the stages have come to; the total counts where none was set, or it was cleared."""
        self.current = current
        self.message = message
        self.stages_total = stages_total
        if self._total is None:
            self._total = msgspec.UNSET
        self._touch()

    def expect_stages(self, total: float) -> None:
        """Let `total` be what the stages add up to; sent as what `set_total` sets."""
        self.stages_total = total or None
        if not self.has_total and (self.current is not None or self.message is not None):
            self._touch()

    def begin_stages(self, stages: RequestStages) -> None:
        """Let the stages tell the call queue, and the task, which of them are open."""
        self.stages = stages
        if self._call_queue is not None:
            self._call_queue.stages = stages.describe
        if self._task is not None:
            self._task.stages = stages.describe

    def stand_alone(self) -> None:
        """Let the last change leave as a notification of its own, not in one with the next."""
        self._newest = None

    async def make_room(self) -> None:
        """Wait while the buffer of a lossless call is full; otherwise no checkpoint."""
        if self._call_queue is not None and self._call_queue.lossless and self._call_queue.full:
            await self._call_queue.wait_space()

    async def take_turn(self) -> None:
        """A cancellation point, and a schedule point where the task has run for a while; see `report`."""
        task = current_task()
        if self._strict:
            await checkpoint()
        elif task.custom_sleep_data is not self:
            task.custom_sleep_data = self
            self._since = perf_counter()
            self._newest = None  # of an earlier run of the task
            await checkpoint_if_cancelled()
        elif perf_counter() - self._since > YIELD_SECONDS or (
            self._call_queue is not None and self._call_queue.filling
        ):
            await checkpoint()
        else:
            await checkpoint_if_cancelled()

    def record_in(self, task: ProgressRecord) -> None:
        """Report to `task` as well from now on, beginning with what was reported so far."""
        self._task = task
        if self.stages is not None:
            task.stages = self.stages.describe
        if self.current is not None or self.message is not None:
            total = self.stages_total if isinstance(self._total, msgspec.UnsetType) else self._total
            task.report(self.current, total, self.message)

    def send_by(self, call_queue: CallQueue) -> None:
        """Send by another call queue from now on."""
        self._call_queue = call_queue

    def stop_sending(self) -> None:
        """Send nothing more: the request's token has ended, but its handler goes on."""
        self._call_queue = None

    async def wait_space(self) -> None:
        """Wait until a report fits, for callers that can wait; checkpoints."""
        if self._call_queue is not None and self._call_queue.lossless:
            await self._call_queue.wait_space()
        else:
            await checkpoint()
