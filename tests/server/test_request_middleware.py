"""Middleware around every request: what passes through it, its order, and what it may do."""

from __future__ import annotations

import functools
import logging
from typing import Any

import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.raw_peer import call, open_raw
from trio_mcp import (
    Context,
    LogMessage,
    Principal,
    ProtocolError,
    RequestContext,
    Server,
    TaskConfig,
    ToolError,
    open_client,
    open_server,
)
from trio_mcp.errors import LocalProtocolError
from trio_mcp.wire.messages import CallToolResult, ListToolsResult

TOTAL = 300


def make_server() -> Server:
    server = Server("layered", version="1", instructions="be kind")

    @server.tool
    async def count(ctx: Context, to: int) -> int:
        for number in range(to):
            await ctx.report_progress(number + 1, to)
        return to

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def fail() -> str:
        raise ToolError("as expected")

    @server.prompt
    async def greet(name: str) -> str:
        return f"Greet {name}."

    @server.resource("config://app")
    async def config() -> str:
        return "dark"

    return server


async def pass_on(ctx: RequestContext, call_next: Any) -> Any:
    return await call_next(ctx)


async def test_progress_arrives_in_order_and_before_the_result(wire):
    server = make_server()
    ends: list[str] = []

    @server.middleware
    async def around(ctx, call_next):
        result = await call_next(ctx)
        ends.append(ctx.method)
        return result

    seen: list[float] = []
    async with wire.open(server) as client:
        result = await client.call_tool(
            "count", {"to": TOTAL}, progress_handler=lambda progress, *_: seen.append(progress)
        )
        assert seen[-1] == TOTAL
    assert result.data == TOTAL
    assert seen == sorted(set(seen))
    assert ends[-1] == "tools/call"


async def test_a_cancelled_call_cancels_the_handler_through_the_middleware(wire, autojump_clock):
    server = make_server()
    running, ended = trio.Event(), trio.Event()
    order: list[str] = []

    @server.tool
    async def wait() -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            order.append("handler")

    @server.middleware
    async def around(ctx, call_next):
        try:
            return await call_next(ctx)
        finally:
            if ctx.method == "tools/call":
                order.append("middleware")
                ended.set()

    async with wire.open(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call_tool, "wait")
        await running.wait()
        nursery.cancel_scope.cancel()
    await ended.wait()
    assert order == ["handler", "middleware"]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_every_request_passes_through(protocol):
    server = make_server()
    seen: list[str] = []

    @server.middleware
    async def around(ctx, call_next):
        seen.append(ctx.method)
        return await call_next(ctx)

    async with open_client(server, protocol=protocol) as client:
        await client.ping()
        await client.list_tools()
        await client.list_prompts()
        await client.list_resources()
        await client.list_resource_templates()
        await client.read_resource("config://app")
        await client.get_prompt("greet", {"name": "Ada"})
        await client.call_tool("echo", {"text": "hi"})
        assert client.instructions == "be kind"
        if protocol == LEGACY:
            await client.set_log_level("error")
    assert seen == [
        *(["initialize", "ping"] if protocol == LEGACY else ["server/discover", "server/discover"]),
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/get",
        "tools/call",
        *(["logging/setLevel"] if protocol == LEGACY else []),
    ]


async def test_what_was_added_first_is_outermost():
    server = make_server()
    order: list[str] = []

    async def around(name, ctx, call_next):
        order.append(f"{name} in")
        result = await call_next(ctx)
        order.append(f"{name} out")
        return result

    for name in "abc":
        server.add_middleware(functools.partial(around, name))
    async with open_client(server) as client:
        order.clear()
        await client.call_tool("echo", {"text": "hi"})
    assert order == ["a in", "b in", "c in", "c out", "b out", "a out"]


async def test_the_context_has_the_facts_of_the_request_and_shares_its_state():
    server = make_server()
    found: list[Any] = []

    @server.tool
    async def look(ctx: Context) -> str:
        return str(ctx.state["found"])

    @server.middleware
    async def around(ctx, call_next):
        if ctx.method == "tools/call":
            ctx.state["found"] = "by the middleware"
            found.append((ctx.principal.name, ctx.protocol_version, ctx.params.name, ctx.server, ctx.task_id))
            found.append((ctx.request_id, ctx.client_info.name))
        return await call_next(ctx)

    async with open_server(server) as running, open_client(running.authenticated("ada")) as client:
        result = await client.call_tool("look")
    assert result.data == "by the middleware"
    assert found[0] == ("ada", MODERN, "look", server, None)


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_list_can_be_filtered_for_one_client(protocol):
    server = make_server()

    @server.middleware
    async def around(ctx, call_next):
        result = await call_next(ctx)
        if isinstance(result, ListToolsResult) and ctx.principal is None:
            result.tools = [tool for tool in result.tools if tool.name == "echo"]
        return result

    async with open_server(server) as running:
        async with open_client(running, protocol=protocol) as client:
            assert [tool.name for tool in await client.list_tools()] == ["echo"]
        async with open_client(running.authenticated("ada"), protocol=protocol) as client:
            assert [tool.name for tool in await client.list_tools()] == ["count", "echo", "fail"]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_protocol_error_of_middleware_is_the_answer(protocol):
    server = make_server()

    @server.middleware
    async def around(ctx, call_next):
        if ctx.method in ("tools/list", "tools/call", "resources/read"):
            raise ProtocolError(-32050, "not today", {"why": ctx.method})
        return await call_next(ctx)

    async with open_client(server, protocol=protocol) as client:
        for ask in (
            client.list_tools,
            functools.partial(client.call_tool, "echo"),
            functools.partial(client.read_resource, "config://app"),
        ):
            with pytest.raises(ProtocolError, match="not today") as caught:
                await ask()
            assert caught.value.code == -32050
        await client.ping()


async def test_what_a_tool_raises_passes_through_and_may_be_answered():
    server = make_server()
    passed: list[BaseException] = []

    @server.middleware
    async def around(ctx, call_next):
        try:
            return await call_next(ctx)
        except ToolError as error:
            passed.append(error)
            return CallToolResult(content=[], structured_content={"instead": True})

    async with open_client(server) as client:
        result = await client.call_tool("fail")
    assert result.structured_content == {"instead": True}
    assert [str(error) for error in passed] == ["as expected"]


async def test_parameters_may_be_replaced_by_some_of_the_same_type():
    server = make_server()
    refused: list[str] = []

    @server.middleware
    async def around(ctx, call_next):
        if ctx.method != "tools/call":
            return await call_next(ctx)
        try:
            ctx.replace(params={"name": "echo"})
        except TypeError as error:
            refused.append(str(error))
        arguments = msgspec.Raw(b'{"text": "replaced"}')
        return await call_next(ctx.replace(params=msgspec.structs.replace(ctx.params, arguments=arguments)))

    async with open_client(server) as client:
        assert (await client.call_tool("echo", {"text": "hi"})).data == "replaced"
    assert refused == ["the parameters of tools/call are a CallToolParams, not {'name': 'echo'}"]


async def test_middleware_may_call_twice_or_never():
    server = make_server()
    attempts: list[int] = []

    @server.tool
    async def shaky() -> str:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise ToolError("once")
        return "well"

    @server.middleware
    async def retry(ctx, call_next):
        try:
            return await call_next(ctx)
        except ToolError:
            return await call_next(ctx)

    @server.middleware
    async def hide(ctx, call_next):
        return ListToolsResult(tools=[]) if ctx.method == "tools/list" else await call_next(ctx)

    async with open_client(server) as client:
        assert (await client.call_tool("shaky")).data == "well"
        assert await client.list_tools() == []
    assert attempts == [0, 1]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_middleware_that_returns_no_result_fails_the_request_and_says_so(protocol, caplog):
    server = make_server()

    @server.middleware
    async def forgets(ctx, call_next):
        result = await call_next(ctx)
        return result if ctx.method in ("initialize", "server/discover") else None

    async with open_client(server, protocol=protocol) as client:
        with caplog.at_level(logging.ERROR, "trio_mcp"):
            with pytest.raises(ToolError, match="Error in tool 'echo'"):
                await client.call_tool("echo", {"text": "hi"})
            with pytest.raises(ProtocolError, match="'tools/list' failed"):
                await client.list_tools()
    told = [str(record.exc_info[1]) for record in caplog.records]
    assert all("forgets returned None: it must return what call_next returned" in text for text in told)
    assert len(told) == 2


async def test_call_next_takes_the_context_only(caplog):
    server = make_server()

    @server.middleware
    async def around(ctx, call_next):
        return await call_next(ctx if ctx.method != "tools/call" else ctx.params)

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="Error in tool 'echo'"):
            await client.call_tool("echo", {"text": "hi"})
    (record,) = caplog.records
    assert "call_next takes the RequestContext that the middleware was given" in str(record.exc_info[1])


async def test_middleware_that_swallows_the_cancellation_ends_its_call_and_nothing_else(autojump_clock):
    server = make_server()
    running, swallowed = trio.Event(), trio.Event()

    @server.tool
    async def wait() -> None:
        running.set()
        await trio.sleep_forever()

    @server.middleware
    async def around(ctx, call_next):
        try:
            return await call_next(ctx)
        except trio.Cancelled:  # noqa: ASYNC103  # the mistake that is tested
            swallowed.set()
            return CallToolResult(content=[])  # noqa: ASYNC104

    async with open_raw("memory", server) as peer:
        await peer.send(call(1, "wait"))
        await running.wait()
        cancelled = {"requestId": 1}
        await peer.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled})
        await swallowed.wait()
        answer = await peer.ask(call(2, "echo", text="still there"))
    assert answer["id"] == 2  # the cancelled request got no answer
    assert answer["result"]["content"][0]["text"] == "still there"


async def test_what_is_no_middleware_is_refused_when_it_is_added():
    server = make_server()
    for wrong, words in [
        (3, "must be an async function of"),
        (lambda ctx, call_next: None, "must be an async function: async def"),
        (RequestContext, "must be an async function of"),
    ]:
        with pytest.raises(TypeError, match=words):
            server.add_middleware(wrong)

    async def alone(ctx):
        return None

    with pytest.raises(TypeError, match=r"must take \(ctx, call_next\)"):
        server.add_middleware(alone)
    async with open_client(server) as client:
        assert (await client.call_tool("echo", {"text": "hi"})).data == "hi"


async def test_an_object_may_be_middleware():
    server = make_server()

    class Counter:
        seen = 0

        async def __call__(self, ctx, call_next):
            self.seen += 1
            return await call_next(ctx)

    counter = server.add_middleware(Counter())
    async with open_client(server) as client:
        await client.call_tool("echo", {"text": "hi"})
    assert counter.seen == 2


async def test_it_is_too_late_once_the_server_runs():
    server = make_server()
    async with open_server(server):
        with pytest.raises(LocalProtocolError, match="before the server runs"):
            server.add_middleware(pass_on)
    server.add_middleware(pass_on)


async def test_a_level_counts_for_the_call_that_was_sent_behind_it():
    """The requests are read at once; the middleware waits in that of the level only."""
    server = make_server()

    @server.tool
    async def chatter(ctx: Context) -> None:
        await ctx.debug("details")

    @server.middleware
    async def around(ctx, call_next):
        if ctx.method == "logging/setLevel":
            for _ in range(20):
                await trio.lowlevel.checkpoint()
        return await call_next(ctx)

    for _ in range(8):  # the order of Trio's tasks is random
        async with open_raw("memory", server) as peer:
            await peer.initialize(LEGACY)
            await peer.send(
                {"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}},
                call(2, "chatter", modern=False),
            )
            methods = [(await peer.receive()).get("method", "answer") for _ in range(3)]
        assert methods == ["answer", "notifications/message", "answer"]


async def test_a_handshake_that_is_sent_at_once_is_told_of_changes():
    server = make_server()

    @server.middleware
    async def around(ctx, call_next):
        await trio.lowlevel.checkpoint()
        return await call_next(ctx)

    async with open_raw("memory", server) as peer:
        params = {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        await peer.send(
            {"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        )
        assert [(await peer.receive())["id"] for _ in range(2)] == ["init", 1]
        server.remove_tool("fail")
        assert (await peer.receive())["method"] == "notifications/tools/list_changed"


async def test_the_members_of_a_batch_pass_through_and_are_answered_together():
    server = make_server()
    seen: list[str] = []

    @server.middleware
    async def around(ctx, call_next):
        seen.append(ctx.method)
        return await call_next(ctx)

    async with open_raw("memory", server) as peer:
        await peer.initialize("2025-03-26")
        batch = [
            {"jsonrpc": "2.0", "id": 1, "method": "ping"},
            call(2, "echo", modern=False, text="hi"),
            {"jsonrpc": "2.0", "id": 3, "method": "tools/list"},
        ]
        answers = await peer.ask(msgspec.json.encode(batch))
    assert {answer["id"] for answer in answers} == {1, 2, 3}
    assert sorted(seen) == ["initialize", "ping", "tools/call", "tools/list"]


async def test_a_request_is_over_for_it_when_it_becomes_a_task(autojump_clock):
    server = Server("layered", default_task=TaskConfig(promote_after=0))
    results: list[str] = []

    @server.tool
    async def work() -> str:
        await trio.sleep(10)
        return "worked"

    @server.middleware
    async def around(ctx, call_next):
        result = await call_next(ctx)
        results.append(type(result).__name__)
        return result

    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "worked"
    assert "CallToolResult" not in results


async def test_logs_of_a_legacy_session_follow_its_level(wire):
    server = make_server()
    server.add_middleware(pass_on)

    @server.tool
    async def chatter(ctx: Context) -> None:
        await ctx.info("one")

    logs: list[LogMessage] = []
    async with wire.open(server, log_handler=logs.append) as client:
        await client.call_tool("chatter")
        await client.set_log_level("error")
        await client.call_tool("chatter")
    assert [log.data for log in logs] == ["one"]


async def test_middleware_may_require_scopes():
    server = make_server()

    @server.middleware
    async def around(ctx, call_next):
        if ctx.method == "tools/call":
            ctx.require_scopes("calls")
        return await call_next(ctx)

    async with open_server(server) as running:
        allowed = running.authenticated(Principal("ada", scopes={"calls"}))
        async with open_client(allowed) as client:
            assert (await client.call_tool("echo", {"text": "hi"})).data == "hi"
        async with open_client(running.authenticated(Principal("bob", scopes={"reads"}))) as client:
            with pytest.raises(ProtocolError) as caught:
                await client.call_tool("echo", {"text": "hi"})
    assert caught.value.data == {"requiredScopes": ["calls"]}
