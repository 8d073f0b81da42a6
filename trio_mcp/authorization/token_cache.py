"""What was found out about tokens, for as long as it may be believed.

Owns the bound of such a memory. It keeps no token: only the SHA-256 of each.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")


def digest_token(token: str) -> bytes:
    """What a token is kept as: nobody can make the token of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class TokenCache(Generic[Found]):
    """At most `limit` values by the digests of tokens; the one that was used longest ago makes room.

    `clock` tells the time, in seconds, in which `until` is meant. If it is set back, what was kept is
    forgotten: nobody knows how old it is.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, float, Found]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, digest: bytes) -> Found | None:
        """What is known of a token, or None if nothing is known any more."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        since, until, found = entry
        if not since <= self._clock() < until:
            del self._entries[digest]
            return None
        self._entries.move_to_end(digest)
        return found

    def keep(self, digest: bytes, found: Found, until: float) -> None:
        """Remember what was found, until a time."""
        now = self._clock()
        if until <= now:
            return
        self._entries[digest] = (now, until, found)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
