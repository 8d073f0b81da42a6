"""What other processes do to the tasks of a store, and what a store must be asked to do from time to time.

Owns the loops that hear of changes and of lost tasks, and the one that recovers and forgets tasks. What is
done about a change, `held_tasks.py` knows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar, TypeVarTuple

import trio

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.held_tasks import HeldTasks
from trio_mcp.tasks.store import EXPIRY_SECONDS, TaskStore
from trio_mcp.tasks.store_calls import FIRST_PAUSE, StoreCalls, longer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

JITTER: Final = 0.2
"""By which part of its interval a sweep may come sooner, so that processes do not sweep all at once."""


class OutsideChanges:
    """Hears of changes for the tasks that one process holds."""

    def __init__(self, store: TaskStore, calls: StoreCalls, held: HeldTasks, clock: TaskClock) -> None:
        self._store = store
        self._calls = calls
        self._held = held
        self._clock = clock
        self._next_expiry = -math.inf

    async def serve(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_changes)
            nursery.start_soon(self._hear_losses)
            if self._store.sweep_interval is not None:
                nursery.start_soon(self._sweep, self._store.sweep_interval)
                nursery.start_soon(self._delete_doubtful, self._store.sweep_interval)

    async def _hear_changes(self) -> None:
        while True:
            await self._insist(self._held.look, await self._insist(self._store.wait_changed))

    async def _hear_losses(self) -> None:
        while True:
            await self._insist(self._store.wait_lost)
            self._held.lose_all()

    async def _insist(self, call: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Return what `call(*args)` returns, once the store can do it; checkpoints."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._calls.run(call, *args)
            except TaskStoreError:  # which was logged
                await trio.sleep(pause)
                pause = longer(pause)

    async def _sweep(self, interval: float) -> None:
        """Recover the tasks of dead processes and forget what has expired: at once, and when it is time.

        Two sweeps lie an interval apart, but for a part of it that chance takes away.
        """
        while True:
            earliest = trio.current_time() + interval * random.uniform(1 - JITTER, 1)
            now = await self._insist(self._recover)
            await self._insist(self._store.wait_sweep, now)
            await trio.sleep_until(earliest)

    async def _recover(self) -> datetime:
        now = self._clock.now()
        await self._store.recover(now)
        # Each process of several forgets what it ran itself, on time, so this looks for the rest seldom.
        if self._store.is_shared and trio.current_time() < self._next_expiry:
            return now
        for task_id in await self._store.delete_expired(now):
            self._held.expire(task_id)
        self._next_expiry = trio.current_time() + EXPIRY_SECONDS
        return now

    async def _delete_doubtful(self, interval: float) -> None:
        """Delete the tasks whose creation has failed, some time later, for the store may still be at it."""
        while True:
            await self._held.wait_doubtful()
            await trio.sleep(interval * random.uniform(1 - JITTER, 1))
            await self._insist(self._held.delete_doubtful)
