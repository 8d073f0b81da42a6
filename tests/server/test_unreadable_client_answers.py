"""Answers of a client to a server's question that cannot be matched or read: which question they end."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from tests.conftest import TRANSPORTS
from tests.support.raw_peer import RawPeer, call, open_raw
from trio_mcp import Context, ProtocolError, Server

# Over HTTP the raw peer reads a response only when it has ended; the rule is above the transports.
SHARED = [transport for transport in TRANSPORTS if transport != "http"]


@attrs.frozen
class Name:
    name: str


def make_server() -> Server:
    server = Server("asks")

    @server.tool
    async def ask(ctx: Context) -> str:
        try:
            return (await ctx.elicit("Who?", Name)).action
        except ProtocolError as error:
            return f"{error.code}: {error.message}"

    @server.tool
    async def give_up(ctx: Context) -> str:
        with trio.move_on_after(0.01):
            await ctx.elicit("Who?", Name)
        return "gave up"

    return server


async def start_question(peer: RawPeer, ident: int = 1) -> Any:
    question = await peer.ask(call(ident, "ask", modern=False))
    assert question["method"] == "elicitation/create"
    return question["id"]


def text(answer: Any) -> str:
    return str(answer["result"]["content"][0]["text"])


@pytest.mark.parametrize("transport", SHARED)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}', "-32700: what?"),
        (b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"what?"}}', "-32700: what?"),
        (b'{"jsonrpc":"2.0","id":4711,"result":{"action":"cancel"}}', "the id 4711"),
        (b'{"jsonrpc":"2.0","id":"server-99","result":{"action":"cancel"}}', "the id 'server-99'"),
        (b'{"jsonrpc":"2.0","id":"server-1","result":{"action":NaN}}', "cannot be read"),
        (b'{"jsonrpc":"2.0","id":"server-1","result":{"action":"\\ud83d"}}', "cannot be read"),
    ],
)
async def test_an_answer_that_cannot_be_matched_or_read_ends_the_only_question(transport, answer, words):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize("2025-11-25", {"elicitation": {}})
        assert await start_question(peer) == "server-1"
        reply = await peer.ask(answer)
        if "result" not in reply:  # what cannot be read is refused as well
            assert reply["error"]["code"] == -32700
            reply = await peer.receive()
        assert words in text(reply)


@pytest.mark.parametrize("transport", SHARED)
@pytest.mark.parametrize("ident", [b"null", b"4711"])
async def test_of_several_questions_none_is_ended_by_an_answer_that_names_none(transport, ident):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize("2025-11-25", {"elicitation": {}})
        idents = [await start_question(peer, 1), await start_question(peer, 2)]
        error = b'{"jsonrpc":"2.0","id":' + ident + b',"error":{"code":-32700,"message":"what?"}}'
        await peer.send(error)
        for number, ident_of_one in enumerate(idents, 1):
            answer = {"jsonrpc": "2.0", "id": ident_of_one, "result": {"action": "decline"}}
            reply = await peer.ask(answer)
            assert (reply["id"], text(reply)) == (number, "decline")


@pytest.mark.parametrize("transport", SHARED)
async def test_the_late_answer_to_an_earlier_question_does_not_end_the_next(transport):
    async with open_raw(transport, make_server()) as peer:
        await peer.initialize("2025-11-25", {"elicitation": {}})
        question = await peer.ask(call(1, "give_up", modern=False))
        assert (await peer.receive())["method"] == "notifications/cancelled"
        assert text(await peer.receive()) == "gave up"
        second = await start_question(peer, 2)
        late = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}}
        await peer.send(late)
        reply = await peer.ask({"jsonrpc": "2.0", "id": second, "result": {"action": "decline"}})
        assert text(reply) == "decline"
