"""The laws of progress, each over every transport and in both eras."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.conftest import MODERN, TRANSPORTS, Wire
from tests.support.limits import HANG_SECONDS
from tests.support.memory import traced_memory
from trio_mcp import (
    ClientSettings,
    Conflate,
    Context,
    HttpSettings,
    Lossless,
    ProgressOverflow,
    Server,
    ServerSettings,
    ToolError,
    open_client,
)
from trio_mcp.client.target import open_served, open_target
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.testing import HttpConnector, StalledTransport, assert_progress, memory_pair
from trio_mcp.wire.codec import decode_lines

PROGRESS = "notifications/progress"


def make_server(**settings: Any) -> Server:
    server = Server("laws", version="1", settings=ServerSettings(**settings))

    @server.tool
    async def loop(ctx: Context, n: int) -> str:
        for i in range(n):
            await ctx.report_progress(i + 1, n, f"step {i + 1}")
        return "done"

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server


def collector() -> tuple[list[tuple[float, float | None, str | None]], Callable[..., None]]:
    updates: list[tuple[float, float | None, str | None]] = []
    return updates, lambda *update: updates.append(update)


async def test_law_1_order(wire):
    """Each of several calls at once sees its own updates in the order they were reported."""
    seen: dict[int, list[Any]] = {}

    async with wire.open(make_server()) as client:

        async def call(n: int) -> None:
            seen[n], handler = collector()
            await client.call_tool("loop", {"n": n}, progress_handler=handler)

        async with trio.open_nursery() as nursery:
            for n in (50, 100, 150, 200):
                nursery.start_soon(call, n)
    for n, updates in seen.items():
        assert updates == [(i, n, f"step {i}") for i in range(1, n + 1)]


async def test_law_2_barrier(wire, autojump_clock):
    """The result is returned only when the handler has finished with every update."""
    running = finished = 0

    async def handler(progress: float, total: float | None, message: str | None) -> None:
        nonlocal running, finished
        running += 1
        assert running == 1, "two handlers at once"
        await trio.sleep(1)
        running -= 1
        finished += 1

    async with wire.open(make_server()) as client:
        await client.call_tool("loop", {"n": 20}, progress_handler=handler)
        assert (running, finished) == (0, 20)
        await trio.sleep(60)
        assert finished == 20


async def test_law_3_increase(wire):
    """On the wire progress strictly increases, whatever is reported."""
    server = make_server()

    @server.tool
    async def zigzag(ctx: Context) -> list[float | None]:
        seen: list[float | None] = []
        for progress, total, message in (
            (5, 10, None), (3, 10, None), (5, 10, "same"), (5, 20, "same"), (5, 20, "same"), (6, 20, None),
        ):  # fmt: skip
            await ctx.report_progress(progress, total, message)
            seen.append(ctx.progress().current)
        return seen

    recorder = wire.recorder(server)
    updates, handler = collector()
    async with wire.open(recorder) as client:
        result = await client.call_tool("zigzag", progress_handler=handler)
    assert result.data == [5, 5, 5, 5, 5, 6]
    sent = [message["params"]["progress"] for message in recorder.received_messages(PROGRESS)]
    assert sent[0] == 5
    assert sent[-1] == 6
    assert all(a < b for a, b in itertools.pairwise(sent))
    assert updates == [(5, 10, None), (5, 10, "same"), (5, 20, "same"), (6, 20, None)]


async def test_law_3_merge_waits_for_the_next_increase(wire):
    server = make_server(progress=Conflate(message="merge"))

    @server.tool
    async def messages(ctx: Context) -> None:
        await ctx.report_progress(1, 3, "one")
        await ctx.report_progress(1, 3, "still one")
        await ctx.report_progress(2, 3, "two")
        await ctx.report_progress(2, 3, "the end")

    updates, handler = collector()
    async with wire.open(server) as client:
        await client.call_tool("messages", progress_handler=handler)
    assert updates == [(1, 3, "one"), (2, 3, "two"), (2, 3, "the end")]


async def test_law_4_first_and_last_survive_a_slow_reader(wire, autojump_clock):
    """20,000 reports against a handler that sleeps: bounded, increasing, both ends delivered."""
    updates: list[Any] = []

    async def handler(*update: Any) -> None:
        updates.append(update)
        await trio.sleep(1)

    async with wire.open(make_server()) as client:
        await client.call_tool("loop", {"n": 20_000}, progress_handler=handler)
    assert_progress(updates, first=1, last=20_000, total=20_000)
    assert 2 <= len(updates) < 20_000


async def test_law_5_bounded(wire, autojump_clock):
    """A handler that sleeps costs the same memory whether it misses 2,000 reports or 20,000."""

    async def pending(n: int) -> int:
        sizes: list[int] = []

        async def handler(*update: Any) -> None:
            await trio.sleep(1)  # so long that all is reported meanwhile
            if len(sizes) < 4:  # later there is only less, and each look takes a while
                sizes.append(held())

        async with wire.open(make_server()) as client:
            with traced_memory() as held:
                await client.call_tool("loop", {"n": n}, progress_handler=handler)
        return max(sizes)

    small, large = await pending(2_000), await pending(20_000)
    # How full the buffers of one read, one write and one pass are depends on the order of the tasks.
    assert large < small + 1_000_000, "20,000 unread updates would take 2 MB and more"


async def test_law_5_lossless_client_overflows_with_a_clear_error(wire, autojump_clock):
    """Where calls share a wire; a response over HTTP belongs to one call, and is not read meanwhile."""
    if wire.transport == "http":
        pytest.skip("see tests/client/test_lossless_client.py")

    async def handler(*update: Any) -> None:
        await trio.sleep(1)

    server = make_server(progress=Lossless())
    settings = ClientSettings(progress=Lossless(buffer=100))
    async with wire.open(server, settings=settings) as client:
        with pytest.raises(ProgressOverflow, match="more than 100 updates"):
            await client.call_tool("loop", {"n": 20_000}, progress_handler=handler)
        assert (await client.call_tool("echo", {"text": "on"})).text == "on"


async def test_law_5_requests_in_flight_are_capped(wire):
    server = make_server(max_requests=2)
    begun, release = trio.Semaphore(0), trio.Event()

    @server.tool
    async def wait() -> str:
        begun.release()
        await release.wait()
        return "waited"

    target = wire.target(server)
    if (wire.transport, wire.protocol) == ("http", "2026-07-28"):
        # Over HTTP each request has a connection of its own, and the endpoint counts them.
        target = HttpConnector(server, settings=HttpSettings(max_streams=2))
    async with open_client(target, protocol=wire.protocol) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call_tool, "wait")
        nursery.start_soon(client.call_tool, "wait")
        for _ in range(2):
            await begun.acquire()
        with pytest.raises(Exception, match="overloaded"):
            await client.call_tool("echo", {"text": "no"})
        release.set()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_law_6_a_stalled_reader_does_not_stall_a_conflating_handler(transport):
    """Nobody reads, and the handler still finishes; the channel holds one item per call."""
    server = make_server()
    finished = trio.Event()

    @server.tool
    async def chatter(ctx: Context) -> None:
        for i in range(50_000):
            await ctx.report_progress(i, None, "x" * 100)
        finished.set()

    async with open_unread(transport, server) as client:
        await client.send_frames(decode_lines(CALL_CHATTER))
        with trio.fail_after(HANG_SECONDS):
            await finished.wait()


async def test_law_6_lossless_waits_and_loses_nothing(wire, autojump_clock):
    updates: list[Any] = []

    async def handler(*update: Any) -> None:
        updates.append(update[0])
        if len(updates) % 100 == 0:
            await trio.sleep(1)

    settings = ClientSettings(progress=Lossless())
    async with wire.open(make_server(progress=Lossless()), settings=settings) as client:
        await client.call_tool("loop", {"n": 5_000}, progress_handler=handler)
    assert updates == list(range(1, 5_001))


async def test_law_7_silent_without_a_token(wire):
    """Without a token the local state changes, nothing is sent, nothing fails."""
    server = make_server()

    @server.tool
    async def local(ctx: Context) -> list[Any]:
        await ctx.report_progress(3, 4, "here")
        progress = ctx.progress()
        progress.increment()
        return [progress.current, progress.total, progress.message]

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        assert (await client.call_tool("local")).data == [4, 4, "here"]
    assert recorder.received_messages(PROGRESS) == []


async def test_law_8_one_writer_drains_what_waits_into_one_write(wire):
    """A burst leaves in batches of at least a hundred."""
    recorder = wire.recorder(make_server(progress=Lossless()))
    settings = ClientSettings(progress=Lossless())
    updates, handler = collector()
    async with wire.open(recorder, settings=settings) as client:
        await client.call_tool("loop", {"n": 10_000}, progress_handler=handler)
    assert len(updates) == 10_000
    if wire.transport != "websocket-asgi":  # ASGI sends and receives one message at a time
        assert len(recorder.received) < 200


async def test_law_10_a_cancel_ends_that_request_and_nothing_else(wire):
    server = make_server()
    ended: list[str] = []
    started = trio.Semaphore(0)
    release = trio.Event()

    @server.tool
    async def wait(label: str) -> str:
        started.release()
        try:
            await release.wait()
        except trio.Cancelled:
            ended.append(label)
            raise
        return label

    results: list[str] = []
    async with wire.open(server) as client:

        async def call() -> None:
            results.append((await client.call_tool("wait", {"label": "kept"})).data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(client.call_tool, "wait", {"label": "cancelled"})
                    for _ in range(2):
                        await started.acquire()
                    scope.cancel()
            with trio.fail_after(HANG_SECONDS):
                while not ended:
                    await client.ping()
            release.set()
    assert ended == ["cancelled"]
    assert results == ["kept"]


async def test_law_10_a_disconnect_cancels_the_handlers(wire):
    server = make_server()
    ended = trio.Event()

    @server.tool
    async def wait(ctx: Context) -> None:
        try:
            await ctx.report_progress(1)
            await trio.sleep_forever()
        finally:
            ended.set()

    reached = trio.Event()
    with trio.CancelScope() as scope:
        async with wire.open(server) as client, trio.open_nursery() as nursery:

            async def call() -> None:
                await client.call_tool("wait", progress_handler=lambda *update: reached.set())

            nursery.start_soon(call)
            await reached.wait()
            scope.cancel()
    assert ended.is_set()


CRASHES: dict[str, str] = {
    "raises": "Error in tool 'raises'",
    "tool_error": "meant for you",
    "group": "Error in tool 'group'",
    "tool_error_group": "first\nsecond",
    "exits": "Error in tool 'exits'",
    "nan": "nan",
    "surrogate_result": "surrogate",
    "surrogate_message": "Error in tool 'surrogate_message'",
}


def make_crashing_server() -> Server:
    server = make_server()

    @server.tool
    async def raises() -> None:
        raise KeyError("internal detail")

    @server.tool
    async def tool_error() -> None:
        raise ToolError("meant for you")

    @server.tool
    async def group() -> None:
        raise ExceptionGroup("two", [ValueError("a"), ToolError("b")])

    @server.tool
    async def tool_error_group() -> None:
        raise ExceptionGroup("two", [ToolError("first"), ExceptionGroup("inner", [ToolError("second")])])

    @server.tool
    async def exits() -> None:
        raise SystemExit(3)

    @server.tool
    async def nan() -> float:
        return float("nan")

    @server.tool
    async def surrogate_result() -> str:
        return "\ud800"

    @server.tool
    async def surrogate_message(ctx: Context) -> None:
        await ctx.report_progress(1, message="\ud800")

    return server


@pytest.mark.parametrize("tool", CRASHES)
async def test_law_11_a_crash_stays_where_it_is(wire, tool, caplog):
    """Every failure becomes the answer to its own call, and the session lives on."""
    async with wire.open(make_crashing_server()) as client:
        with pytest.raises(ToolError) as caught:
            await client.call_tool(tool, progress_handler=lambda *update: None)
        assert CRASHES[tool] in str(caught.value)
        assert "internal detail" not in str(caught.value)
        assert (await client.call_tool("echo", {"text": "alive"})).text == "alive"


@pytest.mark.parametrize("kind", ["plain", "group"])
async def test_law_11_a_finally_that_raises_during_cancellation(wire, kind, caplog):
    """A cancelled tool that raises while it is cleaning up ends nothing but itself."""
    server = make_server()
    ended = trio.Event()

    @server.tool
    async def wait(ctx: Context) -> None:
        await ctx.report_progress(1)
        try:
            if kind == "plain":
                await trio.sleep_forever()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(_raise_when_cancelled)
        finally:
            ended.set()
            if kind == "plain":
                raise RuntimeError("while being cancelled")

    async with wire.open(server) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("wait", progress_handler=lambda *update: scope.cancel())
        with trio.fail_after(HANG_SECONDS):
            await ended.wait()
        assert (await client.call_tool("echo", {"text": "alive"})).text == "alive"
    assert "failed while being cancelled" in caplog.text


async def _raise_when_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise RuntimeError("while being cancelled")


async def test_law_11_an_answer_although_a_nested_scope_was_cancelled(wire, caplog):
    """A tool that mixes cancellation of its own with a failure still answers."""
    server = make_server()

    @server.tool
    async def tangle() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_raise_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async with wire.open(server) as client:
        with pytest.raises(ToolError, match="Error in tool 'tangle'"):
            await client.call_tool("tangle")


CALL_CHATTER = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"chatter","_meta":{"progressToken":0,'
    b'"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}\n'
)


@asynccontextmanager
async def open_unread(transport: str, server: Server) -> AsyncIterator[FrameTransport]:
    """Open a client that can send but never reads; the server ends with the block."""
    if transport != "memory":
        # A transport reads little ahead: the sockets and pipes soon fill up.
        async with open_target(Wire(transport, MODERN).target(server), ClientSettings()) as ours:
            yield ours
        return
    ours, theirs = memory_pair()
    async with open_served(server, ours, StalledTransport(theirs)) as stalled:
        yield stalled


async def test_the_body_s_exception_comes_out_alone(wire):
    with pytest.raises(KeyError, match="mine"):
        async with wire.open(make_server()):
            raise KeyError("mine")


async def test_open_client_needs_no_progress_handler(wire):
    async with open_client(make_server()) as client:
        assert (await client.call_tool("loop", {"n": 3})).text == "done"
