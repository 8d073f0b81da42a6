"""What a server answers to nonsense is short, whatever was sent, and nesting of any depth is only refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.raw_peer import MODERN_META, call, open_raw
from trio_mcp import Server, ServerSettings

LONG = "x" * 8_000
ODD = "\u200b" * 2_600
"""As long in bytes, and longer in every way in which it is quoted."""


def make_server() -> Server:
    server = Server("bounded", version="1", settings=ServerSettings(max_frame_bytes=1 << 22))

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def ignore(value: Any) -> str:
        return "ignored"

    return server


def member(number: int, method: str = "ping", **params: Any) -> dict[str, Any]:
    """One request of a batch."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


BATCHES: dict[str, list[Any]] = {
    "unknown methods": [member(number, LONG) for number in range(128)],
    "odd unknown methods": [member(number, ODD) for number in range(128)],
    "unknown tools": [member(number, "tools/call", name=LONG) for number in range(128)],
    "odd cursors": [member(number, "tools/list", cursor=ODD) for number in range(128)],
    "bad levels": [member(number, "logging/setLevel", level=ODD) for number in range(128)],
    "bad arguments": [
        member(number, "tools/call", name="echo", arguments={LONG: 1, "text": [LONG]}) for number in range(64)
    ],
    "no messages": [LONG] * 128,
    "ids": [{"jsonrpc": "2.0", "id": f"{number}{LONG}", "method": "no/such"} for number in range(128)],
    "ids in use": [{"jsonrpc": "2.0", "id": ODD, "method": "ping", "params": 5} for _ in range(128)],
}


@pytest.mark.parametrize("kind", BATCHES)
async def test_the_answer_to_a_batch_of_nonsense_is_not_much_longer_than_it(transport, kind):
    batch = msgspec.json.encode(BATCHES[kind])
    assert len(batch) > 1_000_000
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize("2025-03-26")
        answers = await peer.ask(batch)
    assert len(answers) == len(BATCHES[kind])
    assert len(msgspec.json.encode(answers)) < len(batch) + 100_000


@pytest.mark.parametrize("text", [LONG, ODD])
async def test_an_error_quotes_only_the_beginning_of_what_was_sent(transport, text):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize("2025-11-25")
        answer = await peer.ask({"jsonrpc": "2.0", "id": 1, "method": text * 10})
    assert "characters)" in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 1100


META = msgspec.json.encode(MODERN_META)[1:-1]
DEEP = {
    "lists": (b"[", b"1", b"]"),
    "objects": (b'{"a":', b"1", b"}"),
    "lists that never end": (b"[", b"", b""),
    "objects that never end": (b'{"a":', b"", b""),
}
PLACES = {
    "params": (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":', b"}"),
    "_meta": (b'{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{' + META + b',"a":', b"}}}"),
    "arguments": (
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{'
        + META
        + b'},"name":"ignore","arguments":{"value":',
        b"}}}",
    ),
    "jsonrpc": (b'{"id":7,"method":"ping","jsonrpc":', b"}"),
    "the message": (b"", b""),
}


@pytest.mark.parametrize("depth", [900, 20_000, 700_000])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", DEEP)
async def test_nesting_of_any_depth_is_answered_and_the_server_goes_on(transport, shape, place, depth):
    opening, middle, closing = DEEP[shape]
    before, after = PLACES[place]
    depth = min(depth, 4_000_000 // (len(opening) + len(closing)))
    data = before + opening * depth + middle + closing * depth + after
    async with open_raw(transport, make_server()) as peer:
        answer = await peer.ask(data)
        if depth > 10_000:
            assert place == "the message" or answer["id"] == 7
            assert answer["error"]["code"] in (-32700, -32600), answer
        assert "result" in await peer.ask(call("alive", "echo", text="x"))
