"""When tasks expire, the next one first.

Owns that order and the wait for the next one. What is done then is the supervisor's business.
"""

from __future__ import annotations

import heapq
from datetime import datetime
from typing import Final

import trio

from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.kept_records import KeptRecords
from trio_mcp.tasks.record import TaskRecord

SLACK: Final = 64
"""How many entries that are out of date are not worth a thought."""


class Expiries:
    """The times at which tasks expire. A task that is not among `kept` any more may be left out."""

    __slots__ = ("_added", "_clock", "_heap", "_kept")

    def __init__(self, clock: TaskClock, kept: KeptRecords) -> None:
        self._clock = clock
        self._kept = kept
        self._heap: list[tuple[datetime, str]] = []  # at most twice what is kept, and SLACK
        self._added = trio.lowlevel.ParkingLot()

    def add(self, record: TaskRecord) -> None:
        """Note when a task expires, if it does."""
        expires_at = record.expires_at
        if expires_at is None:
            return
        if len(self._heap) > 2 * len(self._kept) + SLACK:
            self._heap = [each for each in self._heap if each[1] in self._kept]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (expires_at, record.id))
        self._added.unpark_all()

    async def wait_next(self) -> str:
        """Wait until a task has expired, and return its id; each is returned once. Checkpoints."""
        await trio.lowlevel.checkpoint()
        while True:
            if not self._heap:
                await self._added.park()
                continue
            seconds = self._clock.seconds_until(self._heap[0][0])
            if seconds <= 0:
                return heapq.heappop(self._heap)[1]
            with trio.move_on_after(seconds):
                await self._added.park()
