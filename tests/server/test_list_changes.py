"""Tools, prompts and resources that are added, removed, disabled and enabled while the server runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from tests.conftest import MODERN, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    Context,
    DefinitionError,
    PromptDefinitionError,
    ProtocolError,
    ResourceDefinitionError,
    Server,
    ServerSettings,
    ToolDefinitionError,
    open_client,
)
from trio_mcp.wire.errors import INVALID_PARAMS, METHOD_NOT_FOUND


class Told:
    """In the place of a definition's `changes`: remembers what it was told."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def tell(self, kind: str) -> None:
        self.kinds.append(kind)


def make_server() -> Server:
    server = Server("changing")
    for name in ("a", "b", "c"):
        server.add_tool(lambda: "yes", name=name)
        server.add_prompt(lambda: "yes", name=name)
        server.add_resource(f"x://{name}", lambda: "yes", name=name)
    server.add_resource("y://{part}", lambda part: f"y {part}", name="y")
    server.add_resource("{+rest}", lambda rest: f"any {rest}", name="any")
    return server


async def names(client: Client) -> dict[str, list[str]]:
    return {
        "tools": [tool.name for tool in await client.list_tools()],
        "prompts": [prompt.name for prompt in await client.list_prompts()],
        "resources": [resource.name for resource in await client.list_resources()],
        "templates": [template.name for template in await client.list_resource_templates()],
    }


async def codes(client: Client, name: str) -> list[int]:
    """The codes with which the server says that it knows no tool and no prompt of this name."""
    found = []
    for ask in (client.call_tool, client.get_prompt):
        with pytest.raises(ProtocolError) as refused:
            await ask(name)
        found.append(refused.value.code)
    return found


async def test_what_is_added_is_listed_last_and_answered_at_once(wire: Wire) -> None:
    server = make_server()
    async with wire.open(server) as client:
        await names(client)
        server.add_tool(lambda: "new", name="new")
        server.add_prompt(lambda: "new", name="new")
        server.add_resource("x://new", lambda: "new", name="new")
        listed = await names(client)
        assert [listed[kind][-1] for kind in ("tools", "prompts", "resources")] == ["new"] * 3
        assert (await client.call_tool("new")).data == "new"
        assert (await client.get_prompt("new")).messages[0].content.text == "new"
        assert (await client.read_resource("x://new")).text == "new"


async def test_what_is_removed_is_neither_listed_nor_known_and_its_name_is_free(wire: Wire) -> None:
    server = make_server()
    server.remove_resource("{+rest}")
    async with wire.open(server) as client:
        server.remove_tool("b")
        server.remove_prompt("b")
        server.remove_resource("x://b")
        server.remove_resource("y://{part}")
        assert await names(client) == {
            "tools": ["a", "c"],
            "prompts": ["a", "c"],
            "resources": ["a", "c"],
            "templates": [],
        }
        assert await codes(client, "b") == [INVALID_PARAMS, INVALID_PARAMS]
        for uri in ("x://b", "y://1"):
            with pytest.raises(ProtocolError, match="Resource not found"):
                await client.read_resource(uri)
        server.add_tool(lambda: "other", name="b")
        assert (await names(client))["tools"] == ["a", "c", "b"]
        assert (await client.call_tool("b")).data == "other"


async def test_what_is_disabled_is_hidden_until_it_is_enabled_in_its_old_place(wire: Wire) -> None:
    server = make_server()
    async with wire.open(server) as client:
        before = await names(client)
        server.disable(tools="b", prompts=["a", "b"], resources=["x://b", "y://{part}"])
        assert await names(client) == {
            "tools": ["a", "c"],
            "prompts": ["c"],
            "resources": ["a", "c"],
            "templates": ["any"],
        }
        assert await codes(client, "b") == [INVALID_PARAMS, INVALID_PARAMS]
        assert (await client.read_resource("y://1")).text == "any y://1"
        assert list(server.tools) == ["a", "c"]
        server.enable(tools=["b"], prompts=("b", "a"), resources=["y://{part}", "x://b"])
        assert await names(client) == before
        assert list(server.tools) == ["a", "b", "c"]
        assert (await client.call_tool("b")).data == "yes"
        assert (await client.read_resource("y://1")).text == "y 1"


async def test_a_call_of_a_tool_that_is_removed_goes_on(wire: Wire) -> None:
    server = Server("going on")
    started, go_on = trio.Event(), trio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        started.set()
        await go_on.wait()
        await ctx.report_progress(1)
        return "done"

    seen: list[float] = []
    results: list[Any] = []

    async def call(client: Client) -> None:
        handler = lambda progress, total, message: seen.append(progress)  # noqa: E731  # a handler of one line
        results.append((await client.call_tool("work", progress_handler=handler)).data)

    with trio.fail_after(HANG_SECONDS):
        async with wire.open(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(call, client)
            await started.wait()
            server.remove_tool("work")
            with pytest.raises(ProtocolError, match="Unknown tool: work"):
                await client.call_tool("work")
            go_on.set()
    assert (results, seen) == (["done"], [1])


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_running_handler_changes_its_own_server(wire: Wire, is_async: bool) -> None:
    server = Server("by itself")

    def unlock(ctx: Context) -> bool:
        ctx.server.add_tool(lambda: "open", name="vault")
        ctx.server.disable(tools="unlock")
        return ctx.server is server

    async def unlock_async(ctx: Context) -> bool:
        return unlock(ctx)

    server.add_tool(unlock_async if is_async else unlock, name="unlock")
    async with wire.open(server) as client:
        assert (await client.call_tool("unlock")).data is True
        assert [tool.name for tool in await client.list_tools()] == ["vault"]
        assert (await client.call_tool("vault")).data == "open"


async def test_a_tool_that_another_tool_calls_changes_their_server(wire: Wire) -> None:
    server = Server("by a child")

    @server.tool
    def unlock(ctx: Context) -> bool:
        ctx.server.add_tool(lambda: "open", name="vault")
        return ctx.server is server

    @server.tool
    async def ask_for_it(ctx: Context) -> bool:
        return bool((await ctx.call_tool("unlock")).data)

    async with wire.open(server) as client:
        assert (await client.call_tool("ask_for_it")).data is True
        assert (await client.call_tool("vault")).data == "open"


async def test_another_tool_cannot_call_one_that_is_disabled() -> None:
    server = Server("children")
    server.add_tool(lambda: "inside", name="inner")

    @server.tool
    async def outer(ctx: Context) -> str:
        return (await ctx.call_tool("inner")).text

    async with open_client(server) as client:
        assert (await client.call_tool("outer")).data == "inside"
        server.disable(tools="inner")
        with pytest.raises(ProtocolError, match="Unknown tool: inner"):
            await client.call_tool("outer")


def test_each_change_is_told_once_for_each_list_and_nothing_else_is() -> None:
    server = make_server()
    server.definition.changes = told = Told()  # type: ignore[assignment]  # it only notes what is told
    server.add_tool(lambda: "", name="d")
    server.add_prompt(lambda: "", name="d")
    server.add_resource("x://d", lambda: "", name="d")
    server.add_resource("z://{d}", lambda d: "", name="d")
    assert told.kinds == ["tools", "prompts", "resources", "resources"]
    told.kinds.clear()
    server.disable(tools=["a", "b"], prompts=["a", "b"], resources=["x://a", "y://{part}"])
    server.disable(tools="a", prompts="a", resources="x://a")
    server.enable(tools="c")
    assert told.kinds == ["tools", "prompts", "resources"]
    told.kinds.clear()
    server.enable(tools="a")
    server.remove_tool("a")
    server.remove_prompt("a")
    server.remove_resource("x://a")
    assert told.kinds == ["tools", "tools", "prompts", "resources"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s.remove_tool("no"), ToolDefinitionError, "no tool named 'no'"),
        (lambda s: s.remove_prompt("no"), PromptDefinitionError, "no prompt named 'no'"),
        (lambda s: s.remove_resource("x://no"), ResourceDefinitionError, "no resource named 'x://no'"),
        (lambda s: s.disable(tools=["a", "no"]), ToolDefinitionError, "no tool named 'no'"),
        (lambda s: s.disable(tools="a", prompts="no"), PromptDefinitionError, "no prompt named 'no'"),
        (lambda s: s.disable(tools="a", resources="n://o"), ResourceDefinitionError, "'n://o'"),
    ],
    ids=["remove tool", "remove prompt", "remove resource", "tool", "prompt", "resource"],
)
def test_a_change_of_what_there_is_not_is_refused_and_changes_nothing(
    change: Any, error: type[DefinitionError], words: str
) -> None:
    server = make_server()
    server.definition.changes = told = Told()  # type: ignore[assignment]  # it only notes what is told
    with pytest.raises(error, match=words):
        change(server)
    assert list(server.tools) == ["a", "b", "c"]
    assert told.kinds == []


async def test_a_removal_that_finds_nothing_declares_nothing(wire: Wire) -> None:
    server = Server("plain")
    with pytest.raises(ResourceDefinitionError):
        server.remove_resource("x://a")
    async with wire.open(server) as client:
        assert "resources" not in client.server_capabilities
        with pytest.raises(ProtocolError) as refused:
            await client.list_resources()
    assert refused.value.code == METHOD_NOT_FOUND


async def test_a_kind_of_which_nothing_is_left_stays_declared_and_listed(wire: Wire) -> None:
    server = Server("emptied")
    server.add_prompt(lambda: "", name="p")
    server.add_resource("x://r", lambda: "", name="r")
    server.disable(prompts="p")
    server.remove_resource("x://r")
    async with wire.open(server) as client:
        assert {"prompts", "resources"} <= set(client.server_capabilities)
        assert await client.list_prompts() == []
        assert await client.list_resources() == []
        server.enable(prompts="p")
        assert [prompt.name for prompt in await client.list_prompts()] == ["p"]


async def test_a_kind_that_comes_later_is_declared_from_the_start_if_the_server_offers_it(wire: Wire) -> None:
    server = Server("later", settings=ServerSettings(offers=("prompts", "resources")))
    async with wire.open(server) as client:
        assert {"prompts", "resources"} <= set(client.server_capabilities)
        assert await client.list_prompts() == []
        assert await client.list_resources() == []
        assert await client.list_resource_templates() == []
        server.add_prompt(lambda: "", name="p")
        server.add_resource("x://r", lambda: "here", name="r")
        assert [prompt.name for prompt in await client.list_prompts()] == ["p"]
        assert (await client.read_resource("x://r")).text == "here"


async def test_a_kind_that_comes_later_is_answered_also_if_it_was_not_declared(wire: Wire) -> None:
    server = Server("later")
    async with wire.open(server) as client:
        assert "prompts" not in client.server_capabilities
        server.add_prompt(lambda: "", name="p")
        assert [prompt.name for prompt in await client.list_prompts()] == ["p"]
    async with wire.open(server) as client:
        assert "prompts" in client.server_capabilities


@pytest.mark.parametrize("offers", ["prompts", ("tools",), ("prompts", "x")])
def test_offers_of_what_there_is_not_are_refused(offers: Any) -> None:
    with pytest.raises(ValueError, match="offers must be some of prompts, resources, completions"):
        ServerSettings(offers=offers)


async def test_threads_may_change_a_server_while_a_client_lists_it() -> None:
    server = Server("threads", settings=ServerSettings(page_size=7))
    server.add_tool(lambda: "", name="kept")
    threads, rounds = 4, 20

    def change(number: int) -> None:
        for step in range(rounds):
            name = f"t{number}-{step}"
            server.add_tool(lambda: "", name=name)
            server.disable(tools=name)
            server.enable(tools=name)
            if step % 2:
                server.remove_tool(name)

    running = [threading.Thread(target=change, args=(number,)) for number in range(threads)]
    with trio.fail_after(HANG_SECONDS):
        async with open_client(server, protocol=MODERN) as client:
            for thread in running:
                thread.start()
            while any(thread.is_alive() for thread in running):
                listed = [tool.name for tool in await client.list_tools()]
                assert listed[0] == "kept"
                assert len(set(listed)) == len(listed)
            for thread in running:
                await trio.to_thread.run_sync(thread.join)
            listed = [tool.name for tool in await client.list_tools()]
    expected = {f"t{number}-{step}" for number in range(threads) for step in range(0, rounds, 2)}
    assert set(listed) == {"kept"} | expected
