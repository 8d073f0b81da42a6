"""The histogram of times: its percentiles, and its bounded memory."""

from __future__ import annotations

import random
import statistics

import pytest

from trio_mcp.cli.bench.histogram import DurationHistogram


def test_percentiles_are_right_within_a_hundredth() -> None:
    chance = random.Random(5)
    times = [chance.lognormvariate(-6, 2) for _ in range(20_000)]
    histogram = DurationHistogram()
    for seconds in times:
        histogram.add(seconds)
    exact = statistics.quantiles(times, n=100)
    for percent in (1, 50, 90, 99):
        assert histogram.percentile(percent / 100) == pytest.approx(exact[percent - 1], rel=0.01)
    assert histogram.percentile(1.0) == histogram.longest == max(times)


def test_a_histogram_does_not_grow_without_bound() -> None:
    histogram = DurationHistogram()
    for exponent in range(-400, 300):
        for tenth in range(10):
            histogram.add((1 + tenth / 10) * 10.0**exponent)
    assert len(histogram._buckets) <= 3200


def test_times_of_zero_are_counted() -> None:
    histogram = DurationHistogram()
    assert (histogram.percentile(0.5), histogram.count) == (0.0, 0)
    histogram.add_zeros(90)
    for _ in range(10):
        histogram.add(1.0)
    assert histogram.percentile(0.9) == 0.0
    assert histogram.percentile(0.91) == pytest.approx(1.0, rel=0.01)
    assert histogram.count == 100
