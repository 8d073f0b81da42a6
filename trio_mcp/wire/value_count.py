"""How many values a message holds, told before it is decoded.

Owns the caps and the count: a value of two bytes takes a hundred bytes of memory once it is decoded.
Refuses to know what the values are.
"""

from __future__ import annotations

from typing import Final

MAX_VALUES: Final = 100_000
"""The most values of a message that a server reads, if its settings say nothing else."""

MAX_ANSWER_VALUES: Final = 1_000_000
"""The most values of a message that a client reads: it has chosen its server, and results hold tables."""

PORTION: Final = 65_536
"""How many bytes are counted at a time: a few milliseconds, whatever they are."""


class ValueCounter:
    """Counts the values of one message while it arrives, in portions of any length.

    What is counted are the commas and the opening brackets that are not inside of texts.
    """

    __slots__ = ("_count", "_in_text", "_is_escaped", "_max_values")

    def __init__(self, max_values: int) -> None:
        self._max_values = max_values
        self._count = 0
        self._in_text = False
        self._is_escaped = False  # a backslash was the last byte

    @property
    def is_beyond(self) -> bool:
        """Whether there are more values than the cap, however the message goes on."""
        return self._count > self._max_values

    def feed(self, data: bytes) -> None:
        """Count what comes next; beyond the cap it costs nothing."""
        for start in range(0, len(data), PORTION):
            if self.is_beyond:
                return
            self._count_portion(data[start : start + PORTION])

    def _count_portion(self, data: bytes) -> None:
        # Backslashes are valid in texts only: the decoder stops at any other, before what it could hide.
        if self._is_escaped:
            data = data[1:]
            self._is_escaped = False
        if b"\\" in data:
            data = data.replace(b"\\\\", b"")
            self._is_escaped = data.endswith(b"\\")
            data = data.replace(b'\\"', b"")
        if b'"' in data:
            parts = data.split(b'"')
            outside = b"".join(parts[self._in_text :: 2])
            self._in_text ^= len(parts) % 2 == 0
        else:
            outside = b"" if self._in_text else data
        if outside:
            self._count += outside.count(b",") + outside.count(b"[") + outside.count(b"{")


def has_too_many_values(data: bytes, max_values: int) -> bool:
    """Whether a whole message, or several, is beyond the cap; a shorter one than that cannot be."""
    counter = ValueCounter(max_values)
    counter.feed(data)
    return counter.is_beyond
