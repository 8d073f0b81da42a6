"""JSON-RPC batches (MCP base protocol 2025-03-26, "Batching"), over every transport."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tests.support.fake_server import INITIALIZED, FakeServer, result
from tests.support.raw_peer import RawPeer, RawSsePeer, call, open_raw
from tests.support.reporting_server import make_reporting_server
from trio_mcp import Context, Server, open_client
from trio_mcp.wire.batch_members import MAX_MEMBERS

BATCHES = "2025-03-26"
INVALID = -32600
NOTE = {"jsonrpc": "2.0", "method": "notifications/nonsense"}


def make_server(**settings: Any) -> Server:
    server = make_reporting_server(**settings)

    @server.tool
    async def wait() -> None:
        await trio.sleep_forever()

    @server.tool
    async def ask(ctx: Context) -> str:
        return (await ctx.sample("Who?", max_tokens=5)).text

    return server


def ping(ident: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "method": "ping"}


def cancel(ident: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": ident}}


async def send(peer: RawPeer, batch: list[Any]) -> None:
    await peer.send(msgspec.json.encode(batch))


async def test_progress_of_the_members_comes_in_order_before_all_answers(transport):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize(BATCHES)
        calls = [call(n, "report", modern=False, token=f"t{n}", count=300) for n in range(3)]
        await send(peer, [*calls, NOTE, ping(9)])
        seen: dict[str, list[int]] = {}
        while isinstance(message := await peer.receive(), dict):
            params = message["params"]
            seen.setdefault(params["progressToken"], []).append(params["progress"])
        assert sorted(answer["id"] for answer in message) == [0, 1, 2, 9]
    for numbers in seen.values():
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (1, 300)
    assert sorted(seen) == ["t0", "t1", "t2"]


async def test_a_batch_of_notifications_is_not_answered(transport):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize(BATCHES)
        await send(peer, [NOTE, NOTE, cancel(77)])
        assert (await peer.ask(ping("next")))["id"] == "next"
        if isinstance(peer, RawSsePeer):
            assert set(peer.statuses) == {202}


async def test_a_batch_of_answers_is_read(connection):
    async with open_raw(connection, make_server()) as peer:
        await peer.initialize(BATCHES, {"sampling": {}})
        questions = [await peer.ask(call(n, "ask", modern=False)) for n in (1, 2)]
        answers = [
            {
                "jsonrpc": "2.0",
                "id": question["id"],
                "result": {"role": "assistant", "content": {"type": "text", "text": name}, "model": "m"},
            }
            for question, name in zip(questions, "ab", strict=True)
        ]
        await send(peer, answers)
        results = [await peer.receive(), await peer.receive()]
        assert {r["id"]: r["result"]["content"][0]["text"] for r in results} == {1: "a", 2: "b"}


async def test_every_invalid_member_gets_its_own_error(transport):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize(BATCHES)
        await send(peer, [1, [], [ping(5)], {}, {"jsonrpc": "2.0", "id": 7, "method": 5}, ping(8)])
        answers = await peer.receive()
        errors = [(answer["id"], answer["error"]["code"]) for answer in answers if "error" in answer]
        assert errors == [(None, INVALID)] * 4 + [(7, INVALID)]
        assert [answer["id"] for answer in answers if "result" in answer] == [8]


@pytest.mark.parametrize(
    ("batch", "words"),
    [([], "empty"), ([ping(n) for n in range(MAX_MEMBERS + 1)], f"more than {MAX_MEMBERS}")],
    ids=["empty", "long"],
)
async def test_a_batch_of_a_wrong_length_gets_one_error(transport, batch, words):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize(BATCHES)
        answer = await peer.ask(msgspec.json.encode(batch))
        assert (answer["id"], answer["error"]["code"]) == (None, INVALID)
        assert words in answer["error"]["message"]
        assert (await peer.ask(ping("next")))["id"] == "next"


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18", "2024-11-05"])
@pytest.mark.parametrize("batch", [[ping(1)], [NOTE]], ids=["requests", "notifications"])
async def test_other_revisions_refuse_a_batch(transport, version, batch):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize(version)
        answer = await peer.ask(msgspec.json.encode(batch))
        assert answer["error"]["code"] == INVALID
        assert answer.get("id") is None
        assert "batch" in answer["error"]["message"]


async def test_a_handshake_within_a_batch_is_refused(connection):
    params = {"protocolVersion": BATCHES, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    again = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    async with open_raw(connection, make_server()) as peer:
        assert (await peer.ask(msgspec.json.encode([again])))["error"]["code"] == INVALID
        await peer.initialize(BATCHES)
        await send(peer, [again, ping(2)])
        first, second = sorted(await peer.receive(), key=lambda answer: answer["id"])
        assert (first["error"]["code"], second["result"]) == (INVALID, {})


async def test_a_cancelled_member_is_left_out(connection):
    async with open_raw(connection, make_server()) as peer:
        await peer.initialize(BATCHES)
        await send(peer, [call(1, "wait", modern=False), call(2, "echo", modern=False, text="x")])
        await send(peer, [cancel(1)])
        assert [answer["id"] for answer in await peer.receive()] == [2]
        await send(peer, [call(3, "wait", modern=False)])
        await send(peer, [cancel(3)])
        assert (await peer.ask(ping("next")))["id"] == "next"


async def test_the_answers_of_a_batch_count_as_unwritten_until_it_is_answered(connection):
    """Otherwise a client could have any number of answers kept by batches that do not end."""
    async with open_raw(connection, make_server(max_requests=3)) as peer:
        await peer.initialize(BATCHES)
        await send(peer, [call(1, "wait", modern=False), ping(2), ping(3)])
        refused = await peer.ask(ping(4))
        assert "overloaded" in refused["error"]["message"]
        await send(peer, [cancel(1)])
        assert [answer["id"] for answer in await peer.receive()] == [2, 3]
        assert (await peer.ask(ping(5)))["result"] == {}


async def test_the_client_reads_a_batch():
    """Its progress is delivered before the answer that comes with it."""
    tools = {"tools": [{"name": "loop", "inputSchema": {"type": "object"}}]}

    def answer(request: Any) -> bytes:
        token = msgspec.json.decode(request.params)["_meta"]["progressToken"]
        progress = [
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": n},
            }
            for n in (1, 2, 3)
        ]
        done = {"jsonrpc": "2.0", "id": request.id, "result": {"content": [{"type": "text", "text": "x"}]}}
        question = {"jsonrpc": "2.0", "id": "q", "method": "ping"}
        return msgspec.json.encode([*progress, question, done])

    fake = FakeServer(
        {
            "initialize": result({**INITIALIZED, "protocolVersion": BATCHES}),
            "tools/list": result(tools),
            "tools/call": answer,
        }
    )
    seen: list[float] = []
    async with open_client(fake, protocol=BATCHES) as client:
        done = await client.call_tool("loop", progress_handler=lambda progress, t, m: seen.append(progress))
        assert (done.text, seen) == ("x", [1, 2, 3])
    assert "an answer" in fake.asked, "the question in the batch was answered"
