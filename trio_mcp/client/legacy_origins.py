"""Which servers behind a URL turned out to be legacy, for as long as the process runs.

Owns the one cache that connections share (MCP versioning, "Backward Compatibility":
the era of an origin may be cached). An entry is only a hint: if it turns out wrong, the
client probes the server again.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final

MAX_ORIGINS: Final = 256
"""How many origins are remembered; the one that was added longest ago is forgotten first."""


class LegacyOrigins:
    """A bounded set of origins that speak a legacy era; threads may share it."""

    def __init__(self, limit: int = MAX_ORIGINS) -> None:
        self._limit = limit
        self._lock = Lock()  # each thread may have its own Trio
        self._origins: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, origin: str) -> bool:
        return origin in self._origins

    def add(self, origin: str) -> None:
        """Remember `origin` as the newest."""
        with self._lock:
            self._origins[origin] = None
            self._origins.move_to_end(origin)
            if len(self._origins) > self._limit:
                self._origins.popitem(last=False)

    def discard(self, origin: str) -> None:
        """Forget `origin`."""
        with self._lock:
            self._origins.pop(origin, None)


LEGACY_ORIGINS: Final = LegacyOrigins()
"""The cache of this process: a second client of a legacy server need not probe again."""
