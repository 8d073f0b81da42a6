"""The timeouts of a call: what may be asked for, and what is meant.

Owns their validation and defaults.
"""

from __future__ import annotations

import math
from typing import Final

MAX_TIMEOUT_FACTOR: Final = 10
"""Without a `max_timeout`, a call may take this many times its `idle_timeout`."""


def read_timeouts(idle: float | None, longest: float | None) -> tuple[float, float]:
    """Both timeouts in seconds, infinite where there is none; raises ValueError for what is no time."""
    for name, value in (("idle_timeout", idle), ("max_timeout", longest)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{name} must be a number of seconds larger than 0, not {value!r}")
    if longest is None:
        longest = math.inf if idle is None else idle * MAX_TIMEOUT_FACTOR
    return math.inf if idle is None else idle, longest
