"""Puts live tasks into a store that is dear to write to: seldom, and many in one call.

Owns the reports that were not put yet, up to a cap for each task, and the one call of `put` that is made at
a time. A change of status is put at once, with all others that wait; progress waits for the next interval.
Knows neither ends nor lost tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeAlias

import attrs
import trio
from msgspec import Raw

from trio_mcp.errors import TaskOverload, TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask, ReportSource
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.store_calls import FIRST_PAUSE, longer
from trio_mcp.tasks.stored_reports import as_stored

Put: TypeAlias = Callable[[Sequence[TaskChange]], Awaitable[Collection[str]]]


class Flusher:
    """Follows the tasks of one process, and puts them; `run` puts what nobody waits for.

    Progress is put at once if none was put for `interval` seconds. Of each task at most `limit` reports wait;
    then the oldest is dropped. `put` raises TaskStoreError or TaskOverload, and nothing else;
    `note_lost` is called with each task that the store does not hold any more.
    """

    def __init__(
        self,
        put: Put,
        interval: float,
        limit: int,
        clock: TaskClock,
        note_lost: Callable[[LiveTask], object],
    ) -> None:
        self._put = put
        self._interval = interval
        self._limit = limit
        self._clock = clock
        self._note_lost = note_lost
        self._reports: dict[LiveTask, deque[TaskReport]] = {}
        self._wishes: dict[LiveTask, _Wish] = {}
        self._is_putting = False
        self._was_put = trio.lowlevel.ParkingLot()
        self._was_changed = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "putting" if self._is_putting else "idle"
        return f"<Flusher: {len(self._reports)} tasks have progress, {len(self._wishes)} a status, {state}>"

    def follow(self, record: TaskRecord) -> None:
        """Nothing: whoever changes more than the progress puts that."""

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Keep a report of a live task for the next put, in place of `replaced` if that was not put yet."""
        assert isinstance(task, LiveTask), "what runs elsewhere is put there"
        reports = self._reports.get(task)
        if reports is None:
            reports = self._begin(task)
        if replaced is not None and reports and reports[-1] is replaced:
            reports[-1] = report
            return
        reports.append(report)

    def note_changed(self, live: LiveTask) -> None:
        """Put the record of a task with the next progress, because it has changed without a report."""
        if live not in self._reports:
            self._begin(live)

    def forget(self, live: LiveTask) -> None:
        """Put nothing more of a task."""
        self._reports.pop(live, None)
        wish = self._wishes.pop(live, None)
        if wish is not None:
            wish.finish(is_lost=True)
            self._was_put.unpark_all()

    async def put(self, live: LiveTask, record: TaskRecord, checkpoint: Raw | None = None) -> bool:
        """Put a record at once, with the reports before it; False if the task is lost. Checkpoints.

        Raises TaskStoreError, and TaskOverload if the record is too large.
        """
        wish = self._wishes.get(live)
        if wish is None:
            wish = self._wishes[live] = _Wish(record)
        wish.record = record
        if checkpoint is not None:
            wish.checkpoint = checkpoint
        try:
            while not wish.is_done:
                if wish.newer is not None:
                    wish = wish.newer
                elif self._is_putting:
                    await self._was_put.park()
                else:
                    await self._put_tasks(list(self._wishes))
        finally:
            if not wish.is_done:
                self._was_changed.unpark_all()  # it is put when its turn comes, although nobody waits
        if wish.error is not None:
            raise wish.error
        return not wish.is_lost

    async def run(self) -> None:
        """Put progress until cancelled; does not wake up while there is none. Checkpoints."""
        pause = FIRST_PAUSE
        while True:
            while not (self._reports or self._wishes):
                await self._was_changed.park()
            if self._is_putting:
                await self._was_put.park()
                continue
            if await self._put_tasks(
                [*self._reports, *(live for live in self._wishes if live not in self._reports)]
            ):
                pause = FIRST_PAUSE
                await trio.sleep(self._interval)
            else:
                await trio.sleep(max(pause, self._interval))
                pause = longer(pause)

    def _begin(self, live: LiveTask) -> deque[TaskReport]:
        reports = self._reports[live] = deque(maxlen=self._limit)
        self._was_changed.unpark_all()
        return reports

    async def _put_tasks(self, lives: Iterable[LiveTask]) -> bool:
        """Put tasks in one call; False if the store fails, and then their progress is kept."""
        puts = [self._take(live) for live in lives]
        self._is_putting = True
        try:
            await self._put_all(puts)
        except TaskStoreError as error:
            for put in puts:
                self._give_back(put)
                put.wish.finish(error=error)
            return False
        except BaseException:
            for put in puts:
                self._give_back(put)
                self._wish_again(put)
            raise
        finally:
            self._is_putting = False
            self._was_put.unpark_all()
        return True

    def _take(self, live: LiveTask) -> _Put:
        wish = self._wishes.pop(live, None)
        reports = self._reports.pop(live, ())
        stored = [as_stored(report, self._clock) for report in reports]
        is_waited_for = wish is not None
        wish = _Wish(live.record) if wish is None else wish
        return _Put(
            live, wish, reports, TaskChange(wish.record, live.claim, stored, wish.checkpoint), is_waited_for
        )

    def _give_back(self, put: _Put) -> None:
        """Keep the reports of a put that has failed, in front of those that have come since."""
        if put.is_done or put.live.state is LiveState.LOST:
            return
        newer = self._reports.get(put.live, ())
        self._reports[put.live] = deque((*put.reports, *newer), maxlen=self._limit)

    def _wish_again(self, put: _Put) -> None:
        """Put a record later, unless nobody waits for it, because whoever put it was cancelled."""
        if not put.is_waited_for or put.wish.is_done:
            return
        newer = self._wishes.setdefault(put.live, put.wish)
        if newer is not put.wish:
            put.wish.newer = newer

    async def _put_all(self, puts: Sequence[_Put]) -> None:
        try:
            lost = await self._put([put.change for put in puts])
        except TaskOverload as error:  # of which one it is, the store need not say
            if len(puts) == 1:
                puts[0].refuse(error)
                return
            for put in puts:
                await self._put_all([put])
            return
        for put in puts:
            is_lost = put.change.record.id in lost
            put.finish(is_lost=is_lost)
            if is_lost and not put.is_waited_for:
                self._note_lost(put.live)


@attrs.define(eq=False)
class _Wish:
    """A record and a checkpoint that are to be put, and what came of it, or a `newer` one in their place."""

    record: TaskRecord
    checkpoint: Raw | None = None
    newer: _Wish | None = None
    is_done: bool = False
    is_lost: bool = False
    error: Exception | None = None

    def finish(self, *, is_lost: bool = False, error: Exception | None = None) -> None:
        if not self.is_done:
            self.is_done, self.is_lost, self.error = True, is_lost, error


@attrs.define(eq=False)
class _Put:
    """One task within a call of `put`; `is_waited_for` if somebody acts if it is lost."""

    live: LiveTask
    wish: _Wish
    reports: Collection[TaskReport]
    change: TaskChange
    is_waited_for: bool
    is_done: bool = False

    def finish(self, *, is_lost: bool) -> None:
        self.is_done = True
        if not is_lost:
            self.live.stored = self.change.record
        self.wish.finish(is_lost=is_lost)

    def refuse(self, error: TaskOverload) -> None:
        """Keep no report of it: what made the record too large may be among them."""
        self.is_done = True
        self.wish.finish(error=error)
