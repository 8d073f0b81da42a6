"""What the memory store keeps of a task, and the queue of those that nobody holds.

Owns the order of the queue, and which of its tasks are ready. Reads no clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final

import trio
from msgspec import Raw, Struct

from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.tasks.cursors import Place
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.stored_task import DEFAULT_REPORTS, StoredReport, StoredTask, TaskWork

NO_ANSWERS: Final[Mapping[str, Raw]] = MappingProxyType({})  # shared, because most tasks have none


class Entry(Struct, eq=False):
    """One task as it is kept.

    `place` is where it stands among the tasks of its owner, and `number` among all. The rest are those of
    `StoredTask`; `key` is that of its creation.
    """

    record: TaskRecord
    place: Place
    number: int
    work: TaskWork | None
    key: str | None
    holder: str | None = None
    claim: int = 0
    ready_at: datetime | None = None
    checkpoint: Raw | None = None
    answers: Mapping[str, Raw] = NO_ANSWERS
    reports: deque[StoredReport] | None = None
    subscriptions: set[LatestChannel[TaskRecord]] | None = None  # few tasks are subscribed to here

    def stored(self) -> StoredTask:
        """The same as a value."""
        return StoredTask(
            record=self.record,
            work=self.work,
            holder=self.holder,
            claim=self.claim,
            ready_at=self.ready_at,
            checkpoint=self.checkpoint,
            answers=dict(self.answers),
            offset=self.reports[-1].offset if self.reports else 0,
        )

    def keep_reports(self, reports: Sequence[StoredReport]) -> None:
        """Keep newer reports, and drop the oldest beyond the cap."""
        if self.reports is None:
            self.reports = deque(maxlen=DEFAULT_REPORTS)
        self.reports.extend(reports)


class MemoryQueue:
    """The tasks that wait for whoever claims them, oldest first."""

    __slots__ = ("_entries", "_was_added")

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}  # at most what the store keeps
        self._was_added = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<MemoryQueue: {len(self._entries)} tasks>"

    def add(self, entry: Entry) -> None:
        """Put a task at the end."""
        self._entries[entry.record.id] = entry
        self._was_added.unpark_all()

    def discard(self, task_id: str) -> None:
        """Take a task out, if it waits."""
        self._entries.pop(task_id, None)

    def take(self, tools: Collection[str], limit: int, now: datetime) -> Sequence[Entry]:
        """Take out up to `limit` tasks of `tools` that are ready by `now`."""
        ready: list[Entry] = []
        for entry in self._entries.values():
            if len(ready) >= limit:
                break
            if self._is_wanted(entry, tools, now) and (entry.ready_at is None or entry.ready_at <= now):
                ready.append(entry)
        for entry in ready:
            del self._entries[entry.record.id]
        return ready

    async def wait_ready(self, tools: Collection[str], now: datetime) -> None:
        """Wait until `take` may find something, counted from `now`; may be too early.

        Checkpoints if it waits.
        """
        times = [
            entry.ready_at or now for entry in self._entries.values() if self._is_wanted(entry, tools, now)
        ]
        seconds = min(((when - now).total_seconds() for when in times), default=math.inf)
        if seconds > 0:
            with trio.move_on_after(seconds):
                await self._was_added.park()

    def _is_wanted(self, entry: Entry, tools: Collection[str], now: datetime) -> bool:
        return entry.record.tool in tools and not entry.record.has_expired(now)
