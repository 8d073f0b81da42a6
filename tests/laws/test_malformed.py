"""Law 12: every malformed message gets the specified response, and the session lives on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tests.support.raw_peer import MODERN_META, call, open_raw
from trio_mcp import Context, Server, ServerSettings

PARSE, INVALID, NO_METHOD, PARAMS, VERSION = -32700, -32600, -32601, -32602, -32022

ABSENT = object()

UNREADABLE: dict[str, tuple[bytes, int, Any]] = {
    "bad UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', PARSE, 1),
    "bad UTF-8 in params": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\xff"}}', PARSE, 1),
    "bad JSON": (b'{"jsonrpc":"2.0",', PARSE, ABSENT),
    "no JSON": (b"hello", PARSE, ABSENT),
    "a lone surrogate": (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', PARSE, ABSENT),
    "a number out of range": (b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}', PARSE, ABSENT),
    "deep nesting": (b"[" * 100_000 + b"]" * 100_000, PARSE, ABSENT),
    "deep nesting, cut off": (b"[" * 100_000, PARSE, ABSENT),
    "deep nesting in params": (
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        PARSE,
        1,
    ),
    "a number": (b"5", INVALID, ABSENT),
    "a string": (b'"text"', INVALID, ABSENT),
    "null": (b"null", INVALID, ABSENT),
    "an empty object": (b"{}", INVALID, ABSENT),
    "an empty batch": (b"[]", INVALID, ABSENT),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', INVALID, ABSENT),
    "no jsonrpc": (b'{"id":1,"method":"ping"}', INVALID, 1),
    "jsonrpc 1.0": (b'{"jsonrpc":"1.0","id":"a","method":"ping"}', INVALID, "a"),
    "jsonrpc a number": (b'{"jsonrpc":2.0,"id":1,"method":"ping"}', INVALID, 1),
    "id null": (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID, ABSENT),
    "id true": (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', INVALID, ABSENT),
    "id a float": (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', INVALID, ABSENT),
    "id a list": (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', INVALID, ABSENT),
    "method a number": (b'{"jsonrpc":"2.0","id":7,"method":5}', INVALID, 7),
    "method and result": (b'{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}', INVALID, 7),
    "neither method nor result": (b'{"jsonrpc":"2.0","id":7}', INVALID, 7),
    "params a number": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":5}', INVALID, 7),
    "params a list": (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}', PARAMS, 7),
}


def make_server() -> Server:
    server = Server("strict", version="1", settings=ServerSettings(max_frame_bytes=300_000))

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def report(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return "reported"

    return server


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("era", [None, "2025-11-25", "2025-06-18", "2024-11-05"])
async def test_a_malformed_message_gets_an_error(transport, era, kind):
    """Its code is that of JSON-RPC; an unreadable id is left out, or null before 2025-11-25."""
    data, code, ident = UNREADABLE[kind]
    if transport == "http" and era is None and data.startswith(b"["):
        code = INVALID  # an array outside of a session is refused without being parsed
    async with open_raw(transport, make_server()) as peer:
        if era is not None:
            await peer.initialize(era)
        answer = await peer.ask(data)
        assert answer["error"]["code"] == code, answer
        if ident is not ABSENT:
            assert answer["id"] == ident
        elif era in ("2025-06-18", "2024-11-05"):
            assert answer["id"] is None
        else:
            assert "id" not in answer
        assert "result" in await peer.ask(call("alive", "echo", text="x"))


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        ({"method": "tools/call", "params": {"name": "echo"}}, PARAMS, "initialize"),
        ({"method": "tools/list"}, PARAMS, "protocolVersion"),
        ({"method": "no/such"}, PARAMS, "initialize"),
        ({"method": "no/such", "params": {"_meta": MODERN_META}}, NO_METHOD, "no/such"),
        ({"method": "ping", "params": {"_meta": MODERN_META}}, NO_METHOD, "ping"),
        ({"method": "initialize", "params": {"_meta": MODERN_META}}, NO_METHOD, "initialize"),
        ({"method": "tools/call", "params": {"_meta": MODERN_META}}, PARAMS, "name"),
        ({"method": "tools/call", "params": {"name": 5, "_meta": MODERN_META}}, PARAMS, "name"),
        (
            {"method": "tools/call", "params": {"name": "nope", "_meta": MODERN_META}},
            PARAMS,
            "Unknown tool: nope",
        ),
        ({"method": "tools/list", "params": {"cursor": "x", "_meta": MODERN_META}}, PARAMS, "cursor"),
        ({"method": "tools/list", "params": {"_meta": 5}}, PARAMS, "_meta"),
        ({"method": "initialize", "params": {}}, PARAMS, "protocolVersion"),
        (
            {"method": "tools/list", "params": {"_meta": {**MODERN_META, "progressToken": True}}},
            PARAMS,
            "progressToken",
        ),
        (
            {
                "method": "tools/list",
                "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}},
            },
            PARAMS,
            "clientCapabilities",
        ),
        (
            {
                "method": "tools/list",
                "params": {"_meta": {**MODERN_META, "io.modelcontextprotocol/protocolVersion": 5}},
            },
            PARAMS,
            "string",
        ),
        (
            {
                "method": "tools/list",
                "params": {"_meta": {**MODERN_META, "io.modelcontextprotocol/logLevel": "loud"}},
            },
            PARAMS,
            "debug",
        ),
    ],
)
async def test_a_wrong_request_gets_an_error(connection, message, code, words):
    async with open_raw(connection, make_server()) as peer:
        answer = await peer.ask({"jsonrpc": "2.0", "id": 1, **message})
        assert answer["error"]["code"] == code, answer
        assert words in answer["error"]["message"]
        assert "result" in await peer.ask(call("alive", "echo", text="x"))


async def test_the_error_of_an_unsupported_version_names_those_supported(connection):
    meta = {**MODERN_META, "io.modelcontextprotocol/protocolVersion": "1900-01-01"}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    async with open_raw(connection, make_server()) as peer:
        error = (await peer.ask(request))["error"]
    assert error["code"] == VERSION
    assert error["data"]["requested"] == "1900-01-01"
    assert "2026-07-28" in error["data"]["supported"]


@pytest.mark.parametrize("token", [0, "", -3, "text", 2**40])
async def test_every_token_is_echoed(transport, token):
    async with open_raw(transport, make_server()) as peer:
        await peer.send(call(1, "report", token=token))
        progress = await peer.receive()
        assert progress["method"] == "notifications/progress"
        assert progress["params"] == {"progressToken": token, "progress": 1, "total": 2}
        assert type(progress["params"]["progressToken"]) is type(token)
        assert (await peer.receive())["id"] == 1


async def test_an_over_long_line_gets_an_error():
    """Only byte streams have lines: this does not concern the memory transport."""
    async with open_raw("stdio", make_server()) as peer:
        answer = await peer.ask(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 400_000 + b'"}')
        assert answer["error"]["code"] == PARSE
        assert "longer than 300000 bytes" in answer["error"]["message"]
        assert "result" in await peer.ask(call("alive", "echo", text="x"))


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":true}}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled"}',
        b'{"jsonrpc":"2.0","method":"notifications/nonsense","params":[1]}',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":"x"}}',
        b'{"jsonrpc":"2.0","id":99,"result":{}}',
        b'{"jsonrpc":"2.0","id":99,"error":{"code":1,"message":"x"}}',
    ],
)
async def test_notifications_and_responses_are_never_answered(transport, data):
    """They get no response, however malformed they are."""
    async with open_raw(transport, make_server()) as peer:
        if transport == "http":  # outside a session such a message is refused
            await peer.initialize("2025-11-25")
        await peer.send(data)
        assert (await peer.ask(call("next", "echo", text="x")))["id"] == "next"


async def test_an_id_in_use_is_refused(connection):
    server = make_server()

    @server.tool
    async def wait() -> None:
        await trio.sleep_forever()

    async with open_raw(connection, server) as peer:
        await peer.send(call(1, "wait"))
        answer = await peer.ask(call(1, "echo", text="x"))
        assert answer["error"]["code"] == INVALID
        assert "already in use" in answer["error"]["message"]


async def test_a_second_initialize_with_a_session_id_is_refused():
    """Over HTTP a session begins with a request that names none; on one wire it begins a new session."""
    async with open_raw("http", make_server()) as peer:
        await peer.initialize("2025-11-25")
        assert (await peer.initialize("2025-11-25"))["error"]["code"] == INVALID


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ],
)
async def test_initialize_agrees_on_a_legacy_version(transport, asked, agreed):
    async with open_raw(transport, make_server()) as peer:
        assert (await peer.initialize(asked))["result"]["protocolVersion"] == agreed


async def test_batches_are_answered_as_one_in_2025_03_26(transport):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize("2025-03-26")
        batch = [
            call(1, "echo", modern=False, text="a"),
            {"jsonrpc": "2.0", "id": 2, "method": "ping"},
            {"jsonrpc": "2.0", "method": "notifications/nonsense"},
            call(3, "report", modern=False, token="t"),
            5,
        ]
        await peer.send(msgspec.json.encode(batch))
        progress = await peer.receive()
        assert progress["params"]["progressToken"] == "t"
        answers = await peer.receive()
        assert {answer.get("id") for answer in answers} == {1, 2, 3, None}
        assert [a["error"]["code"] for a in answers if a.get("id") is None] == [INVALID]


async def test_one_connection_serves_both_eras(transport):
    """A modern request is served without a session, even after a legacy handshake."""
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize("2025-11-25")
        legacy = await peer.ask(call(1, "echo", modern=False, text="x"))
        modern = await peer.ask(call(2, "echo", text="x"))
    assert "resultType" not in legacy["result"]
    assert modern["result"]["resultType"] == "complete"
