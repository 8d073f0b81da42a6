"""Newline framing: bytes in any portions to frames (MCP stdio transport).

Owns the line buffer and its cap. Knows nothing of where the bytes come from.
"""

from __future__ import annotations

from typing import Final

from trio_mcp.wire.codec import decode_lines, refuse_message
from trio_mcp.wire.frames import InFrame, Malformed

PORTION: Final = 512
"""How many bytes of tiny lines are decoded at a time: a few milliseconds, if each has to be refused."""

_SHORT_LINE: Final = 32
"""Lines that are shorter on the average are no messages of JSON-RPC."""


def has_tiny_lines(data: bytes | bytearray) -> bool:
    """Whether `data` holds so many lines that other tasks need a turn before all of them are decoded."""
    return len(data) > PORTION and (data.count(b"\n") + data.count(b"\r")) * _SHORT_LINE > len(data)


class LineDecoder:
    """Collects bytes and hands out the frames of every complete line.

    A line longer than `max_frame_bytes` is answered once, as `Malformed`, and
    skipped to its end without being stored.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes
        self._tail: list[bytes] = []  # the unfinished line, at most `max_frame_bytes` long
        self._length = 0
        self._skipping = False

    def feed(self, data: bytes) -> list[InFrame]:
        """Take the next bytes and return the frames that they complete."""
        end = data.rfind(b"\n")
        if end < 0:
            return self._keep(data)
        frames: list[InFrame] = []
        if self._tail or self._skipping:
            first = data.find(b"\n")
            if self._skipping:
                self._skipping = False
            elif self._length + first > self._limit:
                frames.append(self._refuse(data[:first]))
            else:
                frames.extend(decode_lines(b"".join((*self._tail, data[:first]))))
            self._tail, self._length = [], 0
            start = first + 1
        else:
            start = 0
        if start < end:
            frames.extend(self._decode(data[start:end]))
        frames.extend(self._keep(data[end + 1 :]))
        return frames

    def finish(self) -> list[InFrame]:
        """Return the frames of a last line without a newline, when the input has ended."""
        tail, self._tail, self._length = self._tail, [], 0
        return decode_lines(b"".join(tail)) if tail else []

    def _decode(self, block: bytes) -> list[InFrame]:
        if len(block) <= self._limit:
            return decode_lines(block)
        frames: list[InFrame] = []
        for line in block.split(b"\n"):
            frames.extend([self._refuse(line)] if len(line) > self._limit else decode_lines(line))
        return frames

    def _keep(self, data: bytes) -> list[InFrame]:
        if not data or self._skipping:
            return []
        if self._length + len(data) > self._limit:
            refused = self._refuse(data)
            self._tail, self._length, self._skipping = [], 0, True
            return [refused]
        self._tail.append(data)
        self._length += len(data)
        return []

    def _refuse(self, data: bytes) -> Malformed:
        """Refuse the line that consists of what is kept and `data`, which may not be all of it."""
        seen = b"".join((*self._tail, data))[: self._limit]  # the same in whatever portions it came
        return refuse_message(seen, f"message longer than {self._limit} bytes", lost=True)
