"""What a client reads of answers that do not keep to the schema, and what fails a call all the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import LEGACY
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, result
from trio_mcp import RemoteProtocolError, TextContent, open_client
from trio_mcp.client.task_snapshot import read_snapshot

TEXT = {"type": "text", "text": "hi"}
SCHEMA = {"type": "object"}


async def call(answer: dict[str, Any]) -> Any:
    server = FakeServer(
        {"server/discover": result(DISCOVERED), "tools/call": lambda request: {"id": request.id, **answer}}
    )
    async with open_client(server) as client:
        return await client.call_tool("any", raise_on_error=False)


@pytest.mark.parametrize(
    "answer",
    [
        {"error": None, "result": {"content": [TEXT]}},
        {"method": None, "result": {"content": [TEXT]}},
        {"result": {"content": [TEXT], "isError": None, "_meta": None, "resultType": None}},
        {"result": {"content": [{**TEXT, "annotations": {"priority": "high"}, "_meta": None}]}},
        {"result": {"content": [{**TEXT, "annotations": "none"}]}},
        {"result": {"content": [{"type": "hologram", "data": "x"}, TEXT, {"type": "image"}, 5]}},
    ],
)
async def test_a_result_with_odd_optional_members_is_read(answer):
    assert (await call(answer)).content[0].text == "hi"


async def test_a_null_result_beside_an_error_is_absent():
    with pytest.raises(Exception, match="broken"):
        await call({"result": None, "error": {"code": 1, "message": "broken"}})


@pytest.mark.parametrize("content", [{}, {"content": None}])
async def test_a_result_may_have_structured_content_alone(content):
    read = await call({"result": {"structuredContent": {"a": 1}, **content}})
    assert (read.content, read.structured_content, read.data) == ([], {"a": 1}, {"a": 1})


@pytest.mark.parametrize(
    ("meta", "data"),
    [
        ({"fastmcp": {"wrap_result": True}}, [1, 2]),
        ({"fastmcp": {"wrap_result": False}}, {"result": [1, 2]}),
        ({"fastmcp": True}, {"result": [1, 2]}),
        ({}, {"result": [1, 2]}),
    ],
)
async def test_a_value_that_fastmcp_has_put_into_an_object_is_the_data(meta, data):
    read = await call({"result": {"content": [], "structuredContent": {"result": [1, 2]}, "_meta": meta}})
    assert (read.structured_content, read.data) == ({"result": [1, 2]}, data)


async def test_a_content_block_that_is_left_out_is_named(caplog):
    read = await call({"result": {"content": [TEXT, {"type": "hologram"}]}})
    assert read.content == [TextContent(text="hi")]
    assert "element 1 in content of the tool's result is left out: the unknown type 'hologram'" in caplog.text


@pytest.mark.parametrize("flawed", [{}, {"content": 5}, {"content": [TEXT], "isError": "no"}])
async def test_a_result_that_says_nothing_certain_fails_the_call(flawed):
    with pytest.raises(RemoteProtocolError, match="malformed tool result"):
        await call({"result": flawed})


async def test_one_odd_tool_does_not_hide_the_others(caplog):
    tools: list[Any] = [
        {"name": "no schema"},
        {"name": "null schema", "inputSchema": None},
        {"name": "a", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": "yes", "title": "A"}},
        {"name": "b", "inputSchema": SCHEMA, "icons": [{"src": 5}, {"src": "x"}], "description": None},
        {"name": "c", "inputSchema": SCHEMA, "execution": {"taskSupport": "perhaps"}, "title": 7},
        {"name": "d", "inputSchema": SCHEMA, "outputSchema": None, "annotations": None},
        5,
    ]
    listed = result({"tools": tools, "nextCursor": None, "ttlMs": "soon", "cacheScope": None})
    server = FakeServer({"server/discover": result(DISCOVERED), "tools/list": listed})
    async with open_client(server) as client:
        read = await client.list_tools()
    assert [tool.name for tool in read] == ["a", "b", "c", "d"]
    assert read[0].annotations is not None
    assert (read[0].annotations.title, read[0].annotations.read_only_hint) == ("A", None)
    assert read[1].icons is not None
    assert [icon.src for icon in read[1].icons] == ["x"]
    assert "'no schema' in tools of the server's list of tools is left out" in caplog.text
    assert "readOnlyHint" in caplog.text


@pytest.mark.parametrize(
    "odd",
    [
        {"serverInfo": None},
        {"serverInfo": {"name": 5}},
        {"capabilities": None},
        {"instructions": None, "_meta": None},
        {"instructions": 5},
    ],
)
async def test_a_handshake_with_odd_optional_members_succeeds(odd):
    server = FakeServer({"initialize": result({**INITIALIZED, **odd})})
    async with open_client(server, protocol=LEGACY) as client:
        assert client.instructions is None


async def test_a_handshake_without_a_version_is_an_error():
    server = FakeServer({"initialize": result({**INITIALIZED, "protocolVersion": None})})
    with pytest.raises(RemoteProtocolError, match="protocolVersion"):
        async with open_client(server, protocol=LEGACY):
            raise AssertionError("never reached")


def test_a_task_is_read_though_its_times_and_its_progress_are_odd():
    snapshot = read_snapshot(
        b'{"taskId":"t","status":"working","createdAt":"yesterday","ttl":null,"pollInterval":"often",'
        b'"_meta":{"io.github.trio-mcp/progress":{"current":1' + b"0" * 400 + b',"total":5,"message":"m"}}}'
    )
    assert (snapshot.id, snapshot.status, snapshot.created_at, snapshot.current) == (
        "t",
        "working",
        None,
        None,
    )
    assert (snapshot.total, snapshot.message) == (5, "m")


@pytest.mark.parametrize("ttl", [float("inf"), float("nan"), 10**400, 0, "1"], ids=lambda ttl: str(ttl)[:9])
async def test_a_ttl_that_is_no_time_is_refused(ttl):
    async with open_client(FakeServer({"server/discover": result(DISCOVERED)})) as client:
        with pytest.raises(ValueError, match="ttl"):
            await client.call_tool("any", task=True, ttl=ttl)


@pytest.mark.parametrize("name", ["idle_timeout", "max_timeout"])
@pytest.mark.parametrize("seconds", [10**400, 10**5000], ids=["long", "too long to be shown"])
async def test_a_timeout_that_no_float_holds_is_refused(name, seconds):
    async with open_client(FakeServer({"server/discover": result(DISCOVERED)})) as client:
        with pytest.raises(ValueError, match=name):
            await client.call_tool("any", **{name: seconds})
