"""Checks of what a handler, a stage or another process reports.

Owns the words of their errors. Knows nothing of who reports, nor of settings, which `validators.py` checks.
Each check returns a plain int or float, so that a subclass of either never travels.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Final

MAX_MESSAGE_LENGTH: Final = 16_384
"""Characters in a progress message; what is longer is output, not progress."""

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
"""Larger integers travel as floats, because most JSON peers cannot hold them as integers."""


def check_number(value: Any, name: str) -> float:
    """Return `value` as a plain int or float; raises ValueError unless it is a finite number."""
    if type(value) is int and INT_MIN <= value <= INT_MAX:  # the usual case
        return value
    if not isinstance(value, bool):
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if not isinstance(value, (float, str, bytes)) and hasattr(type(value), "__index__"):
            number = operator.index(value)
            if INT_MIN <= number <= INT_MAX:
                return number
            try:
                return float(number)
            except OverflowError:
                pass
    raise ValueError(f"{name} must be a finite int or float, not {value!r}")


def check_positive(value: Any, name: str) -> float:
    """Return `value` as `check_number` does; raises ValueError unless it is larger than 0."""
    if type(value) is int and 0 < value <= INT_MAX:  # the usual case, without a second call
        return value
    number = check_number(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be larger than 0, not {value!r}")
    return number


def check_not_negative(value: Any, name: str) -> float:
    """Return `value` as `check_number` does; raises ValueError unless it is at least 0."""
    number = check_number(value, name)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, not {value!r}")
    return number


def check_message(message: Any) -> None:
    """Raise TypeError or ValueError unless `message` is None or a text that can be sent."""
    if message is None:
        return
    if not isinstance(message, str):
        raise TypeError(f"message must be a str or None, not {message!r}")
    if len(message) > MAX_MESSAGE_LENGTH:
        raise ValueError(f"message must have at most {MAX_MESSAGE_LENGTH} characters, not {len(message)}")
    if not message.isascii():
        try:
            message.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"message must be encodable as UTF-8: {error}") from None


def check_stage_name(name: str) -> str:
    """Return `name`; raises TypeError or ValueError unless it can stand in a message."""
    if not name:
        raise ValueError(f"a stage needs a name, not {name!r}")
    check_message(name)
    return name
