"""A sum of floats that forgets nothing.

Owns the arithmetic by which stages add up: however often a number is put in the
place of another, the sum is that of the numbers that are in it now, rounded once.
"""

from __future__ import annotations

import math
from typing import Final

_EXACT_INT: Final = 2**53
"""Floats below this hold every integer."""


class ExactSum:
    """A running sum without rounding errors; `value` rounds it once.

    The floats in it are kept as parts that do not overlap, largest last, of which there
    are a few however many were added (Shewchuk's expansions). As the rounding never
    falls when the sum rises, neither does `value`.
    """

    __slots__ = ("_parts", "_whole")

    def __init__(self, number: float = 0) -> None:
        self._whole = 0
        self._parts: list[float] = []
        self.add(number)

    @property
    def value(self) -> float:
        """The sum; an int where it is whole and an int can be trusted."""
        if not self._parts:
            return self._whole
        head = float(self._whole)
        rounded = math.fsum((head, self._whole - int(head), *self._parts))
        return int(rounded) if rounded.is_integer() and abs(rounded) < _EXACT_INT else rounded

    def add(self, number: float) -> None:
        """Add `number`; what would pass the largest float is left out."""
        if isinstance(number, int):
            self._whole += number
            return
        parts: list[float] = []
        for part in self._parts:
            larger, smaller = (part, number) if abs(part) > abs(number) else (number, part)
            number = larger + smaller
            lost = smaller - (number - larger)
            if lost:
                parts.append(lost)
        if not math.isfinite(number):
            return
        if number:
            parts.append(number)
        self._parts = parts

    def replace(self, old: float, new: float) -> None:
        """Put `new` in the place of `old`, which was added before."""
        if old:
            self.add(-old)
        self.add(new)
