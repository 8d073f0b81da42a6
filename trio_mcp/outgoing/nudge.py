"""The number that is sent if the message or the total changes and the progress does not.

Owns how large the step is. Knows no report and no queue.
"""

from __future__ import annotations

import math
from typing import Final

LARGEST_EXPONENT: Final = -6
"""A step of at most 0.000001: a count of items stays below the next one, even after thousands of nudges."""

DIGITS: Final = 8
"""A step is so many decimal digits smaller than the value, or than the total while the value is 0."""


def nudge(last: float, total: float | None) -> float:
    """A number a little larger than `last`, with few digits; infinity if there is no larger float.

    0 of 100 becomes 0.000001, and 3 becomes 3.00000001. If floats near `last` are further apart than
    that, it is the next one.
    """
    scale = abs(last) or abs(total or 0) or 1
    exponent = min(math.floor(math.log10(scale)) - DIGITS, LARGEST_EXPONENT)
    larger = round(last + 10.0**exponent, -exponent)
    return larger if larger > last else math.nextafter(last, math.inf)
