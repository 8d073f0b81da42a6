"""Which servers behind a URL answered that they are legacy, for the clients that share this knowledge.

Owns the cache that a caller may make and hand to several clients (MCP versioning, "Backward
Compatibility": the era of an origin may be cached). Knows no connection.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final

from trio_mcp.validators import require_count

MAX_ORIGINS: Final = 256
"""How many origins are remembered; the one that was added longest ago is forgotten first."""


class EraCache:
    """Remembers which origins ("https://host:port") speak a legacy era; pass it to `open_client`.

    A client of such an origin omits the probe for the modern era. An entry is only a hint: if it turns
    out wrong, the client probes after all. Only what a server has answered is remembered, never that it
    was silent. At most `limit` origins are kept. Threads may share a cache. Nothing here checkpoints.
    (MCP versioning, "Backward Compatibility".)
    """

    def __init__(self, limit: int = MAX_ORIGINS) -> None:
        require_count("limit", limit)
        self._limit = limit
        self._lock = Lock()  # each thread may have its own Trio
        self._origins: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, origin: object) -> bool:
        return origin in self._origins

    def __len__(self) -> int:
        return len(self._origins)

    def __repr__(self) -> str:
        return f"<EraCache of {len(self._origins)} legacy origins>"

    def add(self, origin: str) -> None:
        """Remember `origin` as legacy, and as the newest."""
        with self._lock:
            self._origins[origin] = None
            self._origins.move_to_end(origin)
            if len(self._origins) > self._limit:
                self._origins.popitem(last=False)

    def discard(self, origin: str) -> None:
        """Forget `origin`."""
        with self._lock:
            self._origins.pop(origin, None)
