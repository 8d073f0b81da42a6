"""Stalls: noticing that nothing is reported any more, at the client and in the server."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from tests.client.test_call_handle import Journal
from tests.conftest import LEGACY, MODERN
from tests.handlers.test_progress_handlers import plain_console, shown
from trio_mcp import (
    CallTimeout,
    Context,
    Progress,
    ProgressReceiver,
    ProgressSink,
    RichProgress,
    Server,
    StageState,
    TaskConfig,
    TaskRecord,
    TaskSettings,
    ToolError,
    detailed,
    open_client,
    open_server,
    watch_stalls,
)


def make_server(config: TaskConfig | None = None) -> Server:
    server = Server("stalls", version="1")

    @server.tool(task=config)
    async def work(ctx: Context, pauses: list[float]) -> str:
        """Report after each of the pauses."""
        for number, pause in enumerate(pauses):
            await trio.sleep(pause)
            await ctx.report_progress(number, len(pauses))
        return "worked"

    return server


@attrs.define
class Stalls:
    """Records the stalls that were noticed, and when."""

    started: float = attrs.field(factory=trio.current_time)
    times: list[float] = attrs.field(factory=list)

    def note(self, *noticed: Any) -> None:
        self.times.append(round(trio.current_time() - self.started, 1))


# At the client


async def test_each_silence_is_noticed_once_when_it_has_lasted_long_enough(wire, autojump_clock):
    async with wire.open(make_server()) as client:
        seen: list[float] = []
        stalls = Stalls()
        async with watch_stalls(
            lambda *update: seen.append(update[0]), after=5, on_stall=stalls.note
        ) as handler:
            pauses = {"pauses": [4, 6, 1, 100, 4.5]}
            assert (await client.call_tool("work", pauses, progress_handler=handler)).data == "worked"
        assert seen == [0, 1, 2, 3, 4]
        assert stalls.times == [9, 16]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_task_that_is_waited_for_is_watched_the_same_way(protocol, autojump_clock):
    async with open_client(make_server(TaskConfig()), protocol=protocol) as client:
        stalls = Stalls()
        async with watch_stalls(after=5, on_stall=stalls.note) as handler:
            pauses = {"pauses": [4, 60, 1]}
            task = await client.call_tool("work", pauses, progress_handler=handler, task=True)
            assert (await task.result()).data == "worked"
        assert stalls.times == [9]


async def test_a_stall_may_cancel_the_scope_of_its_call(autojump_clock):
    async with open_client(make_server()) as client:
        with trio.CancelScope() as scope:
            async with watch_stalls(after=5, on_stall=lambda seconds: scope.cancel()) as handler:
                await client.call_tool("work", {"pauses": [1, 100]}, progress_handler=handler)
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(6)


async def test_an_exception_of_the_stall_handler_ends_the_block_unwrapped(autojump_clock):
    class StalledError(Exception):
        pass

    async def give_up(seconds: float) -> None:
        await trio.sleep(1)
        raise StalledError(f"nothing for {seconds} seconds")

    async with open_client(make_server()) as client:
        with pytest.raises(StalledError, match="nothing for 5 seconds"):
            async with watch_stalls(after=5, on_stall=give_up) as handler:
                await client.call_tool("work", {"pauses": [1, 100]}, progress_handler=handler)
        assert trio.current_time() == pytest.approx(7)


async def test_a_sink_is_watched_as_a_sink(wire, autojump_clock):
    """It is opened, updated and closed as without the watch; each silence is noticed once."""
    journal, stalls = Journal(), Stalls()
    async with wire.open(make_server()) as client:
        async with watch_stalls(journal, after=5, on_stall=stalls.note) as watched:
            assert isinstance(watched, ProgressSink)
            pauses = {"pauses": [4, 6, 1, 100, 4.5]}
            assert (await client.call_tool("work", pauses, progress_handler=watched)).data == "worked"
            assert journal.notes == ["work begins", 0, 1, 2, 3, 4, "work ends"]
        assert stalls.times == [9, 16]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_watched_sink_gets_the_stages_of_a_call_and_of_a_task(protocol, autojump_clock):
    server = Server("stalls", version="1")

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        async with ctx.progress().stage("export", weight=2, total=2) as stage:
            await trio.sleep(8)
            stage.increment()
            await trio.sleep(1)

    half = StageState(("export",), 1, 2)
    async with open_client(server, protocol=protocol) as client:
        for is_task in (False, True):
            seen: list[Progress] = []
            stalls = Stalls()
            async with watch_stalls(detailed(seen.append), after=5, on_stall=stalls.note) as watched:
                if is_task:
                    await client.await_task(
                        await client.call_tool("work", task=True), progress_handler=watched
                    )
                else:
                    await client.call_tool("work", progress_handler=watched)
            assert stalls.times == [5]
            assert [update.stages for update in seen if update.progress == 1] == [(half,)]
            assert seen[-1] == Progress(2, 2)


async def test_bars_can_be_watched(autojump_clock):
    bars = RichProgress(plain_console())
    lines: list[list[str]] = []
    async with (
        open_client(make_server()) as client,
        watch_stalls(bars, after=5, on_stall=lambda seconds: lines.append(shown(bars))) as watched,
    ):
        await client.call_tool("work", {"pauses": [1, 10]}, progress_handler=watched)
    ((line,),) = lines
    assert line.startswith("work")
    assert "0/2" in line
    assert shown(bars) == [], "the call has ended"


@pytest.mark.parametrize("fails_too", [False, True])
async def test_an_exception_of_the_stall_handler_closes_the_sink_and_comes_out_unwrapped(
    fails_too, autojump_clock, caplog
):
    class StalledError(Exception):
        pass

    def give_up(seconds: float) -> None:
        raise StalledError

    journal = Journal(fails=fails_too)
    async with open_client(make_server()) as client:
        with pytest.raises(StalledError):
            async with watch_stalls(journal, after=5, on_stall=give_up) as watched:
                await client.call_tool("work", {"pauses": [1, 100]}, progress_handler=watched)
        assert trio.current_time() == pytest.approx(6)
    assert journal.notes == ["work begins", 0, "Cancelled", "work ends"]
    assert ("a progress sink failed at the end of a call" in caplog.text) is fails_too


async def test_a_slow_sink_is_not_a_stall(autojump_clock):
    """Time passes without a stall while it opens, while it handles an update, and while it closes."""

    class Slow(ProgressSink):
        @asynccontextmanager
        async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
            await trio.sleep(30)
            yield self.receive
            await trio.sleep(30)

        async def receive(self, update: Progress) -> None:
            await trio.sleep(30)

    stalls = Stalls()
    async with (
        open_client(make_server()) as client,
        watch_stalls(Slow(), after=5, on_stall=stalls.note) as watched,
    ):
        await client.call_tool("work", {"pauses": [1, 1]}, progress_handler=watched)
        assert trio.current_time() >= 120
        assert stalls.times == []
        await client.call_tool("work", {"pauses": [6]}, progress_handler=watched)
    assert len(stalls.times) == 1


async def test_a_sink_that_fails_to_open_is_the_failure_of_the_call(autojump_clock):
    """Its failure is the failure of the call, and no task goes on."""

    class Broken(ProgressSink):
        @asynccontextmanager
        async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
            raise ZeroDivisionError
            yield  # never reached

    stalls = Stalls()
    async with (
        open_client(make_server()) as client,
        watch_stalls(Broken(), after=5, on_stall=stalls.note) as watched,
    ):
        with pytest.raises(ZeroDivisionError):
            await client.call_tool("work", {"pauses": []}, progress_handler=watched)
        await trio.sleep(6)
    assert stalls.times == [5]


async def test_an_exception_of_the_block_comes_out_unwrapped():
    with pytest.raises(KeyError):
        async with watch_stalls(after=5, on_stall=lambda seconds: None):
            raise KeyError


async def test_a_slow_handler_is_not_a_stall(autojump_clock):
    stalls = Stalls()

    async def show(*update: Any) -> None:
        await trio.sleep(30)

    async with (
        open_client(make_server()) as client,
        watch_stalls(show, after=5, on_stall=stalls.note) as handler,
    ):
        await client.call_tool("work", {"pauses": [1, 1]}, progress_handler=handler)
    assert stalls.times == []


async def test_an_idle_timeout_ends_the_call_after_a_stall_was_noticed(autojump_clock):
    async with open_client(make_server()) as client:
        stalls = Stalls()
        with pytest.raises(CallTimeout, match="no progress for 20 seconds"):
            async with watch_stalls(after=5, on_stall=stalls.note) as handler:
                await client.call_tool(
                    "work", {"pauses": [1, 100]}, progress_handler=handler, idle_timeout=20
                )
        assert stalls.times == [6]
        assert trio.current_time() == pytest.approx(21)


@pytest.mark.parametrize("after", [0, -1, math.nan, True, "5"])
async def test_a_time_that_makes_no_sense_is_refused(after):
    with pytest.raises(ValueError, match="larger than 0"):
        async with watch_stalls(after=after, on_stall=print):
            raise AssertionError
    with pytest.raises(ValueError, match="stall_after"):
        TaskConfig(stall_after=after)


async def test_a_stall_handler_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="on_stall must be callable"):
        async with watch_stalls(after=5, on_stall="log"):  # type: ignore[arg-type]
            raise AssertionError
    with pytest.raises(TypeError, match="a progress handler must be callable"):
        async with watch_stalls(5, after=5, on_stall=print):  # type: ignore[arg-type]
            raise AssertionError
    with pytest.raises(ValueError, match="on_stall"):
        TaskConfig(on_stall="shout")  # type: ignore[arg-type]


# In the server


async def test_a_stalled_task_is_logged(caplog, autojump_clock):
    caplog.set_level(logging.WARNING, "trio_mcp")
    async with open_client(make_server(TaskConfig(stall_after=5))) as client:
        task = await client.call_tool("work", {"pauses": [4, 60, 1, 60]}, task=True)
        assert (await task.result()).data == "worked"
    expected = f"task {task.id} of tool 'work' has made no progress for 5 seconds"
    assert [record.getMessage() for record in caplog.records] == [expected] * 2


async def test_a_stalled_task_is_cancelled(wire, autojump_clock):
    config = TaskConfig(stall_after=5, on_stall="cancel")
    async with wire.open(make_server(config)) as client:
        started = trio.current_time()
        task = await client.call_tool("work", {"pauses": [4, 1, 4, 60]}, task=True)
        with pytest.raises(ToolError, match=r"^the task made no progress for 5 seconds$"):
            await task.result()
        assert trio.current_time() - started == pytest.approx(14, abs=0.2)
        task = await client.call_tool("work", {"pauses": [4] * 10}, task=True)
        assert (await task.result()).data == "worked", "whoever reports goes on"


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_function_is_called_for_a_stalled_task(is_async, autojump_clock):
    noticed: list[tuple[TaskRecord, float]] = []

    async def note_soon(record: TaskRecord, seconds: float) -> None:
        await trio.sleep(1)
        note(record, seconds)

    def note(record: TaskRecord, seconds: float) -> None:
        noticed.append((record, seconds))
        if len(noticed) == 2:
            raise ToolError(f"enough of {record.tool}")

    config = TaskConfig(stall_after=5, on_stall=note_soon if is_async else note)
    async with open_client(make_server(config)) as client:
        task = await client.call_tool("work", {"pauses": [1, 60, 1, 60]}, task=True)
        with pytest.raises(ToolError, match=r"^enough of work$"):
            await task.result()
    assert [(record.id, seconds) for record, seconds in noticed] == [(task.id, 5)] * 2
    assert [record.progress.current for record, _ in noticed if record.progress] == [0, 2]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_task_that_waits_for_a_person_has_not_stalled(protocol, autojump_clock):
    server = Server("asking", version="1")

    @attrs.define
    class Name:
        name: str

    @server.tool(task=TaskConfig(mode="required", stall_after=5, on_stall="cancel"))
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        await trio.sleep(4)
        await ctx.report_progress(1)
        await trio.sleep(4)
        assert answer.data is not None
        return f"Hello {answer.data.name}"

    async def answer(asked: Any) -> Any:
        await trio.sleep(63)
        return {"name": "x"}

    async with open_client(server, protocol=protocol, elicitation_handler=answer) as client:
        assert (await client.call_tool("greet")).data == "Hello x"


async def test_a_task_that_waits_for_its_place_has_not_stalled(autojump_clock):
    server = Server("queue", version="1", task_settings=TaskSettings(max_running=1))

    @server.tool(task=TaskConfig(mode="required", stall_after=5, on_stall="cancel"))
    async def work(ctx: Context) -> str:
        for number in range(5):
            await trio.sleep(4)
            await ctx.report_progress(number)
        return "worked"

    async with open_server(server) as running, open_client(running) as client:
        tasks = [await client.call_tool("work", task=True) for _ in range(3)]
        assert [(await task.result()).data for task in tasks] == ["worked"] * 3
    assert trio.current_time() == pytest.approx(60, abs=0.5)
