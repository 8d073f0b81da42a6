"""The nursery from which an exception of the body comes out alone."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_mcp.concurrency.nursery import open_unwrapping_nursery


async def fail(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


async def raise_in_body(error: BaseException | None, beside: BaseException | None = None) -> None:
    """Raise `error` in the block, after a task of the nursery has raised `beside`."""
    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        if beside is not None:
            nursery.start_soon(fail, beside)
            with trio.CancelScope(shield=error is not None):
                await trio.testing.wait_all_tasks_blocked()
        if error is not None:
            raise error


async def test_an_exception_of_the_body_comes_out_alone():
    error = ValueError("broken")
    with pytest.raises(ValueError, match="broken") as caught:
        await raise_in_body(error)
    assert caught.value is error


async def test_a_group_of_the_body_comes_out_as_it_is():
    group = ExceptionGroup("of the body", [ValueError("one"), KeyError("two")])
    with pytest.RaisesGroup(ValueError, KeyError) as caught:
        await raise_in_body(group)
    assert caught.value is group


async def test_an_exception_of_a_task_stays_in_its_group():
    with pytest.RaisesGroup(KeyError):
        await raise_in_body(None, KeyError("of a task"))


async def test_two_exceptions_come_out_as_a_group():
    with pytest.RaisesGroup(KeyError, ValueError):
        await raise_in_body(ValueError("of the body"), KeyError("of a task"))


async def test_its_own_cancellation_ends_the_block_normally():
    async with open_unwrapping_nursery() as nursery:
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()


async def test_a_cancellation_from_outside_passes_through():
    with trio.CancelScope() as scope:
        async with open_unwrapping_nursery():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
