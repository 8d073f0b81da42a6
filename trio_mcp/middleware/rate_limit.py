"""A limit on how often a client may ask: a bucket of tokens for each.

Owns the buckets of the present Trio run, and what a client is told that has none left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import Final, TypeVar

import attrs
import trio

from trio_mcp.middleware.methods import (
    HANDSHAKES,
    FindKey,
    find_caller,
    find_method,
    read_methods,
    refuse,
)
from trio_mcp.middleware.run_state import RunState
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.validators import require_count, require_interval, require_positive

C = TypeVar("C", bound=RequestFacts)
R = TypeVar("R")

MAX_CLIENTS: Final = 10_000
"""Buckets that are kept, about 2 MB; of more clients, the one that asked longest ago is forgotten."""

TOO_MANY_REQUESTS: Final = 429


@attrs.define
class _Bucket:
    tokens: float
    filled_at: float


class RateLimit:
    """Lets each client make `rate` requests per second on average, and `burst` of them at once.

    `burst` is 1 or `rate`, whichever is more, unless it is given. A request that finds no token waits up to
    `max_wait` seconds for one, and is refused if it would have to wait longer: by the error -32000 with
    `{"status": 429, "retryAfter": seconds}`, which over modern HTTP is the status 429 with Retry-After.

    `key(ctx)` names who is limited, by default `ctx.caller`: the principal, or the address of an anonymous
    client over HTTP and WebSocket, or its connection. Requests for which it returns None are not limited.
    `methods` are those that count, by default all but the handshake and ping; as middleware of tools,
    resources and prompts it counts each run. At most `max_clients` are remembered.
    """

    def __init__(
        self,
        rate: float,
        burst: float | None = None,
        *,
        max_wait: float = 0.0,
        key: FindKey = find_caller,
        methods: Collection[str] | None = None,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        require_positive("rate", rate)
        require_interval("max_wait", max_wait)
        require_count("max_clients", max_clients)
        self._rate = rate
        self._burst = max(1.0, rate) if burst is None else burst
        if self._burst < 1:
            raise ValueError(f"burst must be at least 1, or no request is ever let in; it is {burst!r}")
        require_positive("burst", self._burst)
        self._max_wait = max_wait
        self._key = key
        self._methods = read_methods(methods)
        self._max_clients = max_clients
        self._buckets: RunState[OrderedDict[Hashable, _Bucket]] = RunState(OrderedDict)

    def __repr__(self) -> str:
        return f"<RateLimit: {self._rate:g} per second, {self._burst:g} at once>"

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Go on if there is a token; raises ProtocolError if there is none. Checkpoints if it waits."""
        if self._counts(ctx):
            key = self._key(ctx)
            if key is not None:
                seconds = self._take(key)
                if seconds > 0:
                    await trio.sleep(seconds)
        return await call_next(ctx)

    def _counts(self, ctx: RequestFacts) -> bool:
        method = find_method(ctx)
        if method is None:
            return True
        return method not in HANDSHAKES if self._methods is None else method in self._methods

    def _take(self, key: Hashable) -> float:
        """Take a token, and return after how many seconds it is there; raises ProtocolError if too many."""
        buckets, now = self._buckets.find(), trio.current_time()
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = _Bucket(self._burst, now)
            if len(buckets) > self._max_clients:
                buckets.popitem(last=False)
        buckets.move_to_end(key)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        seconds = max(0.0, (1 - bucket.tokens) / self._rate)
        if seconds > self._max_wait:
            raise refuse(
                f"too many requests: {self._rate:g} per second are allowed, and {self._burst:g} at once",
                TOO_MANY_REQUESTS,
                seconds,
            )
        bucket.tokens -= 1  # below 0 if it is waited for
        return seconds
