"""Numbers that are a little larger: readable, strictly increasing, below what comes next."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.outgoing.nudge import nudge


@pytest.mark.parametrize(
    ("last", "total", "expected"),
    [
        (0, 100, "1e-06"),
        (0, None, "1e-08"),
        (0, 1, "1e-08"),
        (0, 10**12, "1e-06"),
        (3, 9, "3.00000001"),
        (99, 100, "99.0000001"),
        (5, 10**12, "5.00000001"),
        (123456, None, "123456.000001"),
        (-5, None, "-4.99999999"),
        (0.25, 1, "0.250000001"),
        (1e-9, 100, "1.00000001e-09"),
        (0, 1e-5, "1e-13"),
    ],
)
def test_a_nudge_has_the_scale_of_its_values(last, total, expected):
    assert repr(nudge(last, total)) == expected


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(min_value=-(2**63), max_value=2**64)
)


@given(last=NUMBERS, total=st.one_of(st.none(), NUMBERS))
def test_a_nudge_is_larger_and_finite(last, total):
    nudged = nudge(last, total)
    assert nudged > last
    assert math.isfinite(nudged) or last >= sys.float_info.max


@given(last=st.integers(min_value=-(2**32), max_value=2**32), total=st.integers(min_value=0, max_value=2**62))
def test_a_hundred_nudges_of_a_count_stay_below_the_next_one(last, total):
    value: float = last
    for _ in range(100):
        value = nudge(value, total)
    assert value < last + 1
