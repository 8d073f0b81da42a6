"""Counting the frames of WebSocket and HTTP/2 in a stream of bytes, before they are parsed.

Owns how much of a stream is parsed at a time, and how much work without use a peer may cause. Knows
the headers of frames and nothing else of them; it reads no clock, its caller says the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

FRAMES_AT_ONCE: Final = 64
"""How many frames are parsed before other tasks have a turn: a few milliseconds, if they are tiny."""

BYTES_FOR_A_FRAME: Final = 16
"""The bytes of a payload that pay for one frame; the shortest message of JSON-RPC has twice as many."""

SENT_FOR_A_FRAME: Final = 32
"""The bytes that we send for which a peer may send one frame: acknowledgements of a short message."""

PATIENCE_FRAMES: Final = 2000
"""How many frames may come that nothing pays for. A client may ask and cancel a thousand calls at once."""

CREDIT_FRAMES: Final = 20_000
"""How many frames may be paid for in advance: the acknowledgements of what a large window holds."""

FORGIVEN_PER_SECOND: Final = 50.0
"""How many such frames a second are no waste: pings and pongs, also of many calls at once."""

Header: TypeAlias = tuple[int, bool, bool]
"""The length of a frame with its header, whether its payload is data, and whether it is free."""

ReadHeader: TypeAlias = Callable[[bytes, int, int], Header | None]

Counts: TypeAlias = tuple[int, int]
"""How many frames came that have to be paid for, and how many bytes of data."""


def read_websocket_header(data: bytes, start: int, end: int) -> Header | None:
    """The header of a WebSocket frame at `start` (RFC 6455, section 5.2), or None if it is incomplete."""
    if end - start < 2:
        return None
    second = data[start + 1]
    length = second & 0x7F
    size = 6 if second & 0x80 else 2
    if length == 126:
        if end - start < 4:
            return None
        length = data[start + 2] << 8 | data[start + 3]
        size += 2
    elif length == 127:
        if end - start < 10:
            return None
        length = int.from_bytes(data[start + 2 : start + 10], "big")
        size += 8
    return size + length, not data[start] & 0x08, False


_HTTP2_DATA: Final = 0
_HTTP2_HEADERS: Final = 1


def read_http2_header(data: bytes, start: int, end: int) -> Header | None:
    """The header of an HTTP/2 frame at `start` (RFC 9113, section 4.1), or None if it is incomplete."""
    if end - start < 9:
        return None
    kind = data[start + 3]
    length = 9 + (data[start] << 16 | data[start + 1] << 8 | data[start + 2])
    return length, kind == _HTTP2_DATA, kind == _HTTP2_HEADERS


class FrameMeter:
    """Cuts a stream of bytes behind every few frames, and counts them; `skip` bytes come before the first."""

    def __init__(self, read_header: ReadHeader, skip: int = 0) -> None:
        self._read_header = read_header
        self._skip = skip
        self._head = b""  # of a frame, if not all of it has come
        self._frames = self._useful = 0

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The pieces of `data`, in order, each with the beginnings of `FRAMES_AT_ONCE` frames at most.

        The counts are those of the pieces that were taken.
        """
        read_header, known = self._read_header, len(self._head)
        joined = self._head + data if known else data
        end, start, position, frames = len(joined), known, self._skip, 0
        while position < end:
            header = read_header(joined, position, end)
            if header is None:
                break
            length, is_data, is_free = header
            position += length
            frames += 1
            if is_data:
                self._useful += length
            if not is_free:
                self._frames += 1
            if frames == FRAMES_AT_ONCE and start < position < end:
                yield joined[start:position]
                start, frames = position, 0
        self._head = joined[position:] if position < end else b""
        self._skip = max(0, position - end)
        if start < end:
            yield joined[start:] if start else joined

    def take_counts(self) -> Counts:
        """What was counted since this was called last."""
        counts = self._frames, self._useful
        self._frames = self._useful = 0
        return counts


class Patience:
    """How many frames a peer may still send that carry nothing; data, and what we send, pay for more."""

    def __init__(self) -> None:
        self._debt = 0.0
        self._updated = 0.0

    def is_exhausted_by(self, counts: Counts, now: float) -> bool:
        """Take account of what came; whether the peer has only wasted time. `now` is in seconds."""
        frames, useful = counts
        debt = self._debt + frames - useful / BYTES_FOR_A_FRAME
        if debt > 0:
            debt = max(0.0, debt - (now - self._updated) * FORGIVEN_PER_SECOND)
        self._updated = now
        self._debt = max(debt, -CREDIT_FRAMES)
        return self._debt > PATIENCE_FRAMES

    def note_sent(self, length: int) -> None:
        """Take account of `length` bytes that were sent to the peer."""
        self._debt = max(self._debt - length / SENT_FOR_A_FRAME, -CREDIT_FRAMES)
