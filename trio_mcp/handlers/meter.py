"""The newest progress of one call, how fast it moves, and the text for its numbers.

Owns the newest update and the format of numbers; `Estimator` does the arithmetic. Knows nothing of
terminals.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs

from trio_mcp.progress.estimator import Estimator


class Reading(NamedTuple):
    """One update of progress."""

    progress: float
    total: float | None = None
    message: str | None = None

    @property
    def share(self) -> float | None:
        """The part that is done, from 0 to 1; None without a total."""
        if self.total is None or self.total <= 0:
            return None
        return min(max(self.progress / self.total, 0.0), 1.0)


@attrs.define
class Meter:
    """Keeps the newest update; those who draw it ask a few times a second.

    Times are seconds; all must come from the same clock.
    """

    started: float
    updates: int = 0
    _newest: tuple[float, float | None, str | None] | None = None
    _base: float = 0.0
    _estimator: Estimator = attrs.field(factory=Estimator)
    _sampled: int = 0

    def update(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Note an update, as a progress handler; there may be 100,000 a second, so this must be cheap."""
        if self._newest is None:
            self._base = progress
        self._newest = (progress, total, message)
        self.updates += 1

    @property
    def newest(self) -> Reading | None:
        """The newest update, or None before the first."""
        return None if self._newest is None else Reading(*self._newest)

    def sample(self, now: float) -> None:
        """Give the newest update to the estimator, for `rate` and `time_left`."""
        if self._newest is not None and self.updates > self._sampled:
            self._sampled = self.updates
            progress, total, _ = self._newest
            self._estimator.update(now, progress, total)

    def rate(self, now: float) -> float:
        """The recent progress per second; 0 if it is not known."""
        self.sample(now)
        return self._estimator.rate_at(now) or 0.0

    def average(self, now: float) -> float:
        """The progress per second since the start."""
        return 0.0 if self._newest is None else _divide(self._newest[0] - self._base, now - self.started)

    def time_left(self, now: float) -> float:
        """The seconds that are left at the present rate; infinity if they are not known."""
        self.sample(now)
        left = self._estimator.eta_at(now)
        return math.inf if left is None else left


def show_number(value: float) -> str:
    """Format a number: 12,345 or 0.25 or 1.2e+20."""
    if abs(value) >= 1e15:
        return f"{value:.2g}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def show_count(reading: Reading) -> str:
    """Format the progress: 12/345, or 12 without a total."""
    count = show_number(reading.progress)
    return count if reading.total is None else f"{count}/{show_number(reading.total)}"


def show_share(reading: Reading) -> str:
    """Format the share: 47%, or nothing without a total; rounded down, so 100% means done."""
    return "" if reading.share is None else f"{math.floor(reading.share * 100)}%"


def show_rate(rate: float) -> str:
    """Format a rate: 1,234/s, or nothing if it is not known."""
    if rate <= 0:
        return ""
    return f"{show_number(round(rate))}/s" if rate >= 10 else f"{rate:.2g}/s"


def show_time(seconds: float) -> str:
    """Format a time: 0:07, 12:34 or 1:02:03; -:-- if it is not known."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _divide(amount: float, seconds: float) -> float:
    return amount / seconds if seconds > 0 and amount > 0 else 0.0
