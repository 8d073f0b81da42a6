"""Servers that are mounted in others: what they offer appears there, and changes with them."""

from __future__ import annotations

import logging
import threading
from typing import Any, Literal

import pytest

from tests.conftest import Wire
from tests.support.change_listener import open_listener
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    DefinitionError,
    ProtocolError,
    ResourceDefinitionError,
    Server,
    ServerSettings,
    TextContent,
    ToolDefinitionError,
    open_client,
)

OFFERS: tuple[Literal["prompts"], Literal["resources"]] = ("prompts", "resources")


def make_child(name: str = "child") -> Server:
    """Offers one thing of each kind."""
    child = Server(name)
    child.add_tool(lambda: f"tool of {name}", name="t")
    child.add_prompt(lambda: f"prompt of {name}", name="p")
    child.add_resource("x://r", lambda: f"resource of {name}", name="r")
    child.add_resource("x://{part}/all", lambda part: f"{part} of {name}", name="all")
    return child


async def list_keys(client: Client) -> dict[str, list[str]]:
    return {
        "tools": [tool.name for tool in await client.list_tools()],
        "prompts": [prompt.name for prompt in await client.list_prompts()],
        "resources": [resource.uri for resource in await client.list_resources()],
        "templates": [template.uri_template for template in await client.list_resource_templates()],
    }


def text_of(content: Any) -> str:
    assert isinstance(content, TextContent)
    return content.text


async def test_what_is_mounted_has_the_prefix_in_its_name(wire: Wire) -> None:
    parent, child = Server("parent"), make_child()
    parent.add_tool(lambda: "own", name="t")
    parent.mount(child, "sub")
    async with wire.open(parent) as client:
        assert await list_keys(client) == {
            "tools": ["t", "sub_t"],
            "prompts": ["sub_p"],
            "resources": ["x://sub/r"],
            "templates": ["x://sub/{part}/all"],
        }
        assert (await client.call_tool("t")).data == "own"
        assert (await client.call_tool("sub_t")).data == "tool of child"
        assert text_of((await client.get_prompt("sub_p")).messages[0].content) == "prompt of child"
        assert (await client.read_resource("x://sub/r")).text == "resource of child"
        read = await client.read_resource("x://sub/seven/all")
        assert read.text == "seven of child"
        assert read.contents[0].uri == "x://sub/seven/all"
        for unknown in ("sub_", "sub_x", "sub"):
            with pytest.raises(ProtocolError, match=f"Unknown tool: {unknown}"):
                await client.call_tool(unknown)


async def test_without_a_prefix_the_names_stay() -> None:
    parent = Server("parent")
    parent.mount(make_child())
    async with open_client(parent) as client:
        assert (await list_keys(client))["resources"] == ["x://r"]
        assert (await client.call_tool("t")).data == "tool of child"
        assert (await client.read_resource("x://7/all")).contents[0].uri == "x://7/all"


async def test_what_the_mounted_server_changes_appears_at_once(wire: Wire) -> None:
    parent, child = (
        Server("parent", settings=ServerSettings(offers=OFFERS)),
        Server("child"),
    )
    parent.mount(child, "sub")
    async with open_listener(wire, parent) as listener:
        await listener.watch_lists()
        await listener.client.list_tools()  # an answer comes behind the handshake of older clients
        child.add_tool(lambda: "new", name="t")
        await listener.receive(method="notifications/tools/list_changed")
        assert [tool.name for tool in await listener.client.list_tools()] == ["sub_t"]
        child.add_resource("x://r", lambda: "new", name="r")
        await listener.receive(method="notifications/resources/list_changed")
        child.add_prompt(lambda: "new", name="p")
        await listener.receive(method="notifications/prompts/list_changed")
        assert (await list_keys(listener.client))["prompts"] == ["sub_p"]
        child.disable(tools="t", resources="x://r")
        await listener.receive(method="notifications/tools/list_changed")
        await listener.receive(method="notifications/resources/list_changed")
        listed = await list_keys(listener.client)
        assert (listed["tools"], listed["resources"]) == ([], [])
        child.enable(tools="t")
        await listener.receive(method="notifications/tools/list_changed")
        assert (await listener.client.call_tool("sub_t")).data == "new"
        child.remove_tool("t")
        await listener.receive(method="notifications/tools/list_changed")
        with pytest.raises(ProtocolError, match="Unknown tool"):
            await listener.client.call_tool("sub_t")


async def test_an_update_of_a_mounted_resource_is_told_under_its_uri_there(wire: Wire) -> None:
    parent, child = Server("parent"), make_child()
    parent.mount(child, "sub")
    async with open_listener(wire, parent) as listener:
        await listener.subscribe("x://sub/r")
        await listener.subscribe("x://sub/7/all")
        child.notify_resource_updated("x://r")
        told = await listener.receive(method="notifications/resources/updated")
        assert told["params"]["uri"] == "x://sub/r"
        child.notify_resource_updated("x://7/all")
        told = await listener.receive(method="notifications/resources/updated")
        assert told["params"]["uri"] == "x://sub/7/all"


async def test_one_server_is_mounted_twice_and_at_several_levels() -> None:
    child, middle, parent = make_child(), Server("middle"), Server("parent")
    middle.mount(child, "a")
    parent.mount(middle, "m")
    parent.mount(child, "b")
    async with open_client(parent) as client:
        assert await list_keys(client) == {
            "tools": ["m_a_t", "b_t"],
            "prompts": ["m_a_p", "b_p"],
            "resources": ["x://m/a/r", "x://b/r"],
            "templates": ["x://m/a/{part}/all", "x://b/{part}/all"],
        }
        for name in ("m_a_t", "b_t"):
            assert (await client.call_tool(name)).data == "tool of child"
        read = await client.read_resource("x://m/a/7/all")
        assert (read.text, read.contents[0].uri) == ("7 of child", "x://m/a/7/all")
        middle.disable(tools="a_t")
        child.add_tool(lambda: "later", name="later")
        assert (await list_keys(client))["tools"] == ["b_t", "m_a_later", "b_later"]
        assert (await client.call_tool("m_a_later")).data == "later"


async def test_names_are_given_by_a_mapping_or_a_function() -> None:
    child, parent = make_child(), Server("parent")
    names = {"t": "work", "x://r": "y://other", "x://{part}/all": "y://all/{part}"}
    parent.mount(child, "sub", names=names)
    parent.mount(child, names=lambda name: f"{name}{len(name)}" if ":" not in name else f"z{name}")
    async with open_client(parent) as client:
        assert await list_keys(client) == {
            "tools": ["work", "t1"],
            "prompts": ["sub_p", "p1"],
            "resources": ["y://other", "zx://r"],
            "templates": ["y://all/{part}", "zx://{part}/all"],
        }
        assert (await client.call_tool("work")).data == "tool of child"
        assert (await client.read_resource("y://other")).contents[0].uri == "y://other"
        read = await client.read_resource("y://all/7")
        assert (read.text, read.contents[0].uri) == ("7 of child", "y://all/7")


@pytest.mark.parametrize("name", ["", 7])
def test_names_that_are_none_are_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="names must give text that is not empty for 't'"):
        Server("parent").mount(make_child(), names={"t": name})


def test_a_template_keeps_its_variables() -> None:
    with pytest.raises(ResourceDefinitionError, match="cannot be mounted as 'y://all', which has other"):
        Server("parent").mount(make_child(), names={"x://{part}/all": "y://all"})
    with pytest.raises(ResourceDefinitionError, match=r"cannot be mounted as 'y://\{a\}', which has other"):
        Server("parent").mount(make_child(), names={"x://r": "y://{a}"})


@pytest.mark.parametrize("prefix", ["", "a b", "a/b", "{a}", 7])
def test_a_prefix_that_no_uri_can_have_is_refused(prefix: Any) -> None:
    with pytest.raises(DefinitionError, match="a prefix must be of the characters"):
        Server("parent").mount(make_child(), prefix)


def test_only_servers_are_mounted() -> None:
    with pytest.raises(TypeError, match="a server is mounted, not 'child'"):
        Server("parent").mount("child")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="names must be a mapping or a function, not 7"):
        Server("parent").mount(make_child(), names=7)  # type: ignore[arg-type]


def test_circles_are_refused() -> None:
    one, two, three = Server("one"), Server("two"), Server("three")
    one.mount(two, "a")
    two.mount(three, "b")
    for outer, inner in ((one, one), (two, one), (three, one), (three, two)):
        with pytest.raises(DefinitionError, match="cannot be mounted in"):
            outer.mount(inner, "c")
    assert not three.definition.mounted


async def test_names_that_are_taken_are_an_error_and_nothing_is_mounted() -> None:
    parent = make_child("parent")
    with pytest.raises(DefinitionError) as refused:
        parent.mount(make_child())
    assert str(refused.value) == (
        "'child' cannot be mounted in 'parent', where names are taken: tool 't', prompt 'p', "
        "resource 'x://r', template 'x://{part}/all'. A prefix keeps them apart"
    )
    child = make_child()
    child.add_tool(lambda: "", name="u")
    with pytest.raises(DefinitionError, match="names are taken: tool 'one'"):
        Server("other").mount(child, names=lambda name: "one" if len(name) == 1 else None)
    child.add_tool(lambda: "", name="later")
    assert list(parent.tools) == ["t"]


async def test_a_name_that_is_taken_later_stays_until_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    parent, one, two = Server("parent"), Server("one"), Server("two")
    parent.mount(one)
    parent.mount(two)
    one.add_tool(lambda: "one", name="t")
    with pytest.raises(ToolDefinitionError, match="there is already a tool named 't'"):
        parent.add_tool(lambda: "parent", name="t")
    two.add_tool(lambda: "two", name="t")
    two.disable(tools="t")
    two.enable(tools="t")
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "tool 't' of the mounted server 'two' is not offered, because the name 't' is taken"
    ]
    async with open_client(parent) as client:
        assert (await client.call_tool("t")).data == "one"
        one.remove_tool("t")
        assert (await client.call_tool("t")).data == "two"
        two.remove_tool("t")
        parent.add_tool(lambda: "parent", name="t")
        two.add_tool(lambda: "two", name="t")
        assert (await client.call_tool("t")).data == "parent"
        parent.remove_tool("t")
        assert (await client.call_tool("t")).data == "two"


async def test_the_server_around_hides_what_is_mounted() -> None:
    parent, child = Server("parent"), make_child()
    child.add_tool(lambda: "", name="danger", tags="admin")
    parent.mount(child, "sub")
    parent.disable(tags="admin")
    assert list(parent.tools) == ["sub_t"]
    child.add_tool(lambda: "", name="more", tags="admin")
    assert (list(parent.tools), list(child.tools)) == (["sub_t"], ["t", "danger", "more"])
    parent.disable(tools="sub_t", resources="x://sub/r")
    child.disable(tools="t")
    child.enable(tools="t")
    async with open_client(parent) as client:
        listed = await list_keys(client)
        assert (listed["tools"], listed["resources"]) == ([], [])
        parent.enable(everything=True)
        assert (await list_keys(client))["tools"] == ["sub_t", "sub_danger", "sub_more"]
        with pytest.raises(ToolDefinitionError, match="tool 'sub_t' is that of a mounted server: remove it"):
            parent.remove_tool("sub_t")


async def test_unmounting_takes_all_away(wire: Wire) -> None:
    parent, child, other = Server("parent"), make_child(), make_child("other")
    mount = parent.mount(child, "sub")
    assert (mount.server, mount.prefix) == (child, "sub")
    again = parent.mount(other, "again")
    async with open_listener(wire, parent) as listener:
        await listener.watch_lists()
        await listener.client.list_tools()  # an answer comes behind the handshake of older clients
        parent.unmount(mount)
        await listener.receive(method="notifications/tools/list_changed")
        assert await list_keys(listener.client) == {
            "tools": ["again_t"],
            "prompts": ["again_p"],
            "resources": ["x://again/r"],
            "templates": ["x://again/{part}/all"],
        }
    child.add_tool(lambda: "", name="later")
    assert list(parent.tools) == ["again_t"]
    assert parent.definition.mounted == [other.definition]
    with pytest.raises(DefinitionError, match="'child' is not mounted there any more"):
        parent.unmount(mount)
    with pytest.raises(DefinitionError, match="is no mount of 'child'"):
        child.unmount(again)
    parent.mount(child, "sub")
    assert list(parent.tools) == ["again_t", "sub_t", "sub_later"]


def test_threads_change_mounted_servers_at_once() -> None:
    """Each server is above one and below another, and a name becomes free while others take it."""
    bottom, parent = Server("bottom"), Server("parent")
    middles = [Server(f"middle {number}") for number in range(4)]
    for middle in middles:
        middle.mount(bottom)
        parent.mount(middle)
    start = threading.Barrier(len(middles) + 1)

    def change(server: Server) -> None:
        start.wait()
        for number in range(200):
            name = f"t{number % 3}"
            try:
                server.add_tool(lambda: "", name=name)
            except ToolDefinitionError:  # that of the bottom is there
                continue
            server.disable(tools=name)
            server.enable(tools=name)
            server.remove_tool(name)

    threads = [threading.Thread(target=change, args=[server], daemon=True) for server in (bottom, *middles)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
        assert not thread.is_alive(), "two threads wait for each other"
    bottom.add_tool(lambda: "", name="last")
    assert [list(server.tools) for server in (bottom, *middles, parent)] == [["last"]] * 6


async def test_what_the_mounted_server_offers_is_declared() -> None:
    child = Server("child", settings=ServerSettings(offers=OFFERS[:1]))
    parent = Server("parent")
    parent.mount(child)
    async with open_client(parent) as client:
        assert await client.list_prompts() == []
        with pytest.raises(ProtocolError, match="is for servers with resources"):
            await client.list_resources()
