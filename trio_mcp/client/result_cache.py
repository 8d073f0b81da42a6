"""The results of a server that a client may use again for a while (MCP caching, "Time-to-live").

Owns how long and how many of them are kept, and which changes make them stale. Each client has its own, so
that the scope of a result, public or private, makes no difference. Refuses to know what a result means.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

import attrs
import msgspec
import trio

from trio_mcp.client.changes import (
    Change,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
    is_at_or_below,
)

CACHEABLE: Final = frozenset(
    {"tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)
"""The methods whose results are kept. That of server/discover lasts as long as the connection anyway."""

MAX_ENTRIES: Final = 1024
"""How many results are kept at most: each change of a resource looks at all of them."""

_STALE_LISTS: Final = {
    ToolsListChanged: ("tools/list",),
    PromptsListChanged: ("prompts/list",),
    ResourcesListChanged: ("resources/list", "resources/templates/list"),
}


class _Hints(msgspec.Struct, rename="camel"):
    ttl_ms: int | float | None = None
    result_type: str | None = None


@attrs.frozen
class _Entry:
    raw: msgspec.Raw
    fresh_until: float  # by Trio's clock


class ResultCache:
    """Results by method and key, at most `max_bytes` of them; with 0 nothing is kept.

    A key is what of the parameters decides the result: the cursor of a page, the URI of a resource.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, str | None], _Entry] = OrderedDict()  # the least used first
        self._bytes = 0
        self._changes = Counter[str]()

    def __repr__(self) -> str:
        return f"<ResultCache: {len(self._entries)} results, {self._bytes} bytes>"

    def find(self, method: str, key: str | None) -> msgspec.Raw | None:
        """Return a result that is still fresh, or None."""
        entry = self._entries.get((method, key))
        if entry is None:
            return None
        if trio.current_time() >= entry.fresh_until:
            self._drop((method, key))
            return None
        self._entries.move_to_end((method, key))
        return entry.raw

    def count_changes(self, method: str) -> int:
        """Count the changes that have made results of `method` stale; for `keep`."""
        return self._changes[method]

    def keep(self, method: str, key: str | None, raw: msgspec.Raw, changes: int) -> None:
        """Keep a result for as long as its server says.

        `changes` is what `count_changes` returned when the result was asked for: one that a change has
        overtaken on its way is not kept.
        """
        self._drop((method, key))
        if method not in CACHEABLE or not self._max_bytes or changes != self._changes[method]:
            return
        seconds = _read_ttl(raw)
        size = len(bytes(raw))
        if seconds <= 0 or size > self._max_bytes:
            return
        # A copy: what was decoded from a larger message would keep all of it.
        self._entries[method, key] = _Entry(raw.copy(), trio.current_time() + seconds)
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._entries) > MAX_ENTRIES:
            self._drop(next(iter(self._entries)))

    def note_change(self, change: Change) -> None:
        """Drop what a change at the server makes stale."""
        if isinstance(change, ResourceUpdated):
            self._changes["resources/read"] += 1
            for method, key in list(self._entries):
                if method == "resources/read" and is_at_or_below(change.uri, key or ""):
                    self._drop((method, key))
        else:
            for method in _STALE_LISTS[type(change)]:
                self.forget(method)

    def forget(self, method: str) -> None:
        """Drop all results of a method, also those that are on their way."""
        self._changes[method] += 1
        for entry in [one for one in self._entries if one[0] == method]:
            self._drop(entry)

    def clear(self) -> None:
        """Drop everything, because changes may have been missed."""
        for method in CACHEABLE:
            self.forget(method)

    def _drop(self, entry: tuple[str, str | None]) -> None:
        dropped = self._entries.pop(entry, None)
        if dropped is not None:
            self._bytes -= len(bytes(dropped.raw))


def _read_ttl(raw: msgspec.Raw) -> float:
    """How many seconds a result is fresh; 0 if its server does not say, or if it is not complete."""
    if b'"ttlMs"' not in bytes(raw):
        return 0.0
    try:
        hints = msgspec.json.decode(raw, type=_Hints)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0.0
    if hints.ttl_ms is None or hints.result_type not in (None, "complete"):
        return 0.0
    return hints.ttl_ms / 1000
