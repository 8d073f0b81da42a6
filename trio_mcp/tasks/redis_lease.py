"""The lease under which one process holds its tasks in a Redis or Valkey server.

Owns the id of the process, and when it counts itself lost: a third of the lease before others may take it
for dead, by its own clock, counted from before the renewal was sent. Knows no task.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_mcp.errors import TaskStoreError

Clock = Callable[[], float]

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", None)


def lease_clock() -> float:
    """Seconds that also pass while the machine sleeps, if it can tell."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class Lease:
    """The lease of one process for as long as `keep` runs.

    `renew` is given the id and whether it is new, and returns whether the server still counts the process
    as alive. `when_lost` is called at once when the lease is lost; `holder` is another id then.
    """

    def __init__(
        self,
        seconds: float,
        clock: Clock,
        renew: Callable[[str, bool], Awaitable[bool]],
        when_lost: Callable[[], None],
    ) -> None:
        self.seconds = seconds
        self.holder = _new_holder()
        self._clock = clock
        self._renew = renew
        self._when_lost = when_lost
        self._until: float | None = None  # until when we count as alive; None if the server knows us not yet
        self._is_lost = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<Lease of {self.holder}, {'registered' if self._until else 'not registered'}>"

    async def hold(self) -> str:
        """Return the id, once the server knows it. Checkpoints; raises TaskStoreError."""
        self.check()
        if self._until is None:
            await self.renew()
        return self.holder

    def check(self) -> None:
        """Notice if the lease is over."""
        if self._until is not None and self._clock() >= self._until:
            self.lose()

    def lose(self) -> None:
        """Count as lost: nothing is held any more, and the next tasks are held under another id."""
        self.holder, self._until, self._is_lost = _new_holder(), None, True
        self._when_lost()
        self._waiting.unpark_all()

    async def wait_lost(self) -> None:
        """Wait until the lease has been lost since this was called last. Checkpoints."""
        await trio.lowlevel.checkpoint()
        while not self._is_lost:
            await self._waiting.park()
        self._is_lost = False

    async def renew(self) -> None:
        """Renew the lease, or take one. Checkpoints; raises TaskStoreError."""
        async with self._lock:
            self.check()
            holder, is_new, sent = self.holder, self._until is None, self._clock()
            is_alive = await self._renew(holder, is_new)
            if holder != self.holder:
                return  # lost meanwhile
            if is_alive:
                self._until = sent + self.seconds * 2 / 3
            else:
                self.lose()

    async def keep(self) -> None:
        """Renew the lease three times in its length, until cancelled; goes on while the server is away."""
        while True:
            try:
                await self.renew()
            except TaskStoreError:
                # Soon again: a third of the lease is left for this, and then it is lost.
                await trio.sleep(self.seconds / 15 * random.uniform(0.5, 1))
                continue
            if self._until is not None:
                await trio.sleep(self.seconds / 3 * random.uniform(0.8, 1))

    async def watch(self) -> None:
        """Notice when the lease is over, until cancelled, also while a renewal waits for its answer."""
        while True:
            self.check()
            left = self.seconds / 3 if self._until is None else self._until - self._clock()
            await trio.sleep(max(left, self.seconds / 100))


def _new_holder() -> str:
    return secrets.token_hex(8)
