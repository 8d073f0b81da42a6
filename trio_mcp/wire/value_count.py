"""How many values a message holds, told before it is decoded.

Owns the cap: a value of two bytes takes a hundred bytes of memory once it is decoded. Refuses to
know what the values are.
"""

from __future__ import annotations

from typing import Final

MAX_VALUES: Final = 100_000
"""The most commas and opening brackets of one message, not counting those inside of texts."""

SMALL_BYTES: Final = 65_536
"""A message up to this length cannot be beyond the cap, and is not looked at."""


def has_too_many_values(data: bytes) -> bool:
    """Whether `data` is beyond `MAX_VALUES`; every step is one pass of a builtin over the bytes."""
    if len(data) <= SMALL_BYTES or _count_marks(data) <= MAX_VALUES:
        return False
    # Backslashes are valid in texts only, so whatever is not valid JSON fails before it could hide values.
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * (MAX_VALUES + 1):  # a value has at most a name and a text: four quotes
        return True
    return _count_marks(b"".join(bare.split(b'"')[::2])) > MAX_VALUES


def _count_marks(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")
