"""One call, one execution: calls with an idempotency key, over every transport and in both eras."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing
from msgspec import Raw

from tests.conftest import LEGACY, MODERN, Wire
from trio_mcp import (
    CallResult,
    Context,
    MCPError,
    MemoryTaskStore,
    NotSupportedByServer,
    ProtocolError,
    Server,
    TaskCancelled,
    TaskConfig,
    TaskHandle,
    TaskSettings,
    ToolError,
    open_client,
    open_server,
)
from trio_mcp.testing import WireRecorder, assert_progress
from trio_mcp.wire.messages import CallToolParams

KEY = "5f2b9c1e-7a34-4c1d-9b60-2f8f3f0c9d11"
OTHER_KEY = "8f14e45f-ceea-467f-a0e6-d3b1e8f3a7c2"
ERAS = (MODERN, LEGACY)


@attrs.define
class Counted:
    """A server whose tools count how often they ran; `go_on` lets `slow` and `slow_task` end."""

    server: Server
    runs: list[Any]
    go_on: trio.Event
    begun: trio.Event

    @property
    def count(self) -> int:
        return len(self.runs)


def make_counted(**options: Any) -> Counted:
    server = Server("keys", version="1", **options)
    counted = Counted(server, [], trio.Event(), trio.Event())

    async def run(ctx: Context, value: int) -> int:
        counted.runs.append(value)
        counted.begun.set()
        await ctx.report_progress(1, 3, "begun")
        await counted.go_on.wait()
        await ctx.report_progress(2, 3, "released")
        await ctx.report_progress(3, 3, "done")
        return value

    @server.tool
    async def slow(ctx: Context, value: int) -> int:
        return await run(ctx, value)

    @server.tool(task=True)
    async def slow_task(ctx: Context, value: int) -> int:
        return await run(ctx, value)

    @server.tool
    async def fast(value: int) -> int:
        counted.runs.append(value)
        return value

    @server.tool
    async def failing(value: int) -> int:
        counted.runs.append(value)
        raise ToolError(f"failure {counted.count}")

    return counted


async def test_a_second_call_with_the_key_gets_the_first_result(wire: Wire) -> None:
    counted = make_counted()
    async with wire.open(counted.server) as client:
        assert client.takes_idempotency_keys
        results = [await client.call_tool("fast", {"value": 5}, idempotency_key=KEY) for _ in range(3)]
        assert [result.data for result in results] == [5, 5, 5]
        assert counted.count == 1
        await client.call_tool("fast", {"value": 5}, idempotency_key=OTHER_KEY)
        await client.call_tool("fast", {"value": 5})
        assert counted.count == 3


async def test_calls_at_the_same_time_are_carried_out_once(wire: Wire) -> None:
    counted = make_counted()
    results: list[CallResult] = []
    seen: list[list[Any]] = [[], [], []]
    joined = [trio.Event(), trio.Event(), trio.Event()]

    async with wire.open(counted.server) as client, trio.open_nursery() as nursery:

        async def call(number: int) -> None:
            def handler(*update: Any) -> None:
                seen[number].append(update)
                joined[number].set()

            arguments = {"value": 7}
            results.append(
                await client.call_tool("slow", arguments, idempotency_key=KEY, progress_handler=handler)
            )
            assert seen[number][-1] == (3, 3, "done")  # the handler has finished with everything

        nursery.start_soon(call, 0)
        await counted.begun.wait()
        nursery.start_soon(call, 1)
        nursery.start_soon(call, 2)
        await joined[1].wait()
        await joined[2].wait()
        counted.go_on.set()
    assert [result.data for result in results] == [7, 7, 7]
    assert counted.count == 1
    for updates in seen:
        assert_progress(updates)
        assert updates == [(1, 3, "begun"), (2, 3, "released"), (3, 3, "done")]


async def test_a_task_is_made_once(wire: Wire) -> None:
    counted = make_counted()
    async with wire.open(counted.server) as client:
        first = await client.call_tool("slow_task", {"value": 1}, task=True, idempotency_key=KEY)
        await counted.begun.wait()
        second = await client.call_tool("slow_task", {"value": 1}, task=True, idempotency_key=KEY)
        assert first.id is not None
        assert first.id == second.id
        counted.go_on.set()
        assert [(await task.result()).data for task in (first, second)] == [1, 1]
        third = await client.call_tool("slow_task", {"value": 1}, task=True, idempotency_key=KEY)
        assert third.id == first.id
        assert (await third.result()).data == 1
    assert counted.count == 1


async def test_a_call_that_joins_a_task_gets_its_progress(wire: Wire) -> None:
    counted = make_counted()
    seen: list[Any] = []
    async with wire.open(counted.server) as client:
        await client.call_tool("slow_task", {"value": 1}, task=True, idempotency_key=KEY)
        await counted.begun.wait()
        joined = await client.call_tool(
            "slow_task",
            {"value": 1},
            task=True,
            idempotency_key=KEY,
            progress_handler=lambda *update: seen.append(update),
        )
        counted.go_on.set()
        assert (await joined.result()).data == 1
    assert seen[-1] == (3, 3, "done")
    assert_progress(seen)


async def test_other_arguments_are_refused(wire: Wire) -> None:
    counted = make_counted()
    async with wire.open(counted.server) as client:
        await client.call_tool("fast", {"value": 5}, idempotency_key=KEY)
        with pytest.raises(ProtocolError, match="was used with other arguments") as caught:
            await client.call_tool("fast", {"value": 6}, idempotency_key=KEY)
        assert caught.value.code == -32602
        # A key counts for one tool: that of another is another call.
        with pytest.raises(ToolError):
            await client.call_tool("failing", {"value": 6}, idempotency_key=KEY)
    assert counted.runs == [5, 6]


async def test_a_failure_is_the_answer_to_all(wire: Wire) -> None:
    counted = make_counted()
    async with wire.open(counted.server) as client:
        for _ in range(2):
            with pytest.raises(ToolError, match="failure 1"):
                await client.call_tool("failing", {"value": 5}, idempotency_key=KEY)
    assert counted.count == 1


async def test_an_expired_call_is_carried_out_anew(autojump_clock: trio.testing.MockClock) -> None:
    counted = make_counted(task_settings=TaskSettings(ttl=60))
    async with open_client(counted.server) as client:
        for expected in (1, 1, 2):
            await client.call_tool("fast", {"value": 5}, idempotency_key=KEY)
            assert counted.count == expected
            await trio.sleep(35)


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_call_whose_caller_is_gone_goes_on(protocol: str) -> None:
    counted = make_counted()
    async with open_server(counted.server) as running:
        async with open_client(running, protocol=protocol) as client, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: _lose(client, counted))
            await counted.begun.wait()
            await trio.testing.wait_all_tasks_blocked()
            await client._link.session._transport.aclose()
        counted.go_on.set()
        async with open_client(running, protocol=protocol) as client:
            result = await client.call_tool("slow", {"value": 1}, idempotency_key=KEY)
    assert result.data == 1
    assert counted.count == 1


async def _lose(client: Any, counted: Counted) -> None:
    with pytest.raises(MCPError, match="not known whether tool 'slow' has run"):
        await client.call_tool("slow", {"value": 1}, idempotency_key=KEY)


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_cancelled_call_stays_cancelled(protocol: str) -> None:
    counted = make_counted()
    async with open_client(counted.server, protocol=protocol) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call_tool, "fast", {"value": 1})

        async def call() -> None:
            with scope:
                await client.call_tool("slow", {"value": 1}, idempotency_key=KEY)

        scope = trio.CancelScope()
        nursery.start_soon(call)
        await counted.begun.wait()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ProtocolError, match="was cancelled; to call anew, use another key"):
            await client.call_tool("slow", {"value": 1}, idempotency_key=KEY)


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_call_that_another_waits_for_is_not_cancelled(protocol: str) -> None:
    counted = make_counted()
    results: list[Any] = []
    async with open_client(counted.server, protocol=protocol) as client, trio.open_nursery() as nursery:

        async def call(scope: trio.CancelScope) -> None:
            with scope:
                result = await client.call_tool("slow", {"value": 1}, idempotency_key=KEY)
                results.append(result.data)

        scope = trio.CancelScope()
        nursery.start_soon(call, scope)
        await counted.begun.wait()
        nursery.start_soon(call, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        counted.go_on.set()
    assert (results, counted.count) == ([1], 1)


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_cancelled_task_stays_the_task_of_its_key(protocol: str) -> None:
    counted = make_counted()
    async with open_client(counted.server, protocol=protocol) as client:
        handles: list[TaskHandle] = []
        for _ in range(2):
            handle = await client.call_tool("slow_task", {"value": 1}, task=True, idempotency_key=KEY)
            handles.append(handle)
            await handle.cancel()
            with pytest.raises(TaskCancelled):
                await handle.result()
        assert handles[0].id == handles[1].id
    assert counted.count <= 1


async def test_a_call_is_promoted_for_those_who_join_it_too(autojump_clock: trio.testing.MockClock) -> None:
    counted = make_counted()
    recorder = WireRecorder(counted.server)
    results: list[Any] = []
    async with open_client(recorder, protocol=MODERN) as client, trio.open_nursery() as nursery:

        async def call() -> None:
            result = await client.call_tool("slow_task", {"value": 3}, idempotency_key=KEY)
            results.append(result.data)

        nursery.start_soon(call)
        await trio.sleep(0.5)
        nursery.start_soon(call)
        await trio.sleep(5)
        counted.go_on.set()
    created = [
        m["result"]["taskId"]
        for m in recorder.received_messages()
        if m.get("result", {}).get("resultType") == "task"
    ]
    assert len(created) == 2
    assert len(set(created)) == 1
    assert (results, counted.count) == ([3, 3], 1)


async def test_keys_belong_to_principals() -> None:
    counted = make_counted()
    async with open_server(counted.server) as running:
        for principal, expected in (("ann", 1), ("bob", 2), ("ann", 2)):
            async with open_client(running.authenticated(principal)) as client:
                await client.call_tool("fast", {"value": 1}, idempotency_key="1")
            assert counted.count == expected
        async with open_client(running) as client:
            await client.call_tool("fast", {"value": 1}, idempotency_key="1")
        assert counted.count == 3


@pytest.mark.parametrize("wire", [Wire("http", MODERN), Wire("http", LEGACY)], ids=ERAS, indirect=False)
async def test_a_stranger_cannot_guess_the_key_of_a_client_that_is_not_authenticated(wire: Wire) -> None:
    counted = make_counted()
    async with wire.open(counted.server) as client:
        with pytest.raises(ProtocolError, match="at least 22 characters"):
            await client.call_tool("fast", {"value": 1}, idempotency_key="order-42")
    assert counted.count == 0


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_call_with_a_key_is_in_no_list_unless_it_is_a_task(protocol: str) -> None:
    store = MemoryTaskStore()
    counted = make_counted(task_store=store)
    async with (
        open_server(counted.server) as running,
        open_client(running.authenticated("ann"), protocol=protocol) as client,
    ):
        await client.call_tool("fast", {"value": 1}, idempotency_key=KEY)
        assert await running.list_tasks("ann") == []
        counted.go_on.set()
        task = await client.call_tool("slow_task", {"value": 1}, task=True, idempotency_key=KEY)
        await task.result()
        assert [record.id for record in await running.list_tasks("ann")] == [task.id]


@pytest.mark.parametrize("key", ["", "a b", "\n", "schl\u00fcssel", "x" * 256])
async def test_what_is_no_key_is_refused(key: str) -> None:
    counted = make_counted()
    async with open_client(counted.server) as client:
        with pytest.raises(ValueError, match="an idempotency key must"):
            await client.call_tool("fast", {"value": 1}, idempotency_key=key)
        with pytest.raises(ValueError, match="an idempotency key must"):
            async with client.start_call("fast", {"value": 1}, idempotency_key=key):
                pass
    assert counted.count == 0


async def test_a_call_that_asks_its_client_goes_on_under_its_key() -> None:
    server = Server("asking", version="1")
    ran: list[str] = []

    @server.tool
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", str)
        ran.append(answer.data)
        return f"hello {answer.data}"

    async def answer(request: Any) -> Any:
        return {"value": "world"}

    for protocol in ERAS:
        ran.clear()
        async with open_client(server, protocol=protocol, elicitation_handler=answer) as client:
            for _ in range(2):
                result = await client.call_tool("greet", idempotency_key=KEY)
                assert result.data == "hello world"
        assert ran == ["world"]


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_tool_that_gathers_is_carried_out_once(protocol: str) -> None:
    server = Server("gathering", version="1")
    ran: list[int] = []

    async def gather(ctx: Context, arguments: Any) -> int:
        return 4

    @server.tool(task=TaskConfig(gather=gather))
    async def double(ctx: Context) -> int:
        ran.append(ctx.gathered)
        return ctx.gathered * 2

    async with open_client(server, protocol=protocol) as client:
        for _ in range(2):
            assert (await client.call_tool("double", idempotency_key=KEY)).data == 8
    assert ran == [4]


async def test_a_server_without_keys_gets_none() -> None:
    from tests.support.fake_server import INITIALIZED, FakeServer, result

    fake = FakeServer({"initialize": result(INITIALIZED)})
    async with open_client(fake, protocol=LEGACY) as client:
        assert not client.takes_idempotency_keys
        with pytest.raises(NotSupportedByServer, match="does not know idempotency keys"):
            await client.call_tool("pay", idempotency_key=KEY)
    assert "tools/call" not in fake.asked


async def test_over_http_a_call_whose_stream_was_closed_goes_on() -> None:
    """A client of 2026-07-28 that cancels looks like one that is gone."""
    counted = make_counted()
    wire = Wire("http", MODERN)
    async with open_server(counted.server) as running:
        async with wire.open_running(running) as client, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.call_tool("slow", {"value": 1}, idempotency_key=KEY))
            await counted.begun.wait()
            nursery.cancel_scope.cancel()
        counted.go_on.set()
        async with wire.open_running(running) as client:
            result = await client.call_tool("slow", {"value": 1}, idempotency_key=KEY)
    assert (result.data, counted.count) == (1, 1)


async def test_a_call_that_is_not_admitted_leaves_its_key_unused() -> None:
    counted = make_counted(task_settings=TaskSettings(max_running=1, max_queued=0))
    async with open_client(counted.server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.call_tool("slow", {"value": 1}, idempotency_key=KEY))
        await counted.begun.wait()
        with pytest.raises(ProtocolError, match="overloaded"):
            await client.call_tool("fast", {"value": 2}, idempotency_key=OTHER_KEY)
        counted.go_on.set()
        await client.call_tool("slow", {"value": 1}, idempotency_key=KEY)
        assert (await client.call_tool("fast", {"value": 2}, idempotency_key=OTHER_KEY)).data == 2
    assert counted.runs == [1, 2]


async def test_a_state_that_continues_no_call_leaves_the_key_unused() -> None:
    counted = make_counted()
    async with open_client(counted.server, protocol=MODERN) as client:
        link = client._link
        params = CallToolParams(
            name="fast", arguments=Raw(b'{"value": 3}'), request_state="forged", input_responses={}
        )
        link.meta["io.github.trio-mcp/idempotency-key"] = KEY
        with pytest.raises(ProtocolError, match="requestState was not given out"):
            await link.request("tools/call", params)
        del link.meta["io.github.trio-mcp/idempotency-key"]
        assert (await client.call_tool("fast", {"value": 3}, idempotency_key=KEY)).data == 3
    assert counted.runs == [3]
