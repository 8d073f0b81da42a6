"""Which states of unfinished calls were used up, so that none is used twice.

Owns the protocol by which replicas of a server may share that, and the memory of one process. A state is
the `requestState` of MCP multi round-trip requests, which a client sends back with its answers.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Final, Protocol

import trio

MAX_USED_STATES: Final = 65_536
"""States that one process remembers: some 10 MB."""


class UsedStates(Protocol):
    """Remembers which states were used up; replicas that share one use each state once among them.

    With Redis, `use` is `bool(await redis.set(state_id, 1, nx=True, exat=ceil(expires)))`.
    """

    async def use(self, state_id: str, expires: float) -> bool:
        """Note that a state is used now; False if it was used before. Checkpoints.

        `state_id` is ASCII without spaces. The note may be forgotten after `expires`, in seconds since 1970.
        """


class MemoryUsedStates:
    """The states that were used in this process, at most `limit` of them; `clock` tells seconds since 1970.

    If there would be more, the one that expires first is forgotten. From then on every state that expires
    no later is refused, so that none can be used twice: under such a load, clients have less time to answer.
    """

    def __init__(self, limit: int = MAX_USED_STATES, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._clock = clock
        self._expiries: list[tuple[float, str]] = []  # a heap
        self._ids: set[str] = set()
        self._refused_until = 0.0

    def __len__(self) -> int:
        return len(self._ids)

    async def use(self, state_id: str, expires: float) -> bool:
        """See `UsedStates.use`; checkpoints."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        while self._expiries and self._expiries[0][0] < now:
            self._forget_first()
        if state_id in self._ids or expires <= self._refused_until:
            return False
        self._ids.add(state_id)
        heapq.heappush(self._expiries, (expires, state_id))
        if len(self._ids) > self._limit:
            self._refused_until = self._forget_first()
        return True

    def _forget_first(self) -> float:
        expires, state_id = heapq.heappop(self._expiries)
        self._ids.discard(state_id)
        return expires
