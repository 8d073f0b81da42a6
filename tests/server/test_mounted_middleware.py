"""Middleware of a server and of one that is mounted in it, and around what a proxy passes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import LEGACY, MODERN
from trio_mcp import (
    Context,
    PromptReference,
    ResourceTemplateReference,
    Server,
    ServerSettings,
    TaskConfig,
    ToolAnnotations,
    ToolError,
    create_proxy,
    open_client,
)
from trio_mcp.middleware import Caching, ResponseSizeLimit


class Names:
    """Middleware that notes the names, or URIs, of what it runs around."""

    def __init__(self, notes: list[str], who: str) -> None:
        self.notes = notes
        self.who = who

    async def __call__(self, ctx, call_next):
        self.notes.append(f"{self.who} {ctx.uri if hasattr(ctx, 'uri') else ctx.name}")
        return await call_next(ctx)


def make_inner(**options: Any) -> Server:
    server = Server("inner", version="1", **options)

    @server.tool
    async def count(ctx: Context, to: int) -> int:
        for number in range(to):
            await ctx.report_progress(number + 1, to)
        return to

    @server.tool
    async def fail() -> str:
        raise OSError("the reason")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def whose(ctx: Context) -> str:
        return str(ctx.server.name)

    @server.resource("notes://{name}")
    async def note(name: str) -> str:
        return f"note of {name}"

    @server.prompt
    async def greet(name: str) -> str:
        return f"Greet {name}."

    @greet.complete("name")
    def names(value: str) -> list[str]:
        return ["ada"]

    @note.complete("name")
    def notes(value: str) -> list[str]:
        return ["bob"]

    return server


def put_around(server: Server, notes: list[str], who: str) -> None:
    for add in (
        server.add_tool_middleware,
        server.add_resource_middleware,
        server.add_prompt_middleware,
    ):
        add(Names(notes, who))


@pytest.mark.parametrize("when", ["before the mount", "after the mount"])
async def test_the_middleware_of_both_runs_that_of_the_server_around_first(when):
    inner, outer = make_inner(), Server("outer", version="1")
    notes: list[str] = []
    if when == "before the mount":
        put_around(inner, notes, "inner")
        put_around(outer, notes, "outer")
    outer.mount(inner, prefix="in")
    updates: list[float] = []
    async with open_client(outer) as client:
        if when == "after the mount":
            put_around(inner, notes, "inner")
            put_around(outer, notes, "outer")
        result = await client.call_tool(
            "in_count", {"to": 50}, progress_handler=lambda progress, *_: updates.append(progress)
        )
        assert result.data == 50
        assert updates == list(range(1, 51))
        assert (await client.call_tool("in_whose")).data == "inner"
        (uri,) = [template.uri_template for template in await client.list_resource_templates()]
        read = await client.read_resource(uri.replace("{name}", "ada"))
        assert read.text == "note of ada"
        got = await client.get_prompt("in_greet", {"name": "ada"})
        assert got.messages[0].content.text == "Greet ada."
        typed = {"name": "name", "value": ""}
        assert (await client.complete(PromptReference(name="in_greet"), typed)).values == ["ada"]
        assert (await client.complete(ResourceTemplateReference(uri=uri), typed)).values == ["bob"]
    assert notes == [
        "outer in_count",
        "inner count",
        "outer in_whose",
        "inner whose",
        f"outer {uri.replace('{name}', 'ada')}",
        "inner notes://ada",
        "outer in_greet",
        "inner greet",
    ]


async def test_a_mounted_tool_under_middleware_shows_errors_as_its_own_server_does():
    inner, outer = make_inner(settings=ServerSettings(show_errors=True)), Server("outer")
    outer.mount(inner, prefix="in")
    outer.add_tool_middleware(Names([], "outer"))
    async with open_client(outer) as client:
        with pytest.raises(ToolError, match="OSError: the reason"):
            await client.call_tool("in_fail")


async def test_a_mounted_tool_is_a_task_under_middleware_of_both(autojump_clock):
    inner, outer = make_inner(default_task=TaskConfig(promote_after=0)), Server("outer")
    notes: list[str] = []
    outer.mount(inner, prefix="in")
    put_around(outer, notes, "outer")
    put_around(inner, notes, "inner")
    async with open_client(outer) as client:
        task = await client.call_tool("in_count", {"to": 3}, task=True)
        assert (await task.result()).data == 3
    assert notes == ["outer in_count", "inner count"]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_an_update_in_a_mounted_server_makes_a_kept_result_stale(protocol):
    inner, outer = Server("inner"), Server("outer")
    outer.add_middleware(Caching())
    held = ["old"]

    @inner.resource("state://now")
    async def state() -> str:
        return held[0]

    outer.mount(inner, prefix="in")
    async with open_client(outer, protocol=protocol) as client:
        (uri,) = [resource.uri for resource in await client.list_resources()]
        assert (await client.read_resource(uri)).text == "old"
        held[0] = "new"
        assert (await client.read_resource(uri)).text == "old"
        inner.notify_resource_updated("state://now")
        assert (await client.read_resource(uri)).text == "new"


@pytest.mark.parametrize("mounted", [False, True])
async def test_what_a_proxy_passes_on_passes_its_middleware(mounted):
    notes: list[str] = []
    proxy = create_proxy(make_inner())
    put_around(proxy, notes, "proxy")
    proxy.add_resource_middleware(ResponseSizeLimit(10_000))
    proxy.add_middleware(Caching())
    server = proxy
    if mounted:
        server = Server("outer")
        server.mount(proxy)
        put_around(server, notes, "outer")
    updates: list[float] = []
    async with open_client(server) as client:
        result = await client.call_tool(
            "count", {"to": 50}, progress_handler=lambda progress, *_: updates.append(progress)
        )
        assert result.data == 50
        assert updates == list(range(1, 51))
        assert (await client.read_resource("notes://ada")).text == "note of ada"
        got = await client.get_prompt("greet", {"name": "ada"})
        assert got.messages[0].content.text == "Greet ada."
    assert [note for note in notes if note.startswith("proxy")] == [
        "proxy count",
        "proxy notes://ada",
        "proxy greet",
    ]
    assert len(notes) == (6 if mounted else 3)
