"""Calls that run concurrently with a block, and handlers that get stages and the end of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    CallCancelled,
    CallTimeout,
    ClientSettings,
    Conflate,
    Context,
    Lossless,
    Progress,
    ProgressOverflow,
    ProgressReceiver,
    ProgressSink,
    Server,
    ServerSettings,
    StageState,
    ToolError,
    detailed,
    open_client,
)

MEMORY = Wire("memory", MODERN)


def make_server(**settings: Any) -> tuple[Server, trio.Event]:
    """A server with tools that count, fail and hang, and the event that is set when a hanging one ends."""
    server = Server("calls", version="1", settings=ServerSettings(**settings))
    ended = trio.Event()

    @server.tool
    async def count(ctx: Context, n: int) -> int:
        for i in range(1, n + 1):
            await ctx.report_progress(i, n, f"step {i}")
        return n

    @server.tool
    async def fail(ctx: Context) -> None:
        await ctx.report_progress(1)
        raise ToolError("no luck")

    @server.tool
    async def hang(ctx: Context) -> None:
        try:
            await ctx.report_progress(1)
            await trio.sleep_forever()
        finally:
            ended.set()

    @server.tool
    async def staged(ctx: Context) -> None:
        progress = ctx.progress()
        progress.plan({"a": 1, "b": 3})
        async with progress.stage("a", total=2) as stage:
            await stage.report_progress(1, message="half")
            await trio.sleep(1)  # stages are sent as of the last update of each write
        async with progress.stage("b") as b, b.stage("inner", total=5) as inner:
            await inner.report_progress(2)
            await trio.sleep(1)

    return server, ended


async def test_a_call_runs_concurrently_with_its_block(wire):
    """Updates arrive in order while the block does other things, and end before the result."""
    server, _ = make_server()
    async with wire.open(server) as client, client.start_call("count", {"n": 100}) as call:
        assert [tool.name for tool in await client.list_tools()] == ["count", "fail", "hang", "staged"]
        updates = [update async for update in call.updates]
        assert (await call.result()).data == 100
        assert (await call.result()).data == 100, "the result can be asked for again"
    assert updates == [Progress(i, 100, f"step {i}") for i in range(1, 101)]


async def test_the_result_does_not_wait_for_a_reader(wire):
    """Updates that were not read before the result stay in the channel, above all the first and the last."""
    server, _ = make_server()
    settings = ClientSettings(progress=Conflate(buffer=8))
    async with (
        wire.open(server, settings=settings) as client,
        client.start_call("count", {"n": 5000}) as call,
    ):
        assert (await call.result()).data == 5000
        left = call.updates.statistics().current_buffer_used
        values = [call.updates.receive_nowait().progress for _ in range(left)]
        with pytest.raises(trio.EndOfChannel):
            call.updates.receive_nowait()
    assert (values[0], values[-1]) == (1, 5000)
    assert values == sorted(set(values))
    assert 2 <= len(values) <= 8


@pytest.mark.parametrize("buffer", [2, 3, 4, 256])
@pytest.mark.parametrize("reads_first", [True, False])
async def test_a_channel_that_overflows_keeps_the_first_and_the_last_update(buffer, reads_first):
    server, _ = make_server(progress=Lossless())
    seen: list[float] = []
    settings = ClientSettings(progress=Conflate(buffer=buffer))
    async with (
        MEMORY.open(server, settings=settings) as client,
        client.start_call("count", {"n": 1000}) as call,
    ):
        if reads_first:
            seen.append((await call.updates.receive()).progress)
        await call.result()
        left = call.updates.statistics().current_buffer_used
        seen += [update.progress async for update in call.updates]
    assert (seen[0], seen[-1]) == (1, 1000)
    assert seen == sorted(set(seen))
    assert buffer // 2 <= left <= buffer


async def test_lossless_updates_that_nobody_reads_fail_the_call(wire):
    server, ended = make_server(progress=Lossless())

    @server.tool
    async def chatter(ctx: Context) -> None:
        try:
            for i in range(1_000_000):
                await ctx.report_progress(i)
        finally:
            ended.set()

    settings = ClientSettings(progress=Lossless(buffer=1000))
    async with wire.open(server, settings=settings) as client:
        async with client.start_call("chatter") as call:
            with pytest.raises(ProgressOverflow, match="more than 1000 updates"):
                await call.result()
            await ended.wait()
            kept = [update.progress async for update in call.updates]
        assert kept == list(range(len(kept))), "those that it took can still be read"
        async with client.start_call("count", {"n": 900}) as call:
            assert (await call.result()).data == 900
            assert len([update async for update in call.updates]) == 900


async def test_an_overflow_cancels_a_handler_that_is_stuck(wire, autojump_clock):
    """Under the lossless policy the call fails at once, although its handler is still running."""
    server, ended = make_server(progress=Lossless())
    is_stuck = trio.Event()

    @server.tool
    async def chatter(ctx: Context) -> None:
        try:
            await ctx.report_progress(0)
            await is_stuck.wait()
            for i in range(1, 1_000_000):
                await ctx.report_progress(i)
        finally:
            ended.set()

    async def stick(*update: Any) -> None:
        is_stuck.set()
        await trio.sleep_forever()

    async with wire.open(server, settings=ClientSettings(progress=Lossless(buffer=10))) as client:
        if wire.transport == "http":  # nobody else waits for its response, so only a timeout ends the call
            with trio.fail_after(HANG_SECONDS), pytest.raises(CallTimeout):
                await client.call_tool("chatter", progress_handler=stick, max_timeout=0.5)
        else:
            with trio.fail_after(HANG_SECONDS), pytest.raises(ProgressOverflow):
                await client.call_tool("chatter", progress_handler=stick)
        await ended.wait()


async def test_a_cancelled_call_is_cancelled_at_the_server(wire):
    server, ended = make_server()
    async with wire.open(server) as client, client.start_call("hang") as call:
        assert await call.updates.receive() == Progress(1)
        call.cancel()
        with pytest.raises(CallCancelled, match="'hang' was cancelled"):
            await call.result()
        assert [update async for update in call.updates] == []
        await ended.wait()  # the server was notified
        call.cancel()
        assert (await client.call_tool("count", {"n": 1})).data == 1


async def test_a_call_that_is_cancelled_at_once(wire):
    server, _ = make_server()
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client, client.start_call("hang") as call:
        call.cancel()
        with pytest.raises(CallCancelled):
            await call.result()
        assert [update async for update in call.updates] == []
    assert recorder.sent_messages("tools/call") == []


async def test_cancelling_a_call_that_has_ended_changes_nothing(wire):
    server, _ = make_server()
    async with wire.open(server) as client, client.start_call("count", {"n": 1}) as call:
        await call.result()
        call.cancel()
        assert (await call.result()).data == 1


async def test_leaving_the_block_cancels_the_call(wire):
    server, ended = make_server()
    async with wire.open(server) as client:
        async with client.start_call("hang") as call:
            await call.updates.receive()
        await ended.wait()
        with pytest.raises(CallCancelled):
            await call.result()


async def test_an_exception_of_the_block_is_not_wrapped_in_a_group(wire):
    server, ended = make_server()
    async with wire.open(server) as client:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the block is what is tested
            async with client.start_call("hang") as call:
                await call.updates.receive()
                raise ZeroDivisionError
        await ended.wait()


async def test_errors_of_the_call_are_raised_by_its_result(wire):
    server, _ = make_server()
    async with wire.open(server) as client:
        async with client.start_call("fail") as call:
            with pytest.raises(ToolError, match="no luck"):
                await call.result()
            assert [update.progress async for update in call.updates] == [1]
        async with client.start_call("fail", raise_on_error=False) as call:
            assert (await call.result()).is_error
        with pytest.raises(ValueError, match="not JSON"):
            async with client.start_call("count", {"n": object()}):
                raise AssertionError("never reached")


async def test_timeouts_end_a_call_that_runs_beside_its_block(wire, autojump_clock):
    server, ended = make_server()
    async with wire.open(server) as client, client.start_call("hang", idle_timeout=1) as call:
        with pytest.raises(CallTimeout, match=r"^tool 'hang' made no progress for 1 second$"):
            await call.result()
        await ended.wait()


async def test_several_calls_at_once_have_updates_of_their_own(wire):
    server, _ = make_server()
    async with (
        wire.open(server) as client,
        client.start_call("count", {"n": 10}) as first,
        client.start_call("count", {"n": 20}) as second,
    ):
        for call, n in ((second, 20), (first, 10)):
            assert [update.progress async for update in call.updates] == list(range(1, n + 1))
            assert (await call.result()).data == n


async def test_a_reader_may_close_its_end_before_the_call_has_ended(wire):
    server, _ = make_server()
    async with wire.open(server) as client, client.start_call("count", {"n": 1000}) as call:
        async with call.updates:
            await call.updates.receive()
        assert (await call.result()).data == 1000


async def test_a_receiver_gets_the_open_stages(wire, autojump_clock):
    server, _ = make_server()
    seen: list[Progress] = []
    async with wire.open(server) as client:
        await client.call_tool("staged", progress_handler=detailed(seen.append))
    assert seen[-1] == Progress(4, 4, None), "no stage is open any more"
    stages = [stage for update in seen for stage in update.stages]
    assert StageState(("a",), 1, 2, "half") in stages
    assert StageState(("b", "inner"), 2, 5) in stages
    for update in seen:
        paths = [stage.path for stage in update.stages]
        assert ("b", "inner") not in paths or paths.index(("b",)) < paths.index(("b", "inner"))


async def test_stages_stay_open_while_something_else_is_reported(wire, autojump_clock):
    """Stages are sent only when they change; a receiver gets them with every update."""
    server = Server("stages", version="1")

    @server.tool
    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        async with progress.stage("a", weight=3):
            await trio.sleep(1)
            for i in (1, 2):
                await ctx.report_progress(i, 3)
                await trio.sleep(1)

    seen: list[Progress] = []
    async with wire.open(server) as client:
        await client.call_tool("tool", progress_handler=detailed(seen.append))
    assert [(update.progress, update.stages) for update in seen if update.progress in (1, 2)] == [
        (1, (StageState(("a",)),)),
        (2, (StageState(("a",)),)),
    ]


async def test_stages_and_plain_handlers_see_the_same_numbers(wire, autojump_clock):
    server, _ = make_server()
    plain: list[Any] = []
    detail: list[Any] = []
    async with wire.open(server) as client:
        await client.call_tool("staged", progress_handler=lambda *update: plain.append(update))
        receive = detailed(lambda update: detail.append((update.progress, update.total, update.message)))
        await client.call_tool("staged", progress_handler=receive)
    assert plain[-1] == detail[-1] == (4, 4, None)
    assert [value for value, *_ in detail] == sorted(value for value, *_ in detail)


class Journal(ProgressSink):
    """Records when its calls begin and end."""

    def __init__(self, *, fails: bool = False) -> None:
        self.notes: list[Any] = []
        self.arrived = trio.Event()
        self._fails = fails

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        self.notes.append(f"{tool} begins")

        def receive(update: Progress) -> None:
            self.notes.append(update.progress)
            self.arrived.set()

        try:
            yield receive
        except BaseException as error:
            self.notes.append(type(error).__name__)
            raise
        finally:
            self.notes.append(f"{tool} ends")
            if self._fails:
                raise ZeroDivisionError


async def test_a_sink_is_closed_after_the_last_update(wire):
    server, _ = make_server()
    journal = Journal()
    async with wire.open(server, progress_handler=journal) as client:
        await client.call_tool("count", {"n": 2})
        with pytest.raises(ToolError):
            await client.call_tool("fail")
        journal.arrived = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "hang")
            await journal.arrived.wait()
            nursery.cancel_scope.cancel()
    assert journal.notes == [
        *("count begins", 1, 2, "count ends"),
        *("fail begins", 1, "ToolError", "fail ends"),
        *("hang begins", 1, "Cancelled", "hang ends"),
    ]


async def test_a_sink_that_fails_at_the_end_does_not_disturb_the_call(wire, caplog):
    server, _ = make_server()
    async with wire.open(server, progress_handler=Journal(fails=True)) as client:
        assert (await client.call_tool("count", {"n": 2})).data == 2
        with pytest.raises(ToolError, match="no luck"):
            await client.call_tool("fail")
    text = "a progress sink failed at the end of a call"
    assert caplog.text.count(text) == 1, "the same failure is told once"


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
@pytest.mark.parametrize("transport", ["memory", "http"])
async def test_a_sink_is_opened_for_each_wait_of_a_task(transport, protocol):
    server = Server("tasks", version="1")
    go = trio.Event()

    @server.tool(task=True)
    async def work(ctx: Context) -> str:
        await go.wait()
        progress = ctx.progress()
        async with progress.stage("all", total=2) as stage:
            stage.increment()
            await trio.lowlevel.checkpoint()
            stage.increment()
        return "worked"

    journal = Journal()
    async with Wire(transport, protocol).open(server, progress_handler=journal) as client:
        handle = await client.call_tool("work", task=True)
        go.set()
        assert (await handle.result()).data == "worked"
        assert journal.notes[:3] == ["work begins", "work ends", "work begins"]
        assert journal.notes[-2:] == [1, "work ends"]
        journal.notes.clear()
        async with client.start_call("work") as call:
            updates = [update async for update in call.updates]
            assert (await call.result()).data == "worked"
        assert updates[-1].progress == 1
    assert journal.notes == [], "the channel took its place"


async def test_an_object_that_is_no_progress_handler_is_refused():
    server, _ = make_server()
    async with MEMORY.open(server) as client:
        with pytest.raises(TypeError, match="callable or a ProgressSink"):
            await client.call_tool("count", {"n": 1}, progress_handler="print")
    with pytest.raises(TypeError, match="callable"):
        detailed(3)


async def test_an_update_has_rate_and_time_left(autojump_clock):
    server = Server("steady", version="1")

    @server.tool
    async def steady(ctx: Context) -> None:
        for done in range(1, 11):
            await trio.sleep(0.5)
            await ctx.report_progress(done, 10)

    async with open_client(server) as client, client.start_call("steady") as call:
        paces = [(update.rate, update.eta) async for update in call.updates]
        await call.result()
    assert paces[0] == (None, None)
    assert paces[4] == (pytest.approx(2), pytest.approx(2.5))
    assert paces[9] == (pytest.approx(2), 0)
