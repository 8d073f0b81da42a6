"""The lease under which one process holds its tasks in a Redis or Valkey server.

Owns the id of the process, and when it counts itself lost: a third of the lease before others may take it
for dead, by its own clock, counted from before the renewal was sent. Knows no task.
"""

from __future__ import annotations

import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import trio

from trio_mcp.errors import TaskStoreError

Clock = Callable[[], float]

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", None)


def lease_clock() -> float:
    """Seconds that also pass while the machine sleeps, if it can tell."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class Standing(Enum):
    """What the server says of a process that asks it to renew its lease; the values are those of RENEW."""

    DEAD = 0
    ALIVE = 1
    RESTS = 2
    """It holds no task, and needs no lease until it does."""


class Lease:
    """The lease of one process for as long as `keep` runs.

    A process that holds no task lets go of its lease at the next renewal, and then costs nobody anything.
    `hold` takes one again, under the same id.

    `renew` is given the id, whether the server knows it not yet, and whether the process may rest, which
    `is_idle` says. `when_lost` is called at once when the lease is lost; `holder` is another id then.
    """

    def __init__(
        self,
        seconds: float,
        clock: Clock,
        renew: Callable[[str, bool, bool], Awaitable[Standing]],
        is_idle: Callable[[], bool],
        when_lost: Callable[[], None],
    ) -> None:
        self.seconds = seconds
        self.holder = _new_holder()
        self._clock = clock
        self._renew = renew
        self._is_idle = is_idle
        self._when_lost = when_lost
        self._until: float | None = None  # until when we count as alive; None if the server knows us not
        self._may_rest = False  # while we ask for that, so that nobody relies on the lease
        self._is_lost = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._registered = trio.lowlevel.ParkingLot()
        self._over = trio.CancelScope()  # whose deadline is the end of the lease
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<Lease of {self.holder}, {'registered' if self.is_registered else 'not registered'}>"

    @property
    def is_registered(self) -> bool:
        """Whether this process has a lease, as far as it knows."""
        return self._until is not None

    async def hold(self) -> str:
        """Return the id, once the server knows it. Checkpoints; raises TaskStoreError."""
        self.check()
        if self._until is None or self._may_rest:
            async with self._lock:
                if self._until is None:  # nobody else was faster
                    await self._ask(may_rest=False)
        return self.holder

    def check(self) -> None:
        """Notice if the lease is over."""
        if self._until is not None and self._clock() >= self._until:
            self.lose()

    def lose(self) -> None:
        """Count as lost: nothing is held any more, and the next tasks are held under another id."""
        self.holder, self._is_lost = _new_holder(), True
        self._count_until(None)
        self._when_lost()
        self._waiting.unpark_all()

    async def wait_lost(self) -> None:
        """Wait until the lease has been lost since this was called last. Checkpoints."""
        await trio.lowlevel.checkpoint()
        while not self._is_lost:
            await self._waiting.park()
        self._is_lost = False

    async def keep(self) -> None:
        """Renew the lease three times in its length, until cancelled; goes on while the server is away.

        While there is none, this does not wake up.
        """
        pause = self.seconds / 3
        while True:
            if self._until is None:
                await self._registered.park()
                pause = self.seconds / 3
            await trio.sleep(pause * random.uniform(0.8, 1))
            try:
                async with self._lock:
                    self.check()
                    if self._until is not None:
                        await self._ask(may_rest=self._is_idle())
            except TaskStoreError:
                # Soon again: a third of the lease is left for this, and then it is lost.
                pause = self.seconds / 15
            else:
                pause = self.seconds / 3

    async def watch(self) -> None:
        """Notice when the lease is over, until cancelled, also while a renewal waits for its answer."""
        while True:
            self._over = trio.CancelScope()
            self._count_until(self._until)
            with self._over:
                await trio.sleep_forever()
            self.check()

    async def _ask(self, *, may_rest: bool) -> None:
        """Have the lease renewed, or a new one given."""
        holder, is_new, sent = self.holder, self._until is None, self._clock()
        self._may_rest = may_rest
        try:
            standing = await self._renew(holder, is_new, may_rest)
        finally:
            self._may_rest = False
        if holder != self.holder:
            return  # lost meanwhile
        match standing:
            case Standing.ALIVE:
                self._count_until(sent + self.seconds * 2 / 3)
            case Standing.RESTS:
                self._count_until(None)
            case Standing.DEAD:
                self.lose()

    def _count_until(self, until: float | None) -> None:
        """Count as alive until a time by the clock of the lease; None for no lease."""
        self._until = until
        if until is None:
            self._over.deadline = math.inf
        else:
            left = max(until - self._clock(), self.seconds / 100)
            self._over.deadline = trio.current_time() + left
            self._registered.unpark_all()


def _new_holder() -> str:
    return secrets.token_hex(8)
