"""Lists in pages, how long clients may keep them, and all that a listing shows."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest

from tests.conftest import MODERN, Wire
from trio_mcp import CacheHint, Icon, ProtocolError, ResourceDefinitionError, Server, ServerSettings
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import ListParams

LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


def make_server(count: int, **settings: Any) -> Server:
    server = Server("pages", settings=ServerSettings(**settings))
    for number in range(count):
        add(server, f"n{number}")
    return server


def add(server: Server, name: str) -> None:
    server.add_tool(lambda: name, name=name)
    server.add_prompt(lambda: name, name=name)
    server.add_resource(f"x://{name}", lambda: name, name=name)
    server.add_resource(f"y://{name}/{{part}}", lambda part: name, name=name)


async def ask(client: Any, method: str, cursor: str | None = None) -> tuple[list[str], str | None]:
    """The names on one page, and the cursor of the next, as they are on the wire."""
    page = msgspec.json.decode(await client._link.request(method, ListParams(cursor=cursor)))
    return [item["name"] for item in page[LISTS[method]]], page.get("nextCursor")


@pytest.mark.parametrize("method", LISTS)
async def test_a_list_comes_in_pages_of_the_set_size(wire: Wire, method: str) -> None:
    async with wire.open(make_server(5, page_size=2)) as client:
        first, cursor = await ask(client, method)
        second, cursor = await ask(client, method, cursor)
        third, end = await ask(client, method, cursor)
    assert [first, second, third] == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    assert end is None


async def test_a_client_reads_all_pages(wire: Wire) -> None:
    async with wire.open(make_server(5, page_size=2)) as client:
        tools = [tool.name for tool in await client.list_tools()]
        prompts = [prompt.name for prompt in await client.list_prompts()]
        resources = [resource.name for resource in await client.list_resources()]
        templates = [template.name for template in await client.list_resource_templates()]
    assert tools == prompts == resources == templates == [f"n{number}" for number in range(5)]


async def test_a_list_that_fills_its_page_has_no_cursor(wire: Wire) -> None:
    async with wire.open(make_server(2, page_size=2)) as client:
        assert await ask(client, "tools/list") == (["n0", "n1"], None)


@pytest.mark.parametrize("method", LISTS)
async def test_a_cursor_stays_right_when_the_list_changes(wire: Wire, method: str) -> None:
    server = make_server(6, page_size=2)
    async with wire.open(server) as client:
        first, cursor = await ask(client, method)
        # What was shown, what the cursor stands for, what would be next: none of it may move the place.
        for name in ("n0", "n1", "n2"):
            server.remove_tool(name)
            server.remove_prompt(name)
            server.disable(resources=[f"x://{name}", f"y://{name}/{{part}}"])
        add(server, "new")
        second, cursor = await ask(client, method, cursor)
        third, end = await ask(client, method, cursor)
    assert [first, second, third] == [["n0", "n1"], ["n3", "n4"], ["n5", "new"]]
    assert end is None


def cursor_of(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "2",
        "\u00e9",
        "=",
        cursor_of("tool"),
        cursor_of("tool:"),
        cursor_of("tool:0"),
        cursor_of("tool:-1"),
        cursor_of("tool:4"),
        cursor_of("tool:\u0661"),
        cursor_of("tool: 1"),
        cursor_of("tool:1_0"),
        cursor_of("tool:01"),
        cursor_of("tool:1") + "=",
        cursor_of("tool:1") + "!",
        cursor_of("tool:" + "9" * 5000),
        cursor_of("prompt:1"),
    ],
    ids=range(18),
)
async def test_a_cursor_that_was_never_given_out_is_invalid_params(cursor: str) -> None:
    async with Wire("memory", MODERN).open(make_server(3, page_size=2)) as client:
        with pytest.raises(ProtocolError, match="unknown cursor") as refused:
            await ask(client, "tools/list", cursor)
    assert refused.value.code == INVALID_PARAMS
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("method", LISTS)
async def test_every_cursor_is_unknown_to_a_server_without_pages(wire: Wire, method: str) -> None:
    async with wire.open(make_server(3, page_size=2)) as client:
        _, cursor = await ask(client, method)
    async with wire.open(make_server(3)) as client:
        with pytest.raises(ProtocolError, match="unknown cursor") as refused:
            await ask(client, method, cursor)
    assert refused.value.code == INVALID_PARAMS


async def test_a_replica_with_the_same_list_knows_the_cursor(wire: Wire) -> None:
    async with wire.open(make_server(3, page_size=2)) as client:
        _, cursor = await ask(client, "tools/list")
    async with wire.open(make_server(3, page_size=2)) as client:
        assert await ask(client, "tools/list", cursor) == (["n2"], None)


@pytest.mark.parametrize("size", [0, -1, 1.5, "3", True])
def test_a_page_size_that_is_no_count_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="page_size"):
        ServerSettings(page_size=size)


async def test_lists_and_reads_say_how_long_they_may_be_kept(wire: Wire) -> None:
    server = make_server(1, list_cache=CacheHint(60, "public"), read_cache=CacheHint(1.5))
    server.add_resource("z://own", lambda: "", name="own", cache=CacheHint(0, "public"))
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.list_tools()
        await client.list_prompts()
        await client.list_resources()
        await client.list_resource_templates()
        await client.read_resource("x://n0")
        await client.read_resource("z://own")
    results = [message["result"] for message in recorder.received_messages() if "result" in message][-6:]
    hints = [(result.get("ttlMs"), result.get("cacheScope")) for result in results]
    if wire.protocol == MODERN:
        assert hints == [(60_000, "public")] * 4 + [(1500, "private"), (0, "public")]
    else:
        assert hints == [(None, None)] * 6


@pytest.mark.parametrize(("ttl", "scope"), [(-1, "private"), (float("inf"), "private"), (1, "all")])
def test_a_hint_that_cannot_be_is_refused(ttl: Any, scope: Any) -> None:
    with pytest.raises(ValueError, match=r"ttl|scope"):
        CacheHint(ttl, scope)


def test_what_is_no_hint_is_refused() -> None:
    with pytest.raises(TypeError):
        ServerSettings(list_cache=60)  # type: ignore[arg-type]  # it is wrong on purpose
    with pytest.raises(ResourceDefinitionError, match="cache must be a CacheHint, not 60"):
        Server("x").add_resource("x://y", lambda: "", name="y", cache=60)  # type: ignore[arg-type]  # it is wrong on purpose


async def test_a_tool_is_listed_with_icons_and_meta(wire: Wire) -> None:
    server = Server("shown")
    icon = Icon(src="https://example.com/tool.png", mime_type="image/png", sizes=["48x48"], theme="light")

    @server.tool(title="Look", icons=[icon], meta={"example.com/owner": {"team": 5}})
    def look() -> str:
        """Look around."""
        return ""

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        (tool,) = await client.list_tools()
    assert (tool.title, tool.icons, tool.meta) == ("Look", [icon], {"example.com/owner": {"team": 5}})
    (shown,) = next(
        message["result"]["tools"]
        for message in recorder.received_messages()
        if "tools" in message.get("result", {})
    )
    assert shown["icons"] == [
        {"src": icon.src, "mimeType": "image/png", "sizes": ["48x48"], "theme": "light"}
    ]
    assert shown["_meta"] == {"example.com/owner": {"team": 5}}
