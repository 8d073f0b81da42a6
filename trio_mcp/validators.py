"""Checks of the numbers that settings and arguments are made of.

Owns their wording. Knows neither what a number is for, nor the numbers of progress, which
`progress/checks.py` checks.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import attrs

MAX_INT: Final = int(sys.float_info.max)
"""The largest int that fits into a float: with larger ones nothing can be computed but other ints."""


def is_number(value: object) -> bool:
    """Whether `value` is a float, or an int that fits into one; a bool is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -MAX_INT <= value <= MAX_INT
    return isinstance(value, float)


def describe_seconds(seconds: float) -> str:
    """Return `seconds` as words, such as "1 second" or "0.3 seconds"."""
    return "1 second" if seconds == 1 else f"{seconds:g} seconds"


def require_positive(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a finite number larger than 0."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number larger than 0, not {_show(value)}")


def require_seconds(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a number of seconds larger than 0; infinity is one."""
    if not is_number(value) or not value > 0:
        raise ValueError(f"{name} must be a number of seconds larger than 0, not {_show(value)}")


def require_not_negative(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a number of at least 0; infinity is one."""
    if not is_number(value) or not value >= 0:
        raise ValueError(f"{name} must not be negative, not {_show(value)}")


def require_interval(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a finite number of at least 0."""
    if not is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, not {_show(value)}")


def require_count(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is an integer larger than 0."""
    if not isinstance(value, int) or not is_number(value) or value <= 0:
        raise ValueError(f"{name} must be an integer larger than 0, not {_show(value)}")


def check_positive(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """An attrs validator: `require_positive`."""
    require_positive(attribute.name, value)


def check_not_negative(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """An attrs validator: `require_not_negative`."""
    require_not_negative(attribute.name, value)


def check_interval(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """An attrs validator: `require_interval`."""
    require_interval(attribute.name, value)


def check_count(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """An attrs validator: `require_count`."""
    require_count(attribute.name, value)


def _show(value: object) -> str:
    """`value` as it stands in an error; Python writes no int of thousands of digits."""
    if isinstance(value, int) and abs(value) > MAX_INT:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)
