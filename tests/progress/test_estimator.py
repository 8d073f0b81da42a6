"""Rate and time left: the estimator with steady work, bursts, pauses, and nonsense."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.progress.estimator import Estimator


def after(*reports: tuple[float, float], total: float | None = None) -> Estimator:
    estimator = Estimator()
    for time, progress in reports:
        estimator.update(time, progress, total)
    return estimator


def test_an_unknown_rate_or_time_left_is_none():
    estimator = Estimator()
    assert (estimator.progress, estimator.rate, estimator.eta) == (None, None, None)
    estimator.update(5, 3, 10)
    assert (estimator.progress, estimator.rate, estimator.eta) == (3, None, None)
    estimator.update(6, 4)
    assert (estimator.rate, estimator.eta) == (1, None), "without a total nobody knows what is left"
    assert after((0, 1), (0, 2), (0, 3), total=10).rate is None, "all at one moment"


def test_steady_work_has_a_steady_rate():
    estimator = after(*((step / 10, step) for step in range(101)), total=250)
    assert estimator.rate == pytest.approx(10)
    assert estimator.eta == pytest.approx(15)


def test_at_the_end_no_time_is_left():
    estimator = after((0, 0), (1, 5), (2, 10), total=10)
    assert estimator.eta == 0
    assert after((0, 10), total=10).eta == 0, "known without a rate"
    assert after((0, 12), (1, 13), total=10).eta == 0, "never negative"


def test_progress_made_before_the_first_report_does_not_count():
    assert after((0, 5000), (1, 5010), (2, 5020), total=10_000).rate == 10


@pytest.mark.parametrize("period", [1, 10, 60])
def test_bursts_are_averaged(period):
    """A hundred come at once, then nothing for a while: neither the burst nor the pause is the rate."""
    bursts = (
        (period * burst + step * 1e-5, 100 * burst + step) for burst in range(10) for step in range(100)
    )
    estimator = after(*bursts, total=2000)
    assert estimator.rate == pytest.approx(100 / period, rel=0.1)
    assert estimator.eta == pytest.approx(10 * period, rel=0.1)


def test_a_fast_part_from_a_cache_does_not_distort_the_rate():
    cached = [(step * 1e-4, step) for step in range(500)]
    slow = [(second, 500 + second) for second in range(1, 16)]
    estimator = after(*cached, *slow, total=600)
    assert estimator.rate == pytest.approx(1, rel=0.1)


def test_one_pause_is_not_the_rate_for_long():
    before = [(step / 10, step) for step in range(300)]
    afterwards = [(100 + step / 10, 300 + step) for step in range(150)]
    assert after(*before, *afterwards).rate == pytest.approx(10, rel=0.1)


def test_a_new_speed_counts_within_the_window():
    fast = [(step / 10, step) for step in range(600)]
    slow = [(60 + step, 600 + step) for step in range(30)]
    assert after(*fast, *slow).rate == pytest.approx(1, rel=0.1)


def test_work_that_reports_once_an_hour_has_a_rate():
    estimator = after(*((3600 * hour, hour) for hour in range(20)), total=24)
    assert estimator.rate == pytest.approx(1 / 3600)
    assert estimator.eta == pytest.approx(5 * 3600)


def test_decreasing_reports_are_ignored():
    estimator = after((0, 0), (1, 10), (2, 4), (2, 20), total=100)
    assert estimator.progress == 20
    assert estimator.rate == 10


def test_a_message_alone_is_no_progress():
    """The same number with another message says that the work goes on, not that it moves."""
    estimator = after((0, 0), (10, 10), (15, 10), total=20)
    assert estimator.rate == 1
    assert estimator.eta == 5, "it counts down meanwhile"


def test_the_last_total_counts():
    estimator = after((0, 0), (1, 10), total=100)
    assert estimator.eta == 9
    estimator.update(1, 10, 200)
    assert estimator.eta == 19
    estimator.update(1, 10, None)
    assert estimator.eta is None
    assert estimator.rate == 10


def test_the_time_left_counts_down_between_two_reports():
    estimator = after((0, 0), (10, 1), (20, 2), total=5)
    assert [estimator.eta_at(20 + second) for second in (0, 4, 10)] == [30, 26, 20]
    assert estimator.rate_at(30) == estimator.rate


def test_a_silence_lowers_the_rate_and_lets_the_time_left_grow():
    estimator = after(*((second, second) for second in range(11)), total=20)
    rates = [estimator.rate_at(10 + silence) for silence in (1, 2, 11, 101)]
    assert rates == [1, pytest.approx(10 / 11), pytest.approx(1 / 2), pytest.approx(1 / 11)]
    left = [estimator.eta_at(10 + silence) for silence in (1, 2, 11, 101)]
    assert left == sorted(left)
    assert estimator.rate == 1, "as of the last report"


def test_a_clock_that_goes_back_counts_as_stopped():
    estimator = after((10, 0), (5, 1), (11, 10))
    assert estimator.rate == 9  # the first two count as simultaneous
    assert estimator.progress == 10


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400])
def test_anything_but_a_finite_number_is_ignored(bad):
    estimator = after((0, 0), (1, 1), total=10)
    estimator.update(2, bad, 10)
    estimator.update(bad, 2, 10)
    assert (estimator.progress, estimator.rate, estimator.eta) == (1, 1, 9)
    estimator.update(1, 1, bad)
    assert estimator.eta == (9 if bad == 10**400 else None), "a number that no float can hold changes nothing"
    assert estimator.rate == 1


def test_an_update_before_due_may_be_skipped():
    """Reports stay cheap because the estimator needs no update before `due`."""
    estimator = Estimator()
    kept = 0
    for step in range(100_000):
        time = step / 1000
        if time >= estimator.due:
            estimator.update(time, step, 100_000)
            kept += 1
    assert kept < 500
    assert estimator.rate == pytest.approx(1000, rel=0.01)


def test_reports_in_a_tight_loop_need_no_update():
    estimator = Estimator()
    kept = 0
    for step in range(1000):
        time = 10 + step / 1_000_000
        if time >= estimator.due:
            estimator.update(time, step, 1000)
            kept += 1
    assert kept == 2, "the first, and the next, which sets when one is due"
    estimator.update(11, 2000, 4000)
    assert estimator.rate == pytest.approx(2000)


numbers = st.floats() | st.integers() | st.just(10**400)


@given(st.lists(st.tuples(numbers, numbers, st.none() | numbers)), numbers)
def test_nothing_is_ever_infinite_or_not_a_number(reports, now):
    estimator = Estimator()
    for report in reports:
        estimator.update(*report)
    for value in (estimator.rate, estimator.eta):
        assert value is None or (math.isfinite(value) and value >= 0)
    if abs(now) < 1e300:
        for value in (estimator.rate_at(now), estimator.eta_at(now)):
            assert value is None or (math.isfinite(value) and value >= 0)


steps = st.floats(0, 1e-6) | st.floats(0, 1) | st.floats(0, 1000)


@given(st.lists(st.tuples(steps, steps, st.integers(1, 200)), max_size=50))
def test_memory_is_bounded_and_the_rate_lies_within_what_there_was(phases):
    estimator = Estimator()
    time = progress = 0.0
    estimator.update(time, progress)
    for pause, step, times in phases:
        for _ in range(times):
            time += pause
            progress += step
            estimator.update(time, progress)
            assert len(estimator._samples) <= 40
    if estimator.rate is not None:
        assert 0 < estimator.rate < math.inf
