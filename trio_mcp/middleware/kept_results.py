"""Encoded results by what they depend on, for a while, and the requests that wait for one.

Owns their number, their bytes and their age. Knows neither methods nor who asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from threading import Lock
from typing import Final, TypeVar

import attrs
import msgspec
import trio

from trio_mcp.wire.codec import UNENCODABLE, encode_value
from trio_mcp.wire.messages import CallToolResult, Result

C = TypeVar("C")

MAX_ENTRIES: Final = 4096
"""How many results are kept at most: each change looks at all of them."""


class Key(msgspec.Struct, frozen=True, cache_hash=True):
    """What a result depends on: the request, and whom it is for.

    `name` is the tool, the URI or the cursor, and `own` what the program has added. `place` is the server and
    the Trio run, whose clock ages the result.
    """

    method: str
    name: str
    arguments: bytes
    protocol: str
    whom: Hashable
    own: Hashable
    place: Hashable

    @property
    def size(self) -> int:
        """About how many bytes its texts take."""
        return len(self.name) + len(self.arguments)


@attrs.frozen
class _Entry:
    raw: msgspec.Raw
    fresh_until: float  # by Trio's clock
    size: int


@attrs.define(eq=False)
class _Flight:
    """A request that runs, for whose result others wait; `raw` is None if it cannot be shared."""

    ended: trio.Event = attrs.field(factory=trio.Event)
    raw: msgspec.Raw | None = None
    was_cancelled: bool = False
    is_stale: bool = False


class KeptResults:
    """At most `max_bytes` bytes of results; those of several Trio runs never meet."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # the least used first
        self._flights: dict[Key, _Flight] = {}
        self._bytes = 0
        self._lock = Lock()  # changes are told from any thread
        self.hits = 0

    def __repr__(self) -> str:
        return f"{len(self._entries)} results, {self._bytes} bytes"

    async def find(
        self,
        key: Key,
        ttl: float,
        ctx: C,
        call_next: Callable[[C], Awaitable[Result]],
        kind: type[Result],
    ) -> Result:
        """The kept result, that of a request which runs already, or that of `call_next`.

        Only a result of `kind` that is no error is kept. Each caller gets a result of its own, which it may
        change. Raises what `call_next` raises.
        """
        while True:
            raw = self._take(key)
            if raw is not None:
                await trio.lowlevel.checkpoint_if_cancelled()
                return self._hit(raw, kind)
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key, ttl, ctx, call_next, kind)
            await flight.ended.wait()
            if flight.is_stale or flight.was_cancelled:
                continue  # the first of those that waited runs it now
            if flight.raw is None:
                return await call_next(ctx)
            return self._hit(flight.raw, kind)

    def forget(self, is_stale: Callable[[Key], bool]) -> None:
        """Drop what is stale, also what is on its way; from any thread."""
        with self._lock:
            for key in [key for key in self._entries if is_stale(key)]:
                self._drop(key)
            for key, flight in self._flights.items():
                if is_stale(key):
                    flight.is_stale = True

    def _hit(self, raw: msgspec.Raw, kind: type[Result]) -> Result:
        self.hits += 1
        return msgspec.json.decode(raw, type=kind)

    def _take(self, key: Key) -> msgspec.Raw | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if trio.current_time() >= entry.fresh_until:
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return entry.raw

    async def _lead(
        self,
        key: Key,
        ttl: float,
        ctx: C,
        call_next: Callable[[C], Awaitable[Result]],
        kind: type[Result],
    ) -> Result:
        flight = _Flight()
        with self._lock:
            self._flights[key] = flight
        try:
            result = await call_next(ctx)
            flight.raw = _encode(result, kind)
        except trio.Cancelled:
            flight.was_cancelled = True
            raise
        finally:
            with self._lock:
                del self._flights[key]
                if flight.raw is not None and not flight.is_stale:
                    self._keep(key, flight.raw, trio.current_time() + ttl)
            flight.ended.set()
        return result

    def _keep(self, key: Key, raw: msgspec.Raw, fresh_until: float) -> None:
        size = len(bytes(raw)) + key.size
        if size > self._max_bytes:
            return
        self._entries[key] = _Entry(raw, fresh_until, size)
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._entries) > MAX_ENTRIES:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        self._bytes -= self._entries.pop(key).size


def _encode(result: Result, kind: type[Result]) -> msgspec.Raw | None:
    """The result as it is kept; None if it is not to be shared."""
    if not isinstance(result, kind) or (isinstance(result, CallToolResult) and result.is_error):
        return None
    try:
        raw = encode_value(result)
        msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, *UNENCODABLE):
        return None  # it fails where it is sent
    return raw
