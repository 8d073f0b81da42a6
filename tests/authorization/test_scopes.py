"""What a client may list and use by its scopes, over every transport and on every verb."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.conftest import LEGACY, MODERN, Wire
from trio_mcp import (
    CacheHint,
    Client,
    Context,
    Principal,
    PromptReference,
    ProtocolError,
    ResourceTemplateReference,
    ResourceUpdated,
    Server,
    ServerSettings,
    TaskConfig,
    ToolDefinitionError,
    open_client,
    open_server,
)
from trio_mcp.server.running import RunningServer
from trio_mcp.wire.messages import ListParams, ReadResourceParams, UpdateTaskParams

CODE = -32043


def make_server(**settings: Any) -> Server:
    server = Server("limited", version="1", settings=ServerSettings(**settings))

    @server.tool
    async def free(ctx: Context, child: str | None = None) -> Any:
        return None if child is None else (await ctx.call_tool(child)).data

    @server.tool(scopes=["write"])
    async def write() -> str:
        return "written"

    @server.tool
    async def asks(ctx: Context, scopes: list[str]) -> str:
        ctx.require_scopes(*scopes)
        return "allowed"

    @server.tool(task=TaskConfig(mode="optional"), scopes=["write"])
    async def slow() -> str:
        return "slow"

    @server.prompt
    def hello() -> str:
        return "hello"

    @server.prompt(scopes=["write"])
    def secret(word: str) -> str:
        return word

    @secret.complete("word")
    def words(typed: str) -> list[str]:
        return ["a", "b"]

    @server.resource("note://free")
    def free_note() -> str:
        return "free"

    @server.resource("note://secret", scopes=["read", "write"])
    def secret_note() -> str:
        return "secret"

    @server.resource("page://{name}", scopes=["write"])
    def page(name: str) -> str:
        return name

    @page.complete("name")
    def names(typed: str) -> list[str]:
        return ["x"]

    return server


@asynccontextmanager
async def open_as(
    running: RunningServer, scopes: Collection[str] | None, wire: Wire, name: str = "ann"
) -> AsyncIterator[Client]:
    principal = Principal(name, scopes=scopes)
    async with wire.open_running(running.authenticated(principal)) as client:
        yield client


@asynccontextmanager
async def refused(*scopes: str) -> AsyncIterator[None]:
    with pytest.raises(ProtocolError) as raised:
        yield
    assert (raised.value.code, raised.value.data) == (CODE, {"requiredScopes": sorted(scopes)})


async def list_all(client: Client) -> list[list[str]]:
    return [
        [tool.name for tool in await client.list_tools()],
        [prompt.name for prompt in await client.list_prompts()],
        [resource.uri for resource in await client.list_resources()],
        [template.uri_template for template in await client.list_resource_templates()],
    ]


EVERYTHING = [
    ["free", "write", "asks", "slow"],
    ["hello", "secret"],
    ["note://free", "note://secret"],
    ["page://{name}"],
]
FREE = [["free", "asks"], ["hello"], ["note://free"], []]


async def test_scopes_limit_what_a_client_lists_and_uses(wire: Wire) -> None:
    async with open_server(make_server(page_size=1)) as running:
        async with open_as(running, ["read"], wire) as client:
            assert await list_all(client) == FREE
            async with refused("write"):
                await client.call_tool("write")
            async with refused("write"):
                await client.call_tool("free", {"child": "write"})
            async with refused("more", "write"):
                await client.call_tool("asks", {"scopes": ["write", "more"]})
            assert (await client.call_tool("asks", {"scopes": ["read"]})).data == "allowed"
            async with refused("write"):
                await client.get_prompt("secret", {"word": "x"})
            async with refused("read", "write"):
                await client.read_resource("note://secret")
            async with refused("write"):
                await client.read_resource("page://x")
            assert (await client.read_resource("note://free")).text == "free"
            async with refused("write"):
                await client.complete(PromptReference(name="secret"), {"name": "word", "value": ""})
            async with refused("write"):
                await client.complete(
                    ResourceTemplateReference(uri="page://{name}"), {"name": "name", "value": ""}
                )
        async with open_as(running, ["read", "write"], wire) as client:
            assert await list_all(client) == EVERYTHING
            assert (await client.call_tool("free", {"child": "write"})).data == "written"
            assert (await client.read_resource("note://secret")).text == "secret"


async def test_a_client_that_no_token_limits_uses_everything(wire: Wire) -> None:
    server = make_server()
    async with open_server(server) as running, open_as(running, None, wire) as client:
        assert await list_all(client) == EVERYTHING
        assert (await client.call_tool("asks", {"scopes": ["any"]})).data == "allowed"
    async with wire.open(server) as client:
        assert await list_all(client) == EVERYTHING
        assert (await client.call_tool("write")).data == "written"
        assert (await client.call_tool("asks", {"scopes": ["any"]})).data == "allowed"


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_what_a_client_may_not_read_it_is_not_told_of(protocol: str) -> None:
    wire = Wire("memory", protocol)
    server = make_server()
    async with open_server(server) as running, open_as(running, ["read"], wire) as client:
        if protocol == LEGACY:
            async with refused("read", "write"), client.subscribe("note://secret"):
                pass
        else:
            async with client.listen(uris=["note://free", "note://secret"]) as channel:
                server.notify_resource_updated("note://secret")
                server.notify_resource_updated("note://free")
                change = await channel.receive()
            assert isinstance(change, ResourceUpdated)
            assert change.uri == "note://free"


async def test_a_task_needs_the_scopes_of_its_tool_on_every_verb() -> None:
    async with open_server(make_server()) as running:
        modern, legacy = Wire("memory", MODERN), Wire("memory", LEGACY)
        async with open_as(running, ["write"], modern) as client:
            task = await client.call_tool("slow", task=True)
            assert (await task.result()).data == "slow"
        for wire in (modern, legacy):
            async with open_as(running, ["read"], wire) as client:
                for ask in (client.fetch_task, client.await_task, client.cancel_task):
                    async with refused("write"):
                        await ask(task.id)
                if wire is modern:
                    async with refused("write"):
                        params = UpdateTaskParams(task_id=task.id, input_responses={})
                        await client._link.request("tasks/update", params)
                else:
                    assert await client.list_tasks() == []
        async with open_as(running, ["write"], legacy) as client:
            assert [found.id for found in await client.list_tasks()] == [task.id]
        assert [record.id for record in await running.list_tasks(Principal("ann"))] == [task.id]


async def test_a_list_that_looks_different_to_others_is_private() -> None:
    server = make_server(list_cache=CacheHint(60, "public"), read_cache=CacheHint(60, "public"))
    plain = Server("plain", version="1", settings=ServerSettings(list_cache=CacheHint(60, "public")))
    plain.add_tool(lambda: 1, name="one")
    scopes: list[Any] = []
    for listed in (server, plain):
        async with open_client(listed, protocol=MODERN) as client:
            raw = await client._link.request("tools/list", ListParams())
            scopes.append(msgspec.json.decode(raw)["cacheScope"])
    async with open_client(server, protocol=MODERN) as client:
        for uri in ("note://free", "note://secret"):
            raw = await client._link.request("resources/read", ReadResourceParams(uri=uri))
            scopes.append(msgspec.json.decode(raw)["cacheScope"])
    assert scopes == ["private", "public", "public", "private"]


@pytest.mark.parametrize("scopes", ["write", ["two words"], [""], ['"'], [1]])
def test_a_scope_that_no_token_can_have_is_refused_at_registration(scopes: Any) -> None:
    server = Server("limited")
    with pytest.raises(ToolDefinitionError, match=r"tool 'x'.*scope"):
        server.add_tool(lambda: 1, name="x", scopes=scopes)
