"""A failure that repeats itself is one traceback, and then a count."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_mcp.concurrency.failure_log import MAX_FAILURES, FailureLog
from trio_mcp.concurrency.failures import contain_failure, log_failure

logger = logging.getLogger("trio_mcp.tests")


def failure(kind: type[Exception] = ValueError) -> Exception:
    try:
        raise kind("broken")
    except Exception as error:
        return error


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    """The text of each record before the place, and whether it has a traceback."""
    return [(one.getMessage().partition(" at ")[0], bool(one.exc_info)) for one in caplog.records]


def fail_often(fail: Callable[[Exception], Any], times: int, kind: type[Exception] = ValueError) -> None:
    for _ in range(times):
        fail(failure(kind))


def test_what_is_contained_often_is_counted_to_the_end_of_the_run(caplog):
    async def main() -> None:
        fail_often(lambda error: contain_failure(error, "a handler", logger, "failed; the call goes on"), 12)
        fail_often(lambda error: log_failure(error, "another", logger), 2)

    trio.run(main)
    assert told(caplog) == [
        ("a handler failed; the call goes on", True),
        ("a handler failed 10 times with ValueError", False),
        ("another failed", True),
        ("a handler failed 12 times with ValueError", False),
        ("another failed 2 times with ValueError", False),
    ]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_another_run_begins_to_count_anew(caplog):
    async def main() -> None:
        log_failure(failure(), "a handler", logger)

    trio.run(main)
    trio.run(main)
    assert told(caplog) == [("a handler failed", True)] * 2


async def test_another_error_and_another_subject_are_no_repetition(caplog):
    log = FailureLog()
    log.log(logger, "a handler", failure())
    log.log(logger, "a handler", failure(OSError))
    log.log(logger, "another", failure())
    assert [has_traceback for _, has_traceback in told(caplog)] == [True] * 3
    log.close()
    assert len(caplog.records) == 3


async def test_after_a_minute_the_count_is_told_and_the_traceback_again(caplog, autojump_clock):
    log = FailureLog()
    fail_often(lambda error: log.log(logger, "a handler", error), 3)
    await trio.sleep(61)
    fail_often(lambda error: log.log(logger, "a handler", error), 1)
    assert told(caplog) == [
        ("a handler failed", True),
        ("a handler failed 3 times with ValueError", False),
        ("a handler failed", True),
    ]


async def test_a_line_of_its_own_needs_its_traceback_once_a_minute(autojump_clock):
    log = FailureLog()
    assert [log.is_new(logger, "an attempt", failure()) for _ in range(3)] == [True, False, False]
    await trio.sleep(61)
    assert log.is_new(logger, "an attempt", failure())


async def test_few_kinds_are_remembered(caplog):
    log = FailureLog()
    fail_often(lambda error: log.log(logger, "first", error), 2)
    for number in range(MAX_FAILURES):
        log.log(logger, f"handler {number}", failure())
    assert len(log) == MAX_FAILURES
    assert ("first failed 2 times with ValueError", False) in told(caplog)
