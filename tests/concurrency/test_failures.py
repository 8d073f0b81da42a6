"""Which exceptions propagate, and which stay where they were caught."""

from __future__ import annotations

import logging

import pytest
import trio

from trio_mcp.concurrency.failures import contain_failure, leaves, split_failure

logger = logging.getLogger("trio_mcp.tests")
PASSING = [KeyboardInterrupt(), GeneratorExit()]


async def cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            caught = error
            raise
    return caught


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_exceptions_that_end_the_process_or_a_generator_propagate(error):
    assert split_failure(error) == (error, None)


async def test_cancelled_propagates():
    error = await cancelled()
    assert split_failure(error) == (error, None)


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1), BaseException()])
def test_every_other_exception_becomes_the_answer(error):
    assert split_failure(error) == (None, error)


async def test_a_group_is_split_into_answer_and_propagated_part():
    failure, passing = ValueError("broken"), await cancelled()
    group = BaseExceptionGroup("both", [failure, BaseExceptionGroup("inner", [passing])])
    first, second = split_failure(group)
    assert first is not None
    assert second is not None
    assert list(leaves(first)) == [passing]
    assert list(leaves(second)) == [failure]


def test_leaves_are_the_exceptions_inside_groups_in_order():
    one, two, three = ValueError(), KeyError(), OSError()
    group = ExceptionGroup("outer", [one, ExceptionGroup("inner", [two]), three])
    assert list(leaves(group)) == [one, two, three]
    assert list(leaves(one)) == [one]


async def test_a_contained_failure_is_logged_and_goes_no_further(caplog):
    error = ValueError("broken")
    contain_failure(error, "a callback", logger, "crashed")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "a callback crashed")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_the_propagated_part_is_raised_after_the_rest_is_logged(caplog):
    failure, passing = ValueError("broken"), await cancelled()
    with pytest.RaisesGroup(trio.Cancelled) as caught:
        contain_failure(BaseExceptionGroup("both", [failure, passing]), "a callback", logger, "crashed")
    assert list(leaves(caught.value)) == [passing]
    assert [record.getMessage() for record in caplog.records] == ["a callback crashed"]


async def test_cancellation_alone_is_not_logged(caplog):
    passing = await cancelled()
    with pytest.raises(trio.Cancelled):
        contain_failure(passing, "a callback", logger)
    assert not caplog.records
