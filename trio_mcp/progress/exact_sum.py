"""A sum of floats without rounding errors.

Owns the arithmetic by which stages add up: however often one number replaces another, the sum is that
of the numbers that are in it now, rounded once. Refuses to know what is added up.
"""

from __future__ import annotations

import math
from typing import Final

_EXACT_INT: Final = 2**53
"""Below this, a float holds every integer exactly."""


class ExactSum:
    """A running sum without rounding errors; `value` rounds it once.

    The floats are kept as a few parts that do not overlap, the largest last, however many
    were added (Shewchuk's expansions). `value` never falls when the exact sum rises.
    """

    __slots__ = ("_parts", "_whole")

    def __init__(self, number: float = 0) -> None:
        self._whole = 0
        self._parts: list[float] = []
        self.add(number)

    @property
    def value(self) -> float:
        """The sum; an int if it is whole and small enough to be exact as a float."""
        if not self._parts:
            return self._whole
        head = float(self._whole)
        rounded = math.fsum((head, self._whole - int(head), *self._parts))
        return int(rounded) if rounded.is_integer() and abs(rounded) < _EXACT_INT else rounded

    def add(self, number: float) -> None:
        """Add `number`, unless the sum would pass the largest float."""
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
        """Replace `old`, which was added before, by `new`."""
        if old:
            self.add(-old)
        self.add(new)
