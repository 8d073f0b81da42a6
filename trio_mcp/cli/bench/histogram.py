"""A histogram of measured times, in memory that does not grow with their number.

Owns the buckets. Refuses to know what is measured.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

BUCKETS_PER_OCTAVE: Final = 64
"""A bucket is 1.1% wide, so that a percentile is off by half of that at most."""

LEAST: Final = 1e-9
MOST: Final = 1e6
"""Times in seconds below LEAST or above MOST count as these, so there are at most 3,200 buckets."""


@attrs.define
class DurationHistogram:
    """Counts any number of times in seconds, none negative, and estimates their percentiles."""

    count: int = 0
    longest: float = 0.0
    _zeros: int = 0
    _buckets: dict[int, int] = attrs.field(factory=dict)

    def add(self, seconds: float) -> None:
        """Add one time."""
        self.count += 1
        if seconds > self.longest:
            self.longest = seconds
        bucket = math.floor(math.log2(min(max(seconds, LEAST), MOST)) * BUCKETS_PER_OCTAVE)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def add_zeros(self, count: int) -> None:
        """Add `count` times of zero."""
        self.count += count
        self._zeros += count

    def percentile(self, share: float) -> float:
        """The time that `share` of all times, from 0 to 1, do not exceed; 0 if there are none."""
        rank = math.ceil(share * self.count)
        if rank <= self._zeros:
            return 0.0
        if rank == self.count:
            return self.longest
        passed = self._zeros
        for bucket in sorted(self._buckets):
            passed += self._buckets[bucket]
            if passed >= rank:
                return min(2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE), self.longest)
        return self.longest
