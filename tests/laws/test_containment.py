"""A failure is contained: odd errors, stores, readers and peers end nothing but themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, result
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    ClientSettings,
    Conflate,
    Context,
    MCPError,
    MemoryTaskStore,
    ProtocolError,
    Server,
    ServerSettings,
    TaskConfig,
    TaskSettings,
    TextContent,
    ToolError,
    ToolResult,
    open_client,
    open_server,
)
from trio_mcp.testing import memory_pair
from trio_mcp.wire.codec import decode_lines


class UnprintableError(ToolError):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


ODD: dict[str, Any] = {
    "data": lambda: ProtocolError(-32000, "data", object()),
    "message": lambda: ProtocolError(-32000, 42),  # type: ignore[arg-type]
    "surrogate": lambda: ProtocolError(-32000, "\ud800"),
    "code": lambda: ProtocolError("abc", "code"),  # type: ignore[arg-type]
    "unprintable": lambda: UnprintableError("x"),
    "asyncio": lambda: asyncio.CancelledError(),
}


async def _call(client: Client, as_task: bool) -> None:
    if not as_task:
        await client.call_tool("fail")
        return
    handle = await client.call_tool("fail", task=True)
    await handle.result()


@pytest.mark.parametrize("as_task", [False, True])
@pytest.mark.parametrize("kind", ODD)
async def test_an_odd_error_fails_only_its_call(wire, kind, as_task, caplog):
    """Whatever an author puts into an exception, its call gets a response and the server lives on."""
    server = Server("odd", version="1")

    @server.tool(task=True)
    async def fail() -> None:
        raise ODD[kind]()

    @server.tool
    async def fine() -> str:
        return "fine"

    async with open_server(server) as running, wire.open_running(running) as client:
        with trio.fail_after(HANG_SECONDS), pytest.raises(MCPError):
            await _call(client, as_task)
        assert (await client.call_tool("fine")).data == "fine"


async def test_an_invalid_result_fails_only_its_task(wire):
    server = Server("odd", version="1")

    @server.tool(task=True)
    async def wrong() -> ToolResult:
        return ToolResult(content=[TextContent(text=123)])  # type: ignore[arg-type]

    async with wire.open(server) as client:
        task = await client.call_tool("wrong", task=True)
        with trio.fail_after(HANG_SECONDS), pytest.raises(MCPError):
            await task.result()
        await client.ping()


async def test_a_watcher_may_close_its_own_channel(wire):
    server = Server("watch", version="1")
    start = trio.Event()

    @server.tool(task=True)
    async def work(ctx: Context) -> str:
        await start.wait()
        for i in range(10):
            await ctx.report_progress(i)
            await trio.lowlevel.checkpoint()
        return "worked"

    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", task=True)
        async with running.watch_task(task.id) as inside, client.watch_task(task.id) as outside:
            await inside.aclose()
            await outside.aclose()
            start.set()
            assert (await task.result()).data == "worked"
        await client.ping()


@attrs.define(init=False)
class BrokenStore(MemoryTaskStore):
    broken: set[str] = attrs.field(factory=set)

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken = set(broken)

    async def create(self, *args: Any, **options: Any) -> Any:
        if "create" in self.broken:
            raise OSError("disk full")
        return await super().create(*args, **options)

    async def put(self, changes: Any) -> Any:
        if "put" in self.broken:
            raise OSError("disk full")
        return await super().put(changes)

    async def delete_expired(self, now: Any) -> Any:
        if "delete_expired" in self.broken:
            raise OSError("disk full")
        return await super().delete_expired(now)


@pytest.mark.parametrize("operation", ["create", "put", "delete_expired"])
async def test_a_store_that_fails_does_not_end_the_server(wire, operation, autojump_clock, caplog):
    settings = TaskSettings(ttl=10, shutdown_grace=0.1)
    server = Server("store", version="1", task_store=BrokenStore(operation), task_settings=settings)

    @server.tool(task=TaskConfig(promote_after=1))
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1)
        await trio.sleep(5)
        return "worked"

    async with open_server(server) as running, wire.open_running(running) as client:
        with trio.fail_after(1000):
            try:
                outcome = (await client.call_tool("work")).data
            except MCPError as error:
                outcome = str(error)
            assert outcome == "worked" or operation != "delete_expired"
            await trio.sleep(20)
            await client.ping()


async def test_a_result_that_the_store_refuses_fails_its_task(wire):
    server = Server("tiny", version="1", task_store=MemoryTaskStore(max_record_bytes=50))

    @server.tool(task=True)
    async def work() -> str:
        return "x" * 1000

    async with wire.open(server) as client:
        task = await client.call_tool("work", task=True)
        with trio.fail_after(HANG_SECONDS), pytest.raises(ProtocolError, match="could not be kept"):
            await task.result()


async def test_one_busy_call_does_not_starve_the_others(autojump_clock):
    """The buffer of the busy call is larger than one write."""
    server = Server("busy", version="1", settings=ServerSettings(progress=Conflate(buffer=4096)))

    @server.tool
    async def busy(ctx: Context) -> None:
        while True:
            await ctx.report_progress(trio.current_time() + (ctx.progress().current or 0) + 1)

    @server.tool
    async def quick() -> str:
        return "quick"

    async with open_client(server) as client, trio.open_nursery() as nursery:

        async def call() -> None:
            await client.call_tool("busy", progress_handler=lambda *update: None)

        nursery.start_soon(call)
        with trio.fail_after(30):
            assert (await client.call_tool("quick")).data == "quick"
        nursery.cancel_scope.cancel()


async def test_a_repeated_question_id_is_refused():
    """Questions that repeat an id are refused, and the client can still close."""
    running = 0

    async def elicit(request: Any) -> Any:
        nonlocal running
        running += 1
        await trio.sleep_forever()

    question = {
        "id": "same",
        "method": "elicitation/create",
        "params": {"message": "x", "requestedSchema": {}},
    }
    server = FakeServer(
        {
            "initialize": result(INITIALIZED),
            "tools/list": lambda request: [question] * 50 + [result({"tools": []})(request)],
        }
    )
    with trio.fail_after(HANG_SECONDS):
        async with open_client(server, protocol=LEGACY, elicitation_handler=elicit) as client:
            await client.list_tools()
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert running == 1


@pytest.mark.parametrize(
    "task",
    [
        {"createdAt": "2026-01-01T00:00:00", "lastUpdatedAt": "2026-01-01T00:00:01"},
        {"createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "nonsense"},
        {"ttlMs": 10**400},
        {"pollIntervalMs": -(10**300)},
    ],
    ids=["naive", "no time", "huge", "negative"],
)
async def test_odd_times_and_numbers_of_a_server_do_not_crash_the_client(task):
    base = {"resultType": "task", "taskId": "t", "status": "working", "createdAt": "2026-01-01T00:00:00Z"}
    base |= {"lastUpdatedAt": "2026-01-01T00:00:00Z", "ttlMs": None}
    final = {**base, **task, "resultType": "complete", "status": "completed", "result": {"content": []}}
    server = FakeServer(
        {
            "server/discover": result(DISCOVERED),
            "tools/call": result({**base, **task}),
            "tasks/get": result(final),
        }
    )
    async with open_client(server) as client:
        with trio.fail_after(HANG_SECONDS):
            try:
                outcome = (await client.call_tool("any")).text
            except MCPError as error:
                outcome = str(error)
        assert outcome == "" or "malformed" in outcome
        assert client.protocol_version == MODERN


async def test_a_server_that_asks_and_never_reads_is_not_read_from(autojump_clock):
    """The client's queue of responses is bounded, as the server's is."""
    ours, theirs = memory_pair()

    @attrs.frozen
    class Flooding:
        async def serve(self, transport: Any) -> None:
            raise AssertionError("the test is the server")

        def open_transport(self, settings: Any) -> Any:
            from contextlib import asynccontextmanager

            @asynccontextmanager
            async def opened() -> Any:
                yield ours

            return opened()

    sent = 0

    async def flood(nursery: trio.Nursery) -> None:
        nonlocal sent
        (request,) = await theirs.receive_frames()
        line = f'{{"jsonrpc":"2.0","id":{request.id},"result":{{"resultType":"complete","supportedVersions":'
        line += '["2026-07-28"],"capabilities":{}}}\n'
        await theirs.send_frames(decode_lines(line.encode()))
        pings = decode_lines(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n' * 100)
        with trio.move_on_after(1):
            for _ in range(1000):
                await theirs.send_frames(pings)
                sent += 100
        nursery.cancel_scope.cancel()

    settings = ClientSettings(log_buffer=200, drain_timeout=0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, nursery)
        async with open_client(Flooding(), settings=settings):
            await trio.sleep_forever()
    assert sent < 2_000


async def test_a_cancelled_call_cancels_its_task(wire, autojump_clock):
    """It is cancelled even if it is created while the call is being cancelled."""
    if wire.protocol != MODERN:
        return
    server = Server("left", version="1")
    ends: list[str] = []
    progressed = trio.Event()

    @server.tool(task=TaskConfig(promote_after=1))
    async def work(ctx: Context) -> None:
        await ctx.report_progress(1)
        try:
            await trio.sleep_forever()
        finally:
            ends.append("ended")

    async def handler(*update: Any) -> None:
        progressed.set()
        await trio.sleep(1000)

    async with open_server(server) as running, wire.open_running(running) as client:
        with trio.move_on_after(50):
            await client.call_tool("work", progress_handler=handler)
        await trio.sleep(1)
        assert ends == ["ended"]
    assert progressed.is_set()


async def test_the_deadline_of_a_call_spans_its_rounds(wire, autojump_clock):
    """Where the time of questions counts; by default the clocks of a call stand still meanwhile."""
    server = Server("rounds", version="1", settings=ServerSettings(pause_while_asking=False))

    @attrs.frozen
    class Name:
        name: str

    async def gather(ctx: Context, arguments: dict[str, Any]) -> None:
        for _ in range(5):
            await ctx.elicit("Again?", Name)

    @server.tool(task=TaskConfig(mode="required", gather=gather))
    async def work() -> None:
        return None

    async def answer(request: Any) -> Any:
        await trio.sleep(3)
        return {"name": "x"}

    settings = ClientSettings(pause_while_asking=False)
    async with wire.open(server, elicitation_handler=answer, settings=settings) as client:
        started = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await client.call_tool("work", max_timeout=5)
        assert trio.current_time() - started < 8
