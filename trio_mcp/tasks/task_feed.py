"""The changes of a task that were not yet sent to one client that follows it.

Owns the cap on pending reports, the order of changes, and which of them leave together, and when.
A change of status is never dropped; of the reports the oldest give way to the newest.
Knows neither the connection nor the words of an era.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from trio_mcp.concurrency.failures import log_failure
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.pacing import Pace
from trio_mcp.outgoing.slot import MOVES, Slot
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import Estimate, History, TaskReport, as_reported, as_working
from trio_mcp.tasks.live_task import ReportSource
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.wire.codec import UNENCODABLE
from trio_mcp.wire.frames import OutFrame

logger = logging.getLogger("trio_mcp.tasks")

Joins: TypeAlias = Literal["all", "newest"]
"""Which of the reports that share a frame are listed in it: all, or only the newest, as its state."""

JOINED_CHARACTERS: Final = 65_536
"""The messages of the reports in one frame: far below the largest frame, even beside a large result."""

Render: TypeAlias = Callable[[TaskRecord, Sequence[TaskReport]], OutFrame]


class TaskFeed(Slot):
    """Sends a task's changes to one client, each as the frame that `render` makes of it.

    At most `limit` reports are pending; then the oldest is dropped, but never the very first. Nothing
    else needs a cap: a task has few changes of status, because every question that it asks waits for
    an answer, and the history that is replayed to a late follower was capped when it was kept.
    With `joins`, pending reports leave in one frame, which has them all, and the change of status
    behind them, if `joins` is "all". With `min_interval`, frames are so many seconds apart, except
    that a change of status leaves at once, with the last report. The history leaves at once too.
    """

    __slots__ = (
        "_base",
        "_clock",
        "_has_begun",
        "_joins",
        "_limit",
        "_render",
        "_replayed",
        "_stopped",
        "_task",
        "_unsent",
    )

    _items: deque[TaskRecord | TaskReport]

    def __init__(
        self,
        outbox: Outbox,
        limit: int,
        clock: TaskClock,
        record: TaskRecord,
        render: Render,
        joins: Joins | None = None,
        min_interval: float = 0,
    ) -> None:
        super().__init__(outbox, deque(), Pace(min_interval, tuple) if min_interval else None)
        self._limit = limit
        self._clock = clock
        self._base = record  # the state before the next report
        self._render = render
        self._joins = joins
        self._has_begun = False  # whether any progress was sent, or is about to be
        self._replayed = 0  # how many items, at the left, are history and not counted in `reports`
        self._unsent: History | None = None
        self._task: ReportSource | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return (
            f"<TaskFeed of task {self._base.id}: {self._replayed + self.reports} reports pending, "
            f"{'stopped' if self._stopped else self._state.value}>"
        )

    @property
    def is_refilled(self) -> bool:
        """False: all that a feed has pending fits into one write, and keeps its place."""
        return False

    def begin(self, record: TaskRecord, history: Sequence[TaskReport]) -> None:
        """Append what was reported so far, then the state now; never waits."""
        self._has_begun = bool(history) or record.progress is not None
        if history:
            self._base = as_working(record)
            self._items.extend(history)
            self._replayed = len(history)
        self.follow(record)

    def follow(self, record: TaskRecord) -> None:
        """Append a change of status; never waits."""
        if self._stopped:
            return
        self.resume()
        self._items.append(record)
        self.outbox.flush()
        self._ask_turn()

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Append a report, in place of `replaced` if that is the newest item that is pending; never waits."""
        if self._stopped:
            return
        if replaced is not None and self._items and self._items[-1] is replaced:
            self._items[-1] = report
            return
        if self.reports >= self._limit:
            self._drop_oldest()
        self._task = task
        self._items.append(report)
        self.reports += 1
        self._ask_turn()

    def stop(self) -> Sequence[TaskReport]:
        """Send nothing more; returns the reports that were not sent, up to twice the cap."""
        self._stopped = True
        self._set_aside()
        return () if self._unsent is None else self._unsent.reports

    def discard(self) -> None:
        """Drop all that is pending, because the wire is gone, but keep the reports for `stop`."""
        self._set_aside()
        self._state = MOVES[self._state]["discard"]

    def drain(self, room: int) -> tuple[list[OutFrame], int, bool]:
        """Remove up to `room` changes; returns their frames, their number, and whether nothing is left."""
        frames: list[OutFrame] = []
        used = 0
        pace = self._pace
        while self._items and used < room:
            if pace is not None and not self._keep_newest(pace):
                break
            record, reports, taken = self._next_change(room - used)
            used += taken
            if record.progress is not None:
                self._has_begun = True
                if pace is not None:
                    pace.begin_interval()
            try:
                frames.append(self._render(record, reports))
            except UNENCODABLE as error:  # it must not end the writer, on which other messages depend
                log_failure(error, f"a change of a task of tool {record.tool!r}", logger, "cannot be sent")
        if self._items:
            return frames, used, False
        self._note_drained()
        return frames, used, True

    def _keep_newest(self, pace: Pace) -> bool:
        """Leave only those reports at the left that may be sent now; False if nothing is left at all."""
        if self._replayed:
            return True
        reports: deque[TaskRecord | TaskReport] = deque()
        while self._items and isinstance(self._items[0], tuple):
            reports.append(self._items.popleft())
        self.reports -= len(reports)
        # The last of them leaves before a change of status, as that of a call does before the answer.
        self.reports += pace.keep_newest(reports, has_begun=self._has_begun, has_ended=bool(self._items))
        self._items.extendleft(reversed(reports))
        return bool(self._items)

    def _next_change(self, room: int) -> tuple[TaskRecord, Sequence[TaskReport], int]:
        """Remove the items of the next frame; returns its state, its reports, and the number of items."""
        reports = self._take_reports(1 if self._joins is None else room)
        taken = len(reports)
        following = self._items[0] if self._items else None
        shown = reports if self._joins == "all" else ()
        if isinstance(following, TaskRecord) and (
            # What a task asks its client may not be JSON, and the reports must not be lost with it.
            not reports or (self._joins == "all" and not following.inputs)
        ):
            self._items.popleft()
            self._base = following
            return following, shown, taken + 1
        newest = reports[-1]
        estimate: Estimate = (None, None)
        stages = None
        if self._task is not None:
            estimate = self._task.estimate(newest)
            # The stages that are open now were open at the newest report; of older ones nothing is known.
            stages = None if self.reports else self._task.open_stages
        record = as_reported(self._base, newest, self._clock, estimate, stages)
        return record, shown if taken > 1 else (), taken

    def _take_reports(self, most: int) -> list[TaskReport]:
        pending = self._items
        reports: list[TaskReport] = []
        characters = 0
        while pending and len(reports) < most and characters < JOINED_CHARACTERS:
            report = pending[0]
            if not isinstance(report, tuple):
                break
            pending.popleft()
            if self._replayed:
                self._replayed -= 1
            else:
                self.reports -= 1
            reports.append(report)
            characters += len(report[2] or "")
        return reports

    def _set_aside(self) -> None:
        """Drop all that is pending, but keep the reports for `stop`."""
        if self._pace is not None:
            self._pace.put_back(self._items)
        reports = [change for change in self._items if isinstance(change, tuple)]
        if reports:
            known = () if self._unsent is None else self._unsent.reports
            self._unsent = History(2 * self._limit, (*known, *reports))
        self._clear()
        self._replayed = 0

    def _drop_oldest(self) -> None:
        spare_first = not self._has_begun and self._limit > 1
        for index, change in enumerate(self._items):
            if index < self._replayed or not isinstance(change, tuple):
                continue
            if spare_first:
                spare_first = False
                continue
            del self._items[index]
            self.reports -= 1
            return
