"""One task that sleeps until another wakes it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_mcp.concurrency.wakeup import Wakeup


async def test_a_task_sleeps_until_it_is_woken():
    wakeup = Wakeup()
    steps: list[str] = []

    async def sleep() -> None:
        await wakeup.park()
        steps.append("awake")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep)
        await trio.testing.wait_all_tasks_blocked()
        assert not steps
        wakeup.unpark()
        assert not steps  # the task that wakes it does not wait
    assert steps == ["awake"]


async def test_nothing_happens_if_no_task_sleeps():
    wakeup = Wakeup()
    wakeup.unpark()
    with trio.move_on_after(0) as scope:
        await wakeup.park()
    assert scope.cancelled_caught  # an early call is not kept


async def test_a_cancelled_task_sleeps_no_longer():
    wakeup = Wakeup()
    with trio.CancelScope() as scope:
        scope.cancel()
        await wakeup.park()
    wakeup.unpark()
    with trio.move_on_after(0) as again:
        await wakeup.park()
    assert again.cancelled_caught


async def test_a_second_task_may_not_sleep_in_it():
    wakeup = Wakeup()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wakeup.park)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(AssertionError, match="one task at a time"):
            await wakeup.park()
        wakeup.unpark()
