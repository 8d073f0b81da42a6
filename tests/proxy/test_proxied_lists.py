"""What a proxy lists, while the server behind it changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Change,
    Client,
    Context,
    PromptsListChanged,
    ProtocolError,
    ResourcesListChanged,
    Server,
    ServerEntry,
    ToolsListChanged,
    create_proxy,
    open_client,
)

ERAS = [(down, up) for down in (MODERN, LEGACY) for up in (MODERN, LEGACY)]


def make_origin() -> Server:
    origin = Server("origin")
    for name in ("one", "two", "three"):
        origin.add_tool(lambda: "yes", name=name)
        origin.add_prompt(lambda: "yes", name=name)
        origin.add_resource(f"x://{name}", lambda: "yes", name=name)
    origin.add_resource("y://{part}", lambda part: f"y {part}", name="y")
    return origin


@asynccontextmanager
async def opened(
    proxy: Server, protocol: str
) -> AsyncIterator[tuple[Client, trio.MemoryReceiveChannel[Change]]]:
    """A client of the proxy, and what it is told."""
    send, receive = trio.open_memory_channel[Change](100)
    async with open_client(proxy, protocol=protocol, change_handler=send.send_nowait) as client:
        yield client, receive


async def until(receive: trio.MemoryReceiveChannel[Change], wanted: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something that was told makes `wanted` true."""
    with trio.fail_after(HANG_SECONDS):
        while not await wanted():
            await receive.receive()


async def names(client: Client) -> list[str]:
    return [tool.name for tool in await client.list_tools()]


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_changes_pass_through_two_proxies_and_lists_keep_their_order(down: str, up: str) -> None:
    origin = make_origin()
    proxy = create_proxy(create_proxy(origin, protocol=up), protocol=up)
    async with opened(proxy, down) as (client, told):
        assert await names(client) == ["one", "two", "three"]
        origin.add_tool(lambda: "new", name="four")
        origin.remove_tool("two")
        await until(told, lambda: _is(client, ["one", "three", "four"]))
        assert (await client.call_tool("four")).text == "new"
        origin.disable(tools="one")
        await until(told, lambda: _is(client, ["three", "four"]))
        with pytest.raises(ProtocolError, match="one"):
            await client.call_tool("one")
        origin.enable(tools="one")
        await until(told, lambda: _is(client, ["one", "three", "four"]))


async def _is(client: Client, wanted: list[str]) -> bool:
    return await names(client) == wanted


async def test_a_listing_that_changes_is_listed_anew() -> None:
    origin = make_origin()
    async with opened(create_proxy(origin), MODERN) as (client, told):
        origin.remove_tool("three")
        origin.add_tool(lambda: "yes", name="three", description="another")

        async def is_new() -> bool:
            tools = {tool.name: tool.description for tool in await client.list_tools()}
            return tools.get("three") == "another"

        await until(told, is_new)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_prompts_and_resources_change_too(down: str, up: str) -> None:
    origin = make_origin()
    async with opened(create_proxy(origin, protocol=up), down) as (client, told):
        origin.remove_prompt("one")
        assert await _receive(told) == PromptsListChanged()
        assert [prompt.name for prompt in await client.list_prompts()] == ["two", "three"]
        origin.add_resource("z://new", lambda: "yes", name="new")
        assert await _receive(told) == ResourcesListChanged()
        listed = [resource.uri for resource in await client.list_resources()]
        assert listed == ["x://one", "x://two", "x://three", "z://new"]
        assert [one.uri_template for one in await client.list_resource_templates()] == ["y://{part}"]


async def _receive(told: trio.MemoryReceiveChannel[Change]) -> Change:
    with trio.fail_after(HANG_SECONDS):
        return await told.receive()


async def test_a_proxied_tool_that_is_disabled_at_the_proxy_stays_so() -> None:
    origin = make_origin()
    proxy = create_proxy(origin)
    async with opened(proxy, MODERN) as (client, told):
        proxy.disable(tools="three")
        origin.remove_tool("one")
        await until(told, lambda: _is(client, ["two"]))
        origin.add_tool(lambda: "yes", name="four")
        await until(told, lambda: _is(client, ["two", "four"]))
        proxy.enable(tools="three")
        await until(told, lambda: _is(client, ["two", "three", "four"]))


async def test_the_tools_of_the_proxy_itself_stay_and_come_first_at_a_collision(
    caplog: pytest.LogCaptureFixture,
) -> None:
    origin = make_origin()
    proxy = create_proxy(origin)

    @proxy.tool
    async def one(ctx: Context) -> str:
        return "own " + (await ctx.call_tool("two")).text

    async with open_client(proxy) as client:
        assert await names(client) == ["one", "two", "three"]
        assert (await client.call_tool("one")).text == "own yes"
    assert "'one' of 'upstream' is left out" in caplog.text


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_what_is_changed_back_is_told_all_the_same(down: str, up: str) -> None:
    origin = make_origin()
    proxy = create_proxy(create_proxy(origin, protocol=up), protocol=up)
    async with opened(proxy, down) as (client, told):
        origin.add_tool(lambda: "yes", name="passing")
        origin.remove_tool("passing")
        assert await _receive(told) == ToolsListChanged()
        assert await names(client) == ["one", "two", "three"]
        origin.definition.changes.tell("resources")
        assert await _receive(told) == ResourcesListChanged()


async def test_several_servers_are_told_apart_by_their_names() -> None:
    first, second = make_origin(), make_origin()

    @second.tool
    async def where() -> str:
        return "second"

    proxy = create_proxy({"a": first, "b": ServerEntry(second, prefix="other")}, name="both")
    async with open_client(proxy) as client:
        assert client.server_info is not None
        assert client.server_info.name == "both"
        assert set(await names(client)) == {
            "a_one",
            "a_two",
            "a_three",
            "other_one",
            "other_two",
            "other_three",
            "other_where",
        }
        assert (await client.call_tool("other_where")).text == "second"
        assert (await client.get_prompt("a_one")).messages
        assert (await client.read_resource("x://one")).text == "yes"


async def test_one_of_several_servers_that_fails_does_not_hold_up_the_others() -> None:
    proxy = create_proxy({"good": make_origin(), "bad": ["/does/not/exist"]})
    async with open_client(proxy) as client:
        assert await names(client) == ["good_one", "good_two", "good_three"]
