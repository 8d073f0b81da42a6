"""Structured results that do not fit the outputSchema of their tool."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest

from tests.conftest import Wire
from tests.support.fake_server import DISCOVERED, FakeServer, result
from trio_mcp import Client, ClientSettings, RemoteProtocolError, Server, ToolError, open_client

CHECKED = ClientSettings(validate_results=True)
PRICES = {
    "type": "object",
    "properties": {"prices": {"type": "array", "items": {"type": "number"}}},
    "required": ["prices"],
}


@attrs.frozen
class Place:
    name: str
    height: float


def connect(
    schema: Any, structured: Any = None, **members: Any
) -> tuple[FakeServer, AbstractAsyncContextManager[Client]]:
    tool = {"name": "get", "inputSchema": {"type": "object"}}
    tools = [tool if schema is None else {**tool, "outputSchema": schema}]
    content = {} if structured is None else {"structuredContent": structured}
    server = FakeServer(
        {
            "server/discover": result(DISCOVERED),
            "tools/list": result({"tools": tools}),
            "tools/call": result({"content": [], **content, **members}),
        }
    )
    return server, open_client(server, protocol="2026-07-28", settings=CHECKED)


async def test_the_results_of_our_servers_fit(wire: Wire) -> None:
    server = Server("places")

    @server.tool
    def find(name: str) -> Place:
        return Place(name, 3.0)

    @server.tool
    def count() -> int:
        return 5

    @server.tool
    def say() -> str:
        return "hello"

    async with wire.open(server, settings=CHECKED) as client:
        assert (await client.call_tool("find", {"name": "Ulm"})).data == {"name": "Ulm", "height": 3.0}
        assert (await client.call_tool("count")).data == 5
        assert (await client.call_tool("say")).data == "hello"


async def test_the_error_names_the_tool_and_the_place() -> None:
    _, connecting = connect(PRICES, {"prices": [1, 2.5, "free"]})
    async with connecting as client:
        words = r"tool 'get' does not fit its outputSchema at \$\.prices\[2\]: 'free' is not of type 'number'"
        with pytest.raises(RemoteProtocolError, match=words):
            await client.call_tool("get")
        task_free = await client.call_tool("get", task=True)  # answered at once
        with pytest.raises(RemoteProtocolError, match=words):
            await task_free.result()


async def test_a_long_value_is_not_quoted_whole() -> None:
    _, connecting = connect(PRICES, {"prices": ["x" * 10_000]})
    async with connecting as client:
        with pytest.raises(RemoteProtocolError) as caught:
            await client.call_tool("get")
    assert len(str(caught.value)) < 500


async def test_a_tool_with_a_schema_must_have_structured_content() -> None:
    _, connecting = connect(PRICES)
    async with connecting as client:
        with pytest.raises(RemoteProtocolError, match="lacks the structured content"):
            await client.call_tool("get")


async def test_results_without_a_schema_and_errors_are_not_checked() -> None:
    _, connecting = connect(None, {"any": "thing"})
    async with connecting as client:
        assert (await client.call_tool("get")).structured_content == {"any": "thing"}
    _, connecting = connect(PRICES, isError=True)
    async with connecting as client:
        with pytest.raises(ToolError):
            await client.call_tool("get")


async def test_the_tools_are_listed_once_until_they_change() -> None:
    server, connecting = connect(PRICES, {"prices": []})
    async with connecting as client:
        for _ in range(3):
            await client.call_tool("get")
        assert server.asked.count("tools/list") == 1
        await server.send({"method": "notifications/tools/list_changed"})
        server.rules["tools/list"] = result(
            {"tools": [{"name": "get", "inputSchema": {}, "outputSchema": {"required": ["total"]}}]}
        )
        with pytest.raises(RemoteProtocolError, match="'total' is a required property"):
            await client.call_tool("get")
        assert server.asked.count("tools/list") == 2


async def test_a_tool_that_is_not_listed_is_not_checked(caplog: Any) -> None:
    _, connecting = connect(PRICES)
    async with connecting as client:
        await client.call_tool("hidden")
    assert "tool 'hidden' cannot be checked" in caplog.text


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": 5}, "the outputSchema of tool 'get' is none"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "cannot be checked by its outputSchema"),
        ({"properties": {"a": {"$ref": "#/$defs/nowhere"}}}, "cannot be checked by its outputSchema"),
        ({"properties": {"a": {"pattern": "("}}}, "the outputSchema of tool 'get' is none"),
        ({"$ref": "#"}, "cannot be checked by its outputSchema: it is nested too deeply"),
        ({"$schema": 5}, "the outputSchema of tool 'get' is none: 5 is no dialect"),
        ({"$schema": "https://example.com/mine"}, "'https://example.com/mine' is no dialect"),
        ({"$schema": "http://["}, "the outputSchema of tool 'get' is none"),
    ],
    ids=["no schema", "elsewhere", "nowhere", "pattern", "endless", "no name", "unknown dialect", "no URI"],
)
async def test_a_schema_that_cannot_be_used_is_the_servers_fault(schema: Any, words: str) -> None:
    _, connecting = connect(schema, {"a": "b"})
    async with connecting as client:
        with pytest.raises(RemoteProtocolError, match=words):
            await client.call_tool("get")


async def test_a_schema_may_refer_to_its_dialect() -> None:
    schema = {"properties": {"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}}
    _, connecting = connect(schema, {"a": {"type": 5}})
    async with connecting as client:
        with pytest.raises(RemoteProtocolError, match=r"does not fit its outputSchema at \$\.a"):
            await client.call_tool("get")


async def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema.validators", None)
    _, connecting = connect(PRICES)
    with pytest.raises(ImportError, match=r"trio-mcp\[validation\]"):
        await connecting.__aenter__()


async def test_results_are_not_checked_unasked() -> None:
    server, _ = connect(PRICES, {"prices": "free"})
    async with open_client(server, protocol="2026-07-28") as client:
        assert (await client.call_tool("get")).data == {"prices": "free"}
    assert "tools/list" not in server.asked
