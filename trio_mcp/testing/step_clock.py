"""A clock that counts how often it is read, so that the speed of the machine decides nothing.

Owns the count. Is no clock of Trio: deadlines and sleeps follow that one.
"""

from __future__ import annotations

from typing import Final

STEP_SECONDS: Final = 0.000_001
"""A reporter that yields after 100 microseconds then does so after 100 reports."""


class StepClock:
    """A `turn_clock` of `ServerSettings` for tests: each reading is `step` seconds later than the last.

    What a server merges then depends on its reports and on Trio's schedule alone, and is the same on
    every machine. Raises ValueError for a step that is not larger than 0: a handler that reports in a
    loop would never yield.
    """

    __slots__ = ("_now", "_step")

    def __init__(self, step: float = STEP_SECONDS) -> None:
        if not step > 0:
            raise ValueError(f"step must be larger than 0 seconds, not {step!r}")
        self._step = step
        self._now = 0.0

    def __call__(self) -> float:
        """The time in seconds, one step later than at the last call; does not checkpoint."""
        self._now += self._step
        return self._now
