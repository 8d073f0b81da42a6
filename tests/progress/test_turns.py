"""What is merged, and when a reporter yields: by Trio's schedule alone, the same on every machine."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.lowlevel

from trio_mcp import Context, Server, ServerSettings
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.testing import StepClock

TURNS = 200


def make_server(done: trio.Event) -> Server:
    """A tool that makes two changes in each of its turns; `done` is set when it ends."""
    server = Server("turns")

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        progress = ctx.progress()
        for step in range(1, TURNS + 1):
            progress.set_message(f"step {step}")
            progress.increment()
            await trio.lowlevel.checkpoint()
        done.set()

    return server


@pytest.mark.parametrize("as_task", [False, True], ids=["direct", "task"])
async def test_changes_of_one_turn_are_one_update_in_a_call_and_in_a_task(wire, as_task):
    """One rule for merging: above the queue of the call, and above the record of the task."""
    server = make_server(trio.Event())

    updates: list[Any] = []
    options: dict[str, Any] = {"progress_handler": lambda *update: updates.append(update)}
    async with wire.open(server) as client:
        if as_task:
            task = await client.call_tool("work", task=True, **options)
            await task.result()
        else:
            await client.call_tool("work", **options)
    assert [(progress, message) for progress, _, message in updates] == [
        (step, f"step {step}") for step in range(1, TURNS + 1)
    ]


async def test_a_late_reader_of_a_task_misses_no_turn(wire):
    """The states of 200 turns fit into the history of a task, because each turn is one."""
    done = trio.Event()
    server = make_server(done)

    updates: list[Any] = []
    async with wire.open(server) as client:
        task = await client.call_tool(
            "work", task=True, progress_handler=lambda *update: updates.append(update)
        )
        await done.wait()
        await task.result()
    assert [progress for progress, _, _ in updates] == list(range(1, TURNS + 1))


@pytest.mark.parametrize("as_task", [False, True], ids=["direct", "task"])
async def test_a_change_behind_a_report_of_the_same_turn_does_not_replace_it(wire, as_task):
    server = Server("turns")

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        progress = ctx.progress()
        progress.increment()
        await ctx.report_progress(2, 9, "reported")
        progress.increment()
        progress.set_message("last")

    updates: list[Any] = []
    options: dict[str, Any] = {"progress_handler": lambda *update: updates.append(update)}
    async with wire.open(server) as client:
        if as_task:
            await (await client.call_tool("work", task=True, **options)).result()
        else:
            await client.call_tool("work", **options)
    assert [progress for progress, _, _ in updates] == [1, 2, 3]
    assert updates[1:] == [(2, 9, "reported"), (3, 9, "last")]


async def test_a_reporter_yields_after_a_number_of_reports_by_the_clock_of_tests():
    """The clock counts how often it was read, so the number of turns is known on every machine."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    reporter = ProgressReporter(None, clock=StepClock(0.00001))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        for step in range(1000):
            await reporter.report(step)
        nursery.cancel_scope.cancel()
    assert 80 <= turns <= 100, "a turn has about eleven reports of 10 microseconds"


async def test_the_settings_hand_their_clock_to_the_reporter(wire):
    """A clock that leaps at each reading stands for a slow machine: every second report yields."""
    seen: list[int] = []

    async def reports_between_turns(clock: Any) -> int:
        server = Server("turns", settings=ServerSettings(turn_clock=clock))
        others = 0

        @server.tool
        async def work(ctx: Context) -> int:
            nonlocal others

            async def count() -> None:
                nonlocal others
                while True:
                    await trio.lowlevel.checkpoint()
                    others += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(count)
                for step in range(50):
                    await ctx.report_progress(step)
                nursery.cancel_scope.cancel()
            return others

        async with wire.open(server) as client:
            return (await client.call_tool("work")).data  # type: ignore[no-any-return]

    for clock in (StepClock(1), StepClock()):
        seen.append(await reports_between_turns(clock))
    assert seen[0] >= 15
    assert seen[1] < 10


def test_a_clock_of_tests_must_advance():
    with pytest.raises(ValueError, match="larger than 0"):
        StepClock(0)
