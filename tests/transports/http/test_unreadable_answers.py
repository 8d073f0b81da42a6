"""Answers over HTTP, as JSON and as a stream, that cannot be matched or read: whose call they end."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.transports.http.http_peer import LegacyServer, answer_modern, serving
from trio_mcp import MCPError, ProtocolError, RemoteProtocolError, open_client

EMPTY = b'"result":{"content":[],"resultType":"complete"}'


@pytest.fixture(params=["modern", "legacy"])
def era(request):
    return request.param


@pytest.fixture(params=["json", "sse"])
def form(request):
    return request.param


def server_that_answers(era: str, form: str, *answers: bytes) -> Any:
    """Make a server that answers the first tools/call with these messages, %d being its id; others well."""
    spoiled = False

    async def handle(call):
        nonlocal spoiled
        if era == "modern" and await answer_modern(call):
            return
        messages = answers
        if call.method != "tools/call" or spoiled:
            messages = (b'{"jsonrpc":"2.0","id":%d,' + EMPTY + b"}",)
        else:
            spoiled = True
        bodies = [message.replace(b"%d", str(call.message["id"]).encode()) for message in messages]
        if form == "json" or messages is not answers:
            await call.reply(200, b"\n".join(bodies), "application/json")
            return
        await call.stream()
        for body in bodies:
            await call.write(b"data: " + body + b"\n\n")
        await call.end()

    return handle if era == "modern" else LegacyServer(handle)


@pytest.mark.parametrize("ident", [b'"%d"', b"%d.0"])
async def test_an_answer_whose_id_differs_in_its_json_type_is_matched(era, form, ident):
    server = server_that_answers(era, form, b'{"jsonrpc":"2.0","id":' + ident + b"," + EMPTY + b"}")
    async with serving(server) as app, open_client(app.url) as client:
        assert (await client.call_tool("any")).content == []


@pytest.mark.parametrize("ident", [b'"other"', b"4711", b'"0%d"'])
async def test_an_answer_with_a_foreign_id_fails_its_call_and_names_the_id(era, form, ident):
    server = server_that_answers(era, form, b'{"jsonrpc":"2.0","id":' + ident + b"," + EMPTY + b"}")
    async with serving(server) as app, open_client(app.url) as client:
        with pytest.raises(RemoteProtocolError, match=ident.split(b"%")[0].decode().strip('"')):
            await client.call_tool("any")
        await client.call_tool("any")


async def test_a_foreign_id_fails_only_the_call_on_whose_stream_it_came(era, form):
    server = server_that_answers(era, form, b'{"jsonrpc":"2.0","id":4711,' + EMPTY + b"}")
    failures: list[RemoteProtocolError] = []
    async with serving(server) as app, open_client(app.url) as client, trio.open_nursery() as nursery:

        async def call() -> None:
            try:
                await client.call_tool("any")
            except RemoteProtocolError as error:
                failures.append(error)

        for _ in range(3):
            nursery.start_soon(call)
    (failure,) = failures
    assert "4711" in str(failure)


@pytest.mark.parametrize("ident", [b"", b',"id":null'])
async def test_an_error_without_an_id_is_that_of_its_stream(era, form, ident):
    error = b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"what?"}' + ident + b"}"
    async with (
        serving(server_that_answers(era, form, error)) as app,
        open_client(app.url) as client,
    ):
        with pytest.raises(ProtocolError, match="what") as caught:
            await client.call_tool("any")
        assert caught.value.code == -32700
        await client.call_tool("any")


UNREADABLE = {
    "NaN": (b'"result":{"x":NaN}', r"byte \d+"),
    "a lone surrogate": (b'"result":{"x":"\\ud83d"}', r"lone surrogate \(byte \d+\)"),
    "no UTF-8": (b'"result":{"x":"\xff"}', r"position \d+"),
    "trailing garbage": (b'"result":{}} x', r"byte \d+"),
    "cut off": (b'"result":{"x":[1', r"byte \d+"),
    "too deep": (b'"result":' + b"[" * 5000, "."),
    "result and error": (b'"result":{},"error":{"code":1,"message":"x"}', "not both"),
}


@pytest.mark.parametrize("flaw", UNREADABLE)
async def test_an_answer_that_cannot_be_decoded_ends_its_call_and_names_the_place(era, form, flaw):
    member, words = UNREADABLE[flaw]
    server = server_that_answers(era, form, b'{"jsonrpc":"2.0","id":%d,' + member + b"}")
    async with serving(server) as app, open_client(app.url) as client:
        with pytest.raises(RemoteProtocolError, match=words):
            await client.call_tool("any")
        await client.call_tool("any")


async def test_an_unreadable_event_without_an_id_is_told_and_ends_no_call(era):
    faults: list[MCPError] = []
    server = server_that_answers(
        era,
        "sse",
        b'{"jsonrpc":"2.0","method":"x","params":{"id":%d,"a":NaN}}',
        b"hello, I have started",
        b'{"jsonrpc":"2.0","id":%d,' + EMPTY + b"}",
    )
    async with serving(server) as app, open_client(app.url, on_error=faults.append) as client:
        assert (await client.call_tool("any")).content == []
    assert [type(fault) for fault in faults] == [RemoteProtocolError] * 2
