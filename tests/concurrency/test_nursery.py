"""The nursery from which an exception of the body comes out alone."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.limits import HANG_SECONDS
from trio_mcp.concurrency.nursery import open_service_nursery, open_unwrapping_nursery


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


async def test_a_service_goes_on_until_a_cancelled_body_has_ended():
    served = []

    async def serve() -> None:
        try:
            await trio.sleep_forever()
        finally:
            served.append("end of the service")

    with trio.CancelScope() as scope:
        async with open_service_nursery() as nursery:
            nursery.start_soon(serve)
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                served.append("end of the body")
    assert scope.cancelled_caught
    assert served == ["end of the body", "end of the service"]


@pytest.mark.parametrize("rounds", range(6))
async def test_a_service_nursery_that_is_cancelled_while_it_opens_ends(rounds: int):
    with trio.fail_after(HANG_SECONDS), trio.CancelScope() as scope:
        async with trio.open_nursery() as outside:

            async def cancel() -> None:
                for _ in range(rounds):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            outside.start_soon(cancel)
            async with open_service_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_failure_of_a_service_ends_the_body():
    with pytest.RaisesGroup(pytest.RaisesGroup(KeyError)):
        async with open_service_nursery() as nursery:
            nursery.start_soon(fail, KeyError("of a service"))
            await trio.sleep_forever()


async def test_an_exception_of_a_served_body_comes_out_alone():
    async def raise_in_served_body() -> None:
        async with open_service_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await raise_in_served_body()
