"""The checks of reported numbers and texts, and the messages of their errors."""

from __future__ import annotations

import math
from enum import IntEnum

import pytest

from trio_mcp.progress.checks import (
    INT_MAX,
    MAX_MESSAGE_LENGTH,
    check_message,
    check_not_negative,
    check_number,
    check_positive,
    check_stage_name,
)


class Level(IntEnum):
    HIGH = 7


class Meters(float):
    pass


@pytest.mark.parametrize("check", [check_number, check_positive, check_not_negative])
@pytest.mark.parametrize(
    ("value", "checked"),
    [(1, 1), (2.5, 2.5), (Level.HIGH, 7), (Meters(1.5), 1.5), (INT_MAX, INT_MAX), (2**63, float(2**63))],
)
def test_a_finite_number_becomes_a_plain_int_or_float(check, value, checked):
    result = check(value, "total")
    assert (result, type(result)) == (checked, type(checked))


@pytest.mark.parametrize("check", [check_number, check_positive, check_not_negative])
@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, -math.inf, 10**400, b"1", object()])
def test_anything_but_a_finite_number_is_refused_by_name(check, value):
    with pytest.raises(ValueError, match=r"^total must be a finite int or float, not "):
        check(value, "total")


@pytest.mark.parametrize("value", [0, -1, 0.0, -0.5, Level.HIGH - 7])
def test_a_number_not_larger_than_0_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"^the weight must be larger than 0, not {value}$"):
        check_positive(value, "the weight")


def test_0_is_not_negative():
    assert check_not_negative(0, "size") == 0
    with pytest.raises(ValueError, match=r"^size must be at least 0, not -1$"):
        check_not_negative(-1, "size")


@pytest.mark.parametrize("message", [None, "", "grüße", "x" * MAX_MESSAGE_LENGTH])
def test_a_text_that_can_be_sent_is_accepted_as_a_message(message):
    check_message(message)


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (b"text", TypeError, "must be a str or None"),
        ("x" * (MAX_MESSAGE_LENGTH + 1), ValueError, "must have at most 16384 characters, not 16385"),
        ("\ud800", ValueError, "must be encodable as UTF-8"),
    ],
)
def test_a_message_that_cannot_be_sent_is_refused(message, error, words):
    with pytest.raises(error, match=words):
        check_message(message)


def test_a_stage_needs_a_name():
    assert check_stage_name("build") == "build"
    with pytest.raises(ValueError, match="a stage needs a name, not ''"):
        check_stage_name("")
