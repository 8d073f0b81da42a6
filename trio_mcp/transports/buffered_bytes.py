"""How many bytes of unfinished messages a server holds, in all and for each peer.

Owns the two caps and the count. Refuses to know what the bytes are part of, and how a refusal looks.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Final

import attrs

UNCOUNTED_BYTES: Final = 65_536
"""What a message has free: the number of connections bounds that, and most messages are shorter."""


class TooMuchBufferedError(Exception):
    """A peer has sent more than may be held; the message names the cap."""


@attrs.define(eq=False)
class BufferedBytes:
    """The bytes that are held now."""

    max_bytes: int
    max_bytes_per_peer: int
    _held: int = attrs.field(default=0, init=False)
    _peers: Counter[str] = attrs.field(factory=Counter, init=False)

    def __len__(self) -> int:
        return self._held

    def claim(self, peer: str) -> BufferClaim:
        """What one message of `peer` holds, until the block that it opens ends."""
        return BufferClaim(self, peer)

    def change(self, peer: str, count: int) -> None:
        """Hold `count` bytes more of `peer`, or less; raises TooMuchBufferedError beyond a cap."""
        if count > 0:
            if self._held + count > self.max_bytes:
                raise TooMuchBufferedError(f"max_buffered_bytes is {self.max_bytes}")
            if self._peers[peer] + count > self.max_bytes_per_peer:
                raise TooMuchBufferedError(f"max_buffered_bytes_per_peer is {self.max_bytes_per_peer}")
        self._held += count
        self._peers[peer] += count
        if not self._peers[peer]:
            del self._peers[peer]


class BufferClaim:
    """What one message holds; the end of the block gives all of it back."""

    __slots__ = ("_buffered", "_length", "_peer")

    def __init__(self, buffered: BufferedBytes, peer: str) -> None:
        self._buffered = buffered
        self._peer = peer
        self._length = 0

    def hold(self, length: int) -> None:
        """Hold `length` bytes from now on; raises TooMuchBufferedError if the caps do not allow it."""
        if length > UNCOUNTED_BYTES or self._length > UNCOUNTED_BYTES:
            counted = max(self._length, UNCOUNTED_BYTES)
            self._buffered.change(self._peer, max(length, UNCOUNTED_BYTES) - counted)
        self._length = length

    def __enter__(self) -> BufferClaim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hold(0)
