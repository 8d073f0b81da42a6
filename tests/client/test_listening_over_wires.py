"""Listening to a server of our own, over every transport and in both eras."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import MODERN, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    CacheHint,
    ChangeChannel,
    Context,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    Server,
    ServerSettings,
    ToolsListChanged,
)

PLACE = "config://app"


def make_server() -> Server:
    hint = CacheHint(300)
    server = Server("changing", settings=ServerSettings(list_cache=hint, read_cache=hint))
    reads = 0

    @server.resource(PLACE)
    def config() -> str:
        nonlocal reads
        reads += 1
        return f"read {reads}"

    @server.prompt
    def greet() -> str:
        return "Hello"

    @server.tool
    async def touch(times: int = 1) -> str:
        """Change the configuration."""
        for _ in range(times):
            server.notify_resource_updated(PLACE)
        return "touched"

    @server.tool
    async def grow(ctx: Context) -> str:
        """Add something to every list."""
        server.add_tool(lambda: "new", name="new")
        server.add_prompt(lambda: "new", name="new")
        server.add_resource("new://it", lambda: "new", name="new")
        return "grown"

    return server


async def receive(changes: ChangeChannel, count: int) -> list[Any]:
    found: list[Any] = []
    with trio.fail_after(HANG_SECONDS):
        while len(found) < count:
            found.append(await changes.receive())
    return found


async def test_a_client_hears_of_updates_and_of_changed_lists(wire: Wire) -> None:
    async with wire.open(make_server()) as client:
        async with client.listen(tools=True, prompts=True, resources=True, uris=[PLACE]) as changes:
            await client.call_tool("touch")
            await client.call_tool("grow")
            assert set(await receive(changes, 4)) == {
                ResourceUpdated(PLACE),
                ToolsListChanged(),
                PromptsListChanged(),
                ResourcesListChanged(),
            }
        await client.call_tool("touch")
        assert (await client.call_tool("new")).data == "new"


async def test_many_listeners_of_one_client_each_hear_what_is_theirs(wire: Wire) -> None:
    async with (
        wire.open(make_server()) as client,
        client.listen(tools=True) as tools,
        client.subscribe(PLACE) as ones,
        client.subscribe(PLACE) as twos,
    ):
        await client.call_tool("touch")
        await client.call_tool("grow")
        assert await receive(tools, 1) == [ToolsListChanged()]
        assert await receive(ones, 1) == await receive(twos, 1) == [ResourceUpdated(PLACE)]
        for changes in (tools, ones, twos):
            with pytest.raises(trio.WouldBlock):
                changes.receive_nowait()


async def test_a_slow_reader_is_told_once_of_many_updates(wire: Wire) -> None:
    async with wire.open(make_server()) as client, client.listen(prompts=True, uris=[PLACE]) as changes:
        await client.call_tool("touch", {"times": 1000})
        await client.call_tool("grow")
        seen = await receive(changes, 1)
        while seen[-1] != PromptsListChanged():  # what was read counts as told, so a few may follow it
            seen += await receive(changes, 1)
    assert set(seen) == {ResourceUpdated(PLACE), PromptsListChanged()}
    assert len(seen) < 100


async def test_the_change_handler_hears_of_changed_lists(wire: Wire) -> None:
    send, handled = trio.open_memory_channel[Any](10)
    async with wire.open(make_server(), change_handler=send.send) as client:
        await client.call_tool("grow")
        with trio.fail_after(HANG_SECONDS):
            found = [await handled.receive(), await handled.receive(), await handled.receive()]
    assert set(found) == {ToolsListChanged(), PromptsListChanged(), ResourcesListChanged()}


async def test_what_a_client_keeps_is_read_again_after_an_update(wire: Wire) -> None:
    async with wire.open(make_server()) as client, client.subscribe(PLACE) as changes:
        assert (await client.read_resource(PLACE)).text == "read 1"
        again = (await client.read_resource(PLACE)).text
        assert again == ("read 1" if wire.protocol == MODERN else "read 2")
        await client.call_tool("touch")
        await receive(changes, 1)
        assert (await client.read_resource(PLACE)).text > again
