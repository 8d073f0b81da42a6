"""The rate of some progress, and the time that is left, from its reports.

Owns the arithmetic and a bounded sample of past reports. Reads no clock: its callers give the times,
in seconds on any one clock, so it works on Trio's, on a cheaper one and in tests.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

WINDOW_SECONDS: Final = 30.0
"""Older samples no longer count, as long as there are enough newer ones."""

FEWEST: Final = 8
"""How many samples are kept however old they are, for work that reports once in a minute or an hour."""

DENSITY: Final = 16
"""The samples span at least this many gaps, and at most about twice as many."""

LEAST_SECONDS: Final = 0.05
"""Reports within less than this say nothing about speed: they may have travelled together."""

LEAST_GAP: Final = LEAST_SECONDS / DENSITY
"""Samples are at least so many seconds apart: enough of them, even in the shortest time that counts."""


class Estimator:
    """The rate of some progress and the time that is left, estimated from its reports.

    Feed it with `update`, as often as you like: an update costs the same however many there were, and
    only about 40 samples are kept. The rate is a trimmed mean over about half a minute, so a
    burst, a pause and a first half that came from a cache do not decide it. A value that is not
    known is None; no value is ever infinite or not a number.
    """

    __slots__ = (
        "_gap",
        "_moved",
        "_pause",
        "_progress",
        "_rate",
        "_samples",
        "_stale",
        "_time",
        "_total",
        "due",
    )

    def __init__(self) -> None:
        self.due = -math.inf
        """An update before this time is not kept as a sample; it changes the progress and the total only."""
        self._samples: list[tuple[float, float]] = []  # time and progress; both increase
        self._gap = 0.0  # how far apart samples are kept, in seconds
        self._time = self._moved = self._progress = -math.inf
        self._total: float | None = None
        self._rate: float | None = None
        self._pause = 0.0  # the longest time between two samples
        self._stale = False  # whether samples were added since `_rate` was computed

    def update(self, time: float, progress: float, total: float | None = None) -> None:
        """Take in a report: `progress` of `total` at `time`, in seconds.

        Counting starts with the first report. A report that goes back, or is not finite,
        leaves the progress as it is; the last total counts.
        """
        try:
            time, progress = float(time), float(progress)
            self._total = None if total is None else float(total)
        except OverflowError:  # an integer that no float can hold
            return
        if not (math.isfinite(time) and math.isfinite(progress)):
            return
        self._time = time = max(time, self._time)
        if progress <= self._progress:
            return
        self._progress, self._moved = progress, time
        if time >= self.due:
            self._keep(time, progress)

    @property
    def progress(self) -> float | None:
        """The highest progress so far; None before the first report."""
        return self._progress if self._samples else None

    @property
    def rate(self) -> float | None:
        """The progress per second as of the last report, larger than 0; None if it is not known."""
        return self.rate_at(self._time)

    @property
    def eta(self) -> float | None:
        """The seconds that were left at the last report, 0 at the end; None if they are not known."""
        return self.eta_at(self._time)

    def rate_at(self, now: float) -> float | None:
        """The progress per second as of `now`; falls while a silence is longer than any pause before."""
        rate = self._measure()
        if rate is None:
            return None
        excess = now - self._moved - self._pause
        if excess <= 0:
            return rate
        span = self._samples[-1][0] - self._samples[0][0]
        slowed = rate * (span / (span + excess))
        return slowed if slowed > 0 else None

    def eta_at(self, now: float) -> float | None:
        """The seconds left as of `now`; falls between two reports, and grows in a long silence."""
        total = self._total
        if total is None or not self._samples or not math.isfinite(total):
            return None
        if self._progress >= total:
            return 0.0
        rate = self.rate_at(now)
        if rate is None:
            return None
        left = (total - self._progress) / rate
        if not math.isfinite(left):
            return None
        return max(left - min(max(now - self._moved, 0.0), self._pause), 0.0)

    def _keep(self, time: float, progress: float) -> None:
        samples = self._samples
        if samples and time - samples[-1][0] < LEAST_GAP:
            if time == samples[-1][0]:
                samples[-1] = (time, progress)  # reports of one moment are one step
                self._stale = True
            else:
                self.due = samples[-1][0] + LEAST_GAP  # in a tight loop, most reports need no update
            return
        self._stale = True
        samples.append((time, progress))
        gap = min(time - samples[0][0], WINDOW_SECONDS) / DENSITY
        if gap >= 2 * self._gap:
            self._gap = gap
            samples[:] = _keep_apart(samples, gap)
        while len(samples) > FEWEST and samples[-1][0] - samples[1][0] >= WINDOW_SECONDS:
            del samples[0]
        self.due = samples[-1][0] + self._gap

    def _measure(self) -> float | None:
        """The mean slope between samples half of all apart: so the steps of a staircase even out."""
        if self._stale:
            self._stale = False
            samples = self._samples
            self._rate = None
            if len(samples) > 1 and samples[-1][0] - samples[0][0] >= LEAST_SECONDS:
                self._rate = _trimmed_mean(
                    [
                        (after[1] - before[1]) / (after[0] - before[0])
                        for before, after in zip(samples, samples[len(samples) // 2 :], strict=False)
                    ]
                )
                self._pause = max(after[0] - before[0] for before, after in pairwise(samples))
        return self._rate


def _keep_apart(samples: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """The first sample, and each that comes at least `gap` seconds after the last one kept."""
    kept = samples[:1]
    for sample in samples[1:]:
        if sample[0] - kept[-1][0] >= gap:
            kept.append(sample)
    return kept


def _trimmed_mean(values: list[float]) -> float | None:
    """The mean of the middle third; None unless it is a positive finite number."""
    values.sort()
    cut = len(values) // 3
    middle = values[cut : len(values) - cut]
    mean = sum(middle) / len(middle)
    return mean if 0 < mean < math.inf else None
