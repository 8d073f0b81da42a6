"""Middleware around the runs of tools, resources and prompts: where it runs, and what it may do."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.durable_store import DurableMemoryStore
from tests.support.raw_peer import MODERN_META, open_raw
from trio_mcp import (
    Context,
    PromptReference,
    ProtocolError,
    ResourceTemplateReference,
    Retry,
    Server,
    TaskConfig,
    ToolContext,
    ToolError,
    open_client,
    open_server,
    run_worker,
)
from trio_mcp.wire.content import ResourceContents, TextContent
from trio_mcp.wire.messages import CallToolResult
from trio_mcp.wire.prompts import GetPromptResult, PromptMessage

TOTAL = 200


def make_server(**options: Any) -> Server:
    server = Server("layered", version="1", **options)

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    def blocking(ctx: Context, text: str) -> str:
        ctx.report_progress(1, 1)
        return text

    @server.tool
    async def count(ctx: Context, to: int) -> int:
        for number in range(to):
            await ctx.report_progress(number + 1, to)
        return to

    @server.tool
    async def outer(ctx: Context, text: str) -> str:
        return (await ctx.call_tool("echo", {"text": text})).data

    return server


class Runs:
    """Middleware that notes the names of the tools that it ran around."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def __call__(self, ctx, call_next):
        self.names.append(ctx.name)
        return await call_next(ctx)


async def test_progress_of_the_tool_and_of_its_middleware_is_one_sequence(wire):
    server = make_server()

    @server.add_tool_middleware
    async def around(ctx, call_next):
        await ctx.report_progress(0, TOTAL, "begin")
        result = await call_next(ctx)
        await ctx.report_progress(TOTAL + 1, TOTAL + 1, "end")
        return result

    seen: list[tuple[float, str | None]] = []
    async with wire.open(server) as client:
        result = await client.call_tool(
            "count",
            {"to": TOTAL},
            progress_handler=lambda progress, total, message: seen.append((progress, message)),
        )
        assert seen[-1] == (TOTAL + 1, "end")
    assert result.data == TOTAL
    assert seen[0][1] == "begin"
    assert [progress for progress, _ in seen] == sorted({progress for progress, _ in seen})


async def test_it_runs_around_direct_calls_threads_and_tools_that_tools_call():
    server = make_server()
    runs = server.add_tool_middleware(Runs())
    async with open_client(server) as client:
        assert (await client.call_tool("echo", {"text": "a"})).data == "a"
        assert (await client.call_tool("blocking", {"text": "b"})).data == "b"
        assert (await client.call_tool("outer", {"text": "c"})).data == "c"
    assert runs.names == ["echo", "blocking", "outer", "echo"]


async def test_it_runs_inside_of_a_background_task(wire, autojump_clock):
    server = Server("layered", default_task=TaskConfig(promote_after=0))
    found: list[Any] = []

    @server.tool
    async def work(ctx: Context) -> str:
        await trio.sleep(10)
        return "worked"

    @server.add_tool_middleware
    async def around(ctx, call_next):
        result = await call_next(ctx)
        found.append((ctx.task_id, trio.current_time()))
        return CallToolResult(content=[*result.content, TextContent(text="and checked")])

    async with wire.open(server) as client:
        began = trio.current_time()
        task = await client.call_tool("work", task=True)
        assert found == []
        result = await task.result()
    ((ident, ended),) = found
    assert ident == task.id
    assert ended - began >= 10
    assert result.text == "worked\nand checked"


async def test_it_runs_around_each_attempt_of_a_task(autojump_clock):
    server = Server(
        "layered",
        default_task=TaskConfig(promote_after=0, retry=Retry(attempts=3)),
    )
    found: list[tuple[int, str]] = []

    @server.tool
    async def shaky(ctx: Context) -> str:
        if ctx.attempt < 3:
            raise OSError("gone")
        return "well"

    @server.add_tool_middleware
    async def around(ctx, call_next):
        try:
            result = await call_next(ctx)
        except OSError:
            found.append((ctx.attempt, "failed"))
            raise
        found.append((ctx.attempt, "ended"))
        return result

    async with open_client(server) as client:
        task = await client.call_tool("shaky", task=True)
        assert (await task.result()).data == "well"
    assert found == [(1, "failed"), (2, "failed"), (3, "ended")]


async def test_it_runs_in_the_worker_and_not_in_the_server_that_takes_the_call(autojump_clock):
    store = DurableMemoryStore()
    config = TaskConfig(recover="restart", attempts=3, promote_after=0)
    server = Server("workers", task_store=store, default_task=config)
    runs = server.add_tool_middleware(Runs())

    @server.tool
    async def work() -> str:
        return "worked"

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(10)
        assert runs.names == []
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, server)
            await running.await_task(task.id)
            nursery.cancel_scope.cancel()
    assert runs.names == ["work"]


async def test_cancelling_a_task_reaches_the_handler_through_it(autojump_clock):
    server = Server("layered", default_task=TaskConfig(promote_after=0))
    order: list[str] = []

    @server.tool
    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            order.append("handler")

    @server.add_tool_middleware
    async def around(ctx, call_next):
        try:
            return await call_next(ctx)
        finally:
            order.append("middleware")

    async with open_client(server) as client:
        task = await client.call_tool("wait", task=True)
        await trio.sleep(1)
        await task.cancel()
    assert order == ["handler", "middleware"]


async def test_arguments_may_be_replaced_or_changed_in_place_and_are_checked_afterwards():
    server = make_server()
    change: dict[str, Any] = {}

    @server.add_tool_middleware
    async def replace(ctx, call_next):
        return await call_next(ctx.replace(arguments={**ctx.arguments, **change}))

    @server.add_tool_middleware
    async def shout(ctx, call_next):
        if isinstance(ctx.arguments.get("text"), str):
            ctx.arguments["text"] = ctx.arguments["text"].upper()
        return await call_next(ctx)

    async with open_client(server) as client:
        assert (await client.call_tool("echo", {"text": "hi"})).data == "HI"
        change["text"] = "other"
        assert (await client.call_tool("echo", {"text": "hi"})).data == "OTHER"
        change["text"] = 3
        with pytest.raises(ToolError, match="text"):
            await client.call_tool("echo", {"text": "hi"})
        change["text"] = object()
        with pytest.raises(ToolError, match="Error in tool 'echo'"):
            await client.call_tool("echo", {"text": "hi"})


@pytest.mark.parametrize("arguments", [b"[1]", b'"text"', b'{"text": 1e999}'])
async def test_arguments_that_cannot_be_read_are_refused_as_without_middleware(arguments):
    plain, layered = make_server(), make_server()
    seen: list[Any] = []

    @layered.add_tool_middleware
    async def around(ctx, call_next):
        seen.append(ctx.arguments)
        return await call_next(ctx)

    params = {"name": "echo", "arguments": msgspec.Raw(arguments), "_meta": MODERN_META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answers = []
    for server in (plain, layered):
        async with open_raw("memory", server) as peer:
            answers.append(await peer.ask(message))
    assert answers[0] == answers[1]


async def test_the_exceptions_of_a_tool_pass_so_it_may_be_tried_again_or_translated():
    server = make_server()
    attempts: list[int] = []

    @server.tool
    async def shaky() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError("gone")
        return "well"

    @server.tool
    async def broken() -> str:
        raise KeyError("secret")

    @server.add_tool_middleware
    async def translate(ctx, call_next):
        try:
            return await call_next(ctx)
        except KeyError:
            raise ToolError("no such key") from None

    @server.add_tool_middleware
    async def retry(ctx, call_next):
        for _ in range(2):
            try:
                return await call_next(ctx)
            except OSError:
                pass
        return await call_next(ctx)

    async with open_client(server) as client:
        assert (await client.call_tool("shaky")).data == "well"
        with pytest.raises(ToolError, match="no such key"):
            await client.call_tool("broken")


async def test_a_result_may_be_given_without_running_the_tool():
    server = make_server()

    @server.add_tool_middleware
    async def around(ctx, call_next):
        return CallToolResult(content=[TextContent(text="closed")], is_error=True)

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="closed"):
            await client.call_tool("echo", {"text": "hi"})


async def test_what_is_no_result_fails_the_call_and_names_the_middleware(caplog):
    server = make_server()

    @server.add_tool_middleware
    async def returns_text(ctx, call_next):
        await call_next(ctx)
        return "text"

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="Error in tool 'echo'"):
            await client.call_tool("echo", {"text": "hi"})
    (record,) = caplog.records
    assert "returns_text returned 'text': it must return what call_next returned" in str(record.exc_info[1])
    assert "another CallToolResult" in str(record.exc_info[1])


async def test_the_tool_and_its_middleware_share_state_and_scopes():
    server = make_server()
    found: list[Any] = []

    @server.tool(scopes={"look"})
    async def look(ctx: Context) -> str:
        return f"{ctx.state['seen']} {type(ctx).__name__}"

    @server.add_tool_middleware
    async def around(ctx, call_next):
        ctx.state["seen"] = ctx.name
        found.append((ctx.tool.scopes, ctx.tool.listing.name, repr(ctx)))
        return await call_next(ctx)

    async with open_client(server) as client:
        assert (await client.call_tool("look")).data == "look Context"
    scopes, name, shown = found[0]
    assert (scopes, name) == ({"look"}, "look")
    assert shown.startswith("<ToolContext of tools/call")


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_tool_may_ask_through_its_middleware_and_so_may_the_middleware(protocol):
    server = make_server()

    @server.tool
    async def order(ctx: Context) -> str:
        answer = await ctx.elicit("How many?", int)
        return f"ordered {answer.data}"

    @server.add_tool_middleware
    async def confirm(ctx, call_next):
        answer = await ctx.elicit("Sure?", bool)
        return await call_next(ctx) if answer.data else CallToolResult(content=[])

    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(request.message)
        return {"value": True if request.message == "Sure?" else 3}

    async with open_client(server, protocol=protocol, elicitation_handler=answer) as client:
        assert (await client.call_tool("order")).data == "ordered 3"
    assert asked == ["Sure?", "How many?"]


async def test_it_may_be_added_while_the_server_runs_and_is_around_what_is_registered_later():
    server = make_server()
    async with open_client(server) as client:
        await client.call_tool("echo", {"text": "a"})
        runs = server.add_tool_middleware(Runs())
        server.add_tool(lambda: "late", name="late")
        await client.call_tool("echo", {"text": "b"})
        await client.call_tool("late")
        server.disable(tools="late")
        with pytest.raises(ProtocolError, match="Unknown tool"):
            await client.call_tool("late")
        server.enable(tools="late")
        await client.call_tool("late")
        server.remove_tool("echo")
        assert [tool.name for tool in await client.list_tools()] == ["blocking", "count", "outer", "late"]
    assert runs.names == ["echo", "late", "late"]


async def test_a_disabled_tool_is_wrapped_as_well():
    server = make_server()
    server.disable(tools="echo")
    runs = server.add_tool_middleware(Runs())
    server.enable(tools="echo")
    async with open_client(server) as client:
        await client.call_tool("echo", {"text": "a"})
    assert runs.names == ["echo"]


async def test_the_listing_of_a_task_tool_is_the_same_under_middleware():
    listings = []
    for is_layered in (False, True):
        server = Server("listing")
        server.add_tool(lambda: None, name="work", task=True)
        if is_layered:
            server.add_tool_middleware(Runs())
        async with open_client(server, protocol=LEGACY) as client:
            listings.append(await client.list_tools())
    assert listings[0] == listings[1]
    assert listings[0][0].execution is not None


def make_reader() -> Server:
    server = Server("reader", version="1")

    @server.resource("config://app")
    async def config() -> str:
        return "dark"

    @server.resource("users://{name}")
    def user(name: str) -> dict[str, str]:
        return {"name": name}

    @server.prompt
    async def greet(name: str) -> str:
        return f"Greet {name}."

    return server


async def test_resources_and_templates_are_read_inside_of_their_middleware():
    server = make_reader()
    seen: list[Any] = []

    @server.add_resource_middleware
    async def around(ctx, call_next):
        seen.append((ctx.uri, ctx.resource.uri, dict(ctx.values)))
        await ctx.report_progress(1, 1)
        contents = await call_next(ctx)
        return [*contents, ResourceContents(uri=ctx.uri, text="signed")]

    updates: list[float] = []
    async with open_client(server) as client:
        read = await client.read_resource(
            "config://app", progress_handler=lambda progress, *_: updates.append(progress)
        )
        assert [one.text for one in read.contents] == ["dark", "signed"]
        read = await client.read_resource("users://ada")
        assert read.contents[0].text == '{"name":"ada"}'
    assert seen == [
        ("config://app", "config://app", {}),
        ("users://ada", "users://{name}", {"name": "ada"}),
    ]
    assert updates == [1]


async def test_what_is_no_contents_fails_the_read(caplog):
    server = make_reader()
    wrong: list[Any] = ["text"]

    @server.add_resource_middleware
    async def around(ctx, call_next):
        return wrong[0]

    async with open_client(server) as client:
        for value, words in [("text", "returned 'text'"), (["text"], "which is no ResourceContents")]:
            wrong[0] = value
            caplog.clear()
            with caplog.at_level(logging.ERROR), pytest.raises(ProtocolError, match="Error in resource"):
                await client.read_resource("config://app")
            assert words in str(caplog.records[0].exc_info[1])


async def test_prompts_are_called_inside_of_their_middleware():
    server = make_reader()

    @server.add_prompt_middleware
    async def around(ctx, call_next):
        result = await call_next(ctx.replace(arguments={"name": ctx.arguments["name"].title()}))
        await ctx.report_progress(1, 1)
        message = PromptMessage(role="user", content=TextContent(text=f"From {ctx.name}."))
        return GetPromptResult(messages=[*result.messages, message], description=result.description)

    updates: list[float] = []
    async with open_client(server) as client:
        result = await client.get_prompt(
            "greet", {"name": "ada"}, progress_handler=lambda progress, *_: updates.append(progress)
        )
    assert [message.content.text for message in result.messages] == ["Greet Ada.", "From greet."]
    assert updates == [1]


async def test_completion_goes_on_to_work_under_middleware():
    server = Server("completing")

    async def pass_on(ctx, call_next):
        return await call_next(ctx)

    @server.prompt
    async def greet(name: str) -> str:
        return name

    server.add_prompt_middleware(pass_on)
    server.add_resource_middleware(pass_on)

    @server.resource("users://{name}")
    def user(name: str) -> str:
        return name

    @greet.complete("name")
    def names(value: str) -> list[str]:
        return ["ada"]

    @user.complete("name")
    def users(value: str) -> list[str]:
        return ["bob"]

    async with open_client(server) as client:
        found = await client.complete(PromptReference(name="greet"), {"name": "name", "value": ""})
        assert found.values == ["ada"]
        found = await client.complete(
            ResourceTemplateReference(uri="users://{name}"), {"name": "name", "value": ""}
        )
        assert found.values == ["bob"]


async def test_the_first_middleware_of_resources_offers_none():
    server = make_server()

    async def pass_on(ctx, call_next):
        return await call_next(ctx)

    server.add_resource_middleware(pass_on)
    async with open_client(server) as client:
        assert client.server_capabilities is not None
        assert "resources" not in client.server_capabilities


async def test_replacing_keeps_the_tool_and_the_call():
    server = make_server()
    same: list[bool] = []

    @server.add_tool_middleware
    async def around(ctx, call_next):
        other = ctx.replace(arguments={"text": "x"})
        same.append(isinstance(other, ToolContext) and other.tool is ctx.tool and other.state is ctx.state)
        return await call_next(other)

    async with open_client(server) as client:
        await client.call_tool("echo", {"text": "hi"})
    assert same == [True]
