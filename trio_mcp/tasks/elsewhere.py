"""Followers of tasks that do not run in this process, told by the store of what another process does.

Owns the tasks that read the store for them, and that what they are told never goes back: neither the progress
nor the offset of a report. Knows no wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TypeAlias

import attrs
import trio
from msgspec.structs import replace

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import Estimate, TaskReport
from trio_mcp.tasks.live_task import Follower, LiveTask
from trio_mcp.tasks.record import TaskProgress, TaskRecord
from trio_mcp.tasks.store import TaskStore
from trio_mcp.tasks.store_calls import FIRST_PAUSE, StoreCalls, longer
from trio_mcp.tasks.stored_codec import from_microseconds
from trio_mcp.tasks.stored_reports import as_told, newest_report, read_newest
from trio_mcp.wire.frames import StageState

Begin: TypeAlias = Callable[[TaskRecord, Sequence[TaskReport]], object]


class Elsewhere:
    """The followers of one process whose tasks run in others; the tasks that tell them run in `nursery`."""

    def __init__(
        self, nursery: trio.Nursery, store: TaskStore, calls: StoreCalls, clock: TaskClock, limit: int
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._calls = calls
        self._clock = clock
        self._limit = limit
        self._followings: dict[Follower, StoredFollowing] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Elsewhere: {len(self._followings)} followers>"

    def follow(
        self,
        record: TaskRecord,
        follower: Follower,
        *,
        wants_all: bool = False,
        after: int | None = None,
        begin: Begin | None = None,
        on_gone: Callable[[], object] | None = None,
    ) -> None:
        """Tell `follower` of each change since `record`, until the task has ended or `stop` is called.

        If it `wants_all` reports, those behind the offset `after` are told one by one, as far as the store
        keeps them, or those from now on if that is None; otherwise the newest alone. If there is `begin`, it
        is called first, with the record and with those reports that are stored already. `on_gone` is called
        if the task is forgotten before it ends.
        """
        if self._is_closed:
            return
        following = StoredFollowing(
            self._store,
            self._calls,
            self._clock,
            self._limit,
            record,
            follower,
            wants_all,
            after,
            begin,
            on_gone,
        )
        self._followings[follower] = following
        self._nursery.start_soon(self._run, following, name=f"follow task {record.id}")

    def take_over(self, live: LiveTask) -> None:
        """Tell all followers of a lost task what becomes of it elsewhere, from where they are."""
        record = live.record
        if live.stored is not None:  # whoever takes the task over counts on from what is stored
            record = replace(record, version=live.stored.version)
        for follower in live.followers:
            live.remove_follower(follower)
            self.follow(record, follower, wants_all=True, after=live.offset)

    def stop(self, follower: Follower) -> None:
        """Tell `follower` nothing more; it may never have been told anything."""
        following = self._followings.pop(follower, None)
        if following is not None:
            following.scope.cancel()

    def close(self) -> None:
        """Tell nobody anything more."""
        self._is_closed = True
        for following in self._followings.values():
            following.scope.cancel()

    async def _run(self, following: StoredFollowing) -> None:
        with following.scope:
            await following.run()
        if self._followings.get(following.follower) is following:
            del self._followings[following.follower]


@attrs.define(eq=False)
class StoredFollowing:
    """One follower of one task. `record` is what it was told last, and is what its reports belong to."""

    _store: TaskStore
    _calls: StoreCalls
    _clock: TaskClock
    _limit: int
    record: TaskRecord
    follower: Follower
    _wants_all: bool
    _after: int | None
    _begin: Begin | None
    _on_gone: Callable[[], object] | None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _told_at: datetime = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        progress = self.record.progress
        self._told_at = self.record.created_at if progress is None else progress.reported_at

    def __repr__(self) -> str:
        return f"<StoredFollowing of task {self.record.id}: {self.record.status.value}>"

    @property
    def open_stages(self) -> tuple[StageState, ...] | None:
        """The stages that were open at the newest report."""
        return None if self.record.progress is None else self.record.progress.stages

    def estimate(self, report: TaskReport) -> Estimate:
        """The estimate at the newest report, whichever `report` is."""
        progress = self.record.progress
        return (None, None) if progress is None else (progress.rate, progress.eta)

    async def run(self) -> None:
        """Tell the follower until the task has ended or is forgotten; checkpoints."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._follow()
            except TaskStoreError:  # which was logged; what was missed is read when the store works again
                pass
            else:
                return
            await trio.sleep(pause)
            pause = longer(pause)

    async def _follow(self) -> None:
        task_id, call = self.record.id, self._calls.run
        async with AsyncExitStack() as stack:
            changes = await call(stack.enter_async_context, self._store.subscribe(task_id))
            if self._wants_all and self._after is None:
                stored = await call(self._store.load, task_id)
                self._after = 0 if stored is None else stored.offset
            record = await call(self._store.get, task_id, self._clock.now())
            while record is not None:
                await self._tell(record)
                if self.record.is_final:
                    return
                try:
                    record = await changes.receive()
                except trio.EndOfChannel:
                    record = None
        if self._on_gone is not None:
            self._on_gone()

    async def _tell(self, record: TaskRecord) -> None:
        before = self.record
        record = _not_behind(record, before)
        if self._begin is not None:
            reports = await self._read_reports()
            if reports:
                record = _caught_up(record, reports[-1], self._told_at)
            begin, self._begin, self.record = self._begin, None, record
            self._note_told(record)
            begin(record, reports)
            return
        if record.version <= before.version:
            return
        told = await self._read_reports() or self._newest(record)
        self.record = record
        self._note_told(record)
        floor = None if before.progress is None else before.progress.current
        for current, total, message, seconds, offset in told:
            is_behind = floor is not None and (current is None or current < floor)
            shown = floor if is_behind else current
            self.follower.follow_report(self, (shown, total, message, seconds, offset))
        if _has_moved(before, record):
            self.follower.follow(record)

    async def _read_reports(self) -> Sequence[TaskReport]:
        """The reports that were not told yet, no more than the cap, the newest last."""
        if self._after is None:
            return ()
        reports = await read_newest(self._store, self._calls, self.record.id, self._after, self._limit)
        if not reports:
            return ()
        self._after = reports[-1].offset
        self._told_at = max(self._told_at, from_microseconds(reports[-1].reported_at))
        return [as_told(report, self._clock) for report in reports]

    def _newest(self, record: TaskRecord) -> Sequence[TaskReport]:
        """The newest report, unless it was told."""
        progress = record.progress
        if progress is None or progress.reported_at <= self._told_at:
            return ()
        newest = newest_report(record, self._clock)
        return () if newest is None else (newest,)

    def _note_told(self, record: TaskRecord) -> None:
        if record.progress is not None:
            self._told_at = max(self._told_at, record.progress.reported_at)


def _has_moved(before: TaskRecord, record: TaskRecord) -> bool:
    """Whether more than the progress is different."""
    return (
        record.status is not before.status
        or record.status_message != before.status_message
        or record.inputs != before.inputs
        or record.attempt != before.attempt
    )


def _caught_up(record: TaskRecord, report: TaskReport, reported_at: datetime) -> TaskRecord:
    """`record` with the newest report that was read, if it was put since the record was."""
    current, total, message, _, offset = report
    progress = record.progress or TaskProgress(None, None, None, reported_at)
    if progress.offset >= offset:
        return record
    newer = replace(
        progress, current=current, total=total, message=message, reported_at=reported_at, offset=offset
    )
    return replace(record, progress=newer)


def _not_behind(record: TaskRecord, before: TaskRecord) -> TaskRecord:
    """`record` with the progress that was told `before`, if that is larger: a lost task had reported more."""
    told, progress = before.progress, record.progress
    if told is None or told.current is None:
        return record
    if progress is None:
        progress = TaskProgress(None, told.total, told.message, told.reported_at)
    if progress.current is not None and progress.current >= told.current:
        return record
    return replace(record, progress=replace(progress, current=told.current))
