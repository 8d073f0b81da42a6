"""A limit on how much runs at once, with a queue that is bounded as well.

Owns who runs and who waits in the present Trio run, and what a client is told if there is no room.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import Final, TypeVar

import trio

from trio_mcp.middleware.methods import WORKING, FindKey, find_method, read_methods, refuse
from trio_mcp.middleware.run_state import RunState
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.validators import require_count, require_interval, require_positive

C = TypeVar("C", bound=RequestFacts)
R = TypeVar("R")

UNAVAILABLE: Final = 503


class ConcurrencyLimit:
    """Lets `limit` requests run at once; `queue` more wait for their turn, and all others are refused.

    They are let in in the order in which they came, and are refused after `max_wait` seconds. The refusal is
    the error -32000 with `{"status": 503, "retryAfter": retry_after}`, which over modern HTTP is the status
    503 with Retry-After.

    `key(ctx)` makes it a limit for each of its values, for example `lambda ctx: ctx.caller` for each client;
    what it returns None for is not limited. `methods` are those that count, by default those that run a
    handler: tools/call, prompts/get, resources/read and completion/complete. As middleware of tools it counts
    runs, those in background tasks too; a tool that another one calls is a part of its run.
    """

    def __init__(
        self,
        limit: int,
        *,
        queue: int = 0,
        max_wait: float = math.inf,
        retry_after: float = 1.0,
        key: FindKey | None = None,
        methods: Collection[str] | None = WORKING,
    ) -> None:
        require_count("limit", limit)
        if queue:
            require_count("queue", queue)
        if max_wait != math.inf:
            require_positive("max_wait", max_wait)
        require_interval("retry_after", retry_after)
        self._limit = limit
        self._queue = queue
        self._max_wait = max_wait
        self._retry_after = retry_after
        self._key = key
        self._methods = WORKING if methods is None else read_methods(methods)
        # A limiter is there as long as somebody runs or waits.
        self._limiters: RunState[dict[Hashable, trio.CapacityLimiter]] = RunState(dict)

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit: {self._limit} at once, {self._queue} may wait>"

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Go on when there is room; raises ProtocolError if there is none. Checkpoints if it waits."""
        key: Hashable = True if self._key is None else self._key(ctx)
        if key is None or ctx.called_by or not self._counts(ctx):
            return await call_next(ctx)
        limiters = self._limiters.find()
        limiter = limiters.get(key)
        if limiter is None:
            limiter = limiters[key] = trio.CapacityLimiter(self._limit)
        place = object()
        try:
            await self._enter(limiter, place)
            try:
                return await call_next(ctx)
            finally:
                limiter.release_on_behalf_of(place)
        finally:
            if not limiter.borrowed_tokens and limiters.get(key) is limiter:
                del limiters[key]

    def _counts(self, ctx: RequestFacts) -> bool:
        method = find_method(ctx)
        return method is None or self._methods is None or method in self._methods

    async def _enter(self, limiter: trio.CapacityLimiter, place: object) -> None:
        """Take a place; raises ProtocolError if there is none in time. Checkpoints if it waits."""
        try:
            limiter.acquire_on_behalf_of_nowait(place)
            return
        except trio.WouldBlock:
            pass
        if limiter.statistics().tasks_waiting < self._queue:
            with trio.move_on_after(self._max_wait):
                await limiter.acquire_on_behalf_of(place)
                return
        raise refuse(f"overloaded: {self._limit} requests run already", UNAVAILABLE, self._retry_after)
