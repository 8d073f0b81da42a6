"""Servers whose answers take long to read and say nothing: others have a turn, and the answer is given up."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.support.turns import Turns, counting_turns
from tests.transports.http.http_peer import Call, LegacyServer, serving
from tests.transports.http.test_http_connection import (
    OK,
    Peer,
    closing,
    no_proxies,
    opened,
    post,
    raw_server,
    way,
)
from trio_mcp import open_client
from trio_mcp.transports.http.response import HttpResponse, StreamPosition, UnreachableError, WastefulError
from trio_mcp.transports.http.server_url import ServerUrl
from trio_mcp.wire.frame_meter import FRAMES_AT_ONCE, PATIENCE_FRAMES, Patience
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.framing import PORTION
from trio_mcp.wire.sse import EventDecoder, encode_event

__all__ = ["no_proxies", "way"]  # fixtures

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
ROUNDS = 1000
LINES = {
    "comments": (b":\n", b""),
    "comments with words": (b": keep-alive\n\n", b""),
    "blank lines": (b"\n", b""),
    "carriage returns": (b"\r", b""),
    "empty data": (b"data:\n\n", b""),
    "empty data with a space": (b"data: \n\n", b""),
    "empty data lines": (b"data\n", b""),
    "ids": (b"id: 1\n\n", b""),
    "fields": (b"event: x\n", b""),
    "other events": (b"event: x\ndata: y\n\n", b""),
    "tiny events": (b"data: 1\n\n", b""),
    "lines of an oversized event": (b"data: 1\n", b"data: " + b"x" * 100_001 + b"\n"),
}
"""What is repeated without end, and what comes before it."""


def endless(head: bytes, piece: bytes, ended: trio.Event) -> Callable[[Peer], Awaitable[None]]:
    """A script that answers with `head` and then with `piece` until the client has gone."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        try:
            await peer.send(head)
            for _ in range(ROUNDS):
                await peer.send(piece * (20_000 // len(piece)))
        except trio.BrokenResourceError:
            ended.set()

    return script


async def ignore(frames: list[InFrame]) -> None:
    await trio.lowlevel.checkpoint()


async def read(endpoint: ServerUrl) -> None:
    async with endpoint.ask("POST", {}, b"{}") as answer:
        if answer.is_stream:
            await answer.read_events(StreamPosition(), ignore)
        else:
            await answer.read_body()


@pytest.mark.parametrize("kind", LINES)
async def test_an_event_stream_that_carries_nothing_is_given_up(way: str, kind: str) -> None:
    line, before = LINES[kind]
    ended = trio.Event()
    async with (
        raw_server(endless(EVENTS + b"\r\n" + before, line, ended)) as server,
        opened(server.url, way) as endpoint,
    ):
        with pytest.raises(WastefulError) as caught:
            await read(endpoint)
        await ended.wait()
    assert str(caught.value) == f"{server.url} sends events that carry nothing, and is not read any further"


@pytest.mark.parametrize("kind", ["events", "body"])
async def test_an_answer_in_ever_more_tiny_chunks_is_given_up(way: str, kind: str) -> None:
    ended = trio.Event()
    head = (EVENTS if kind == "events" else OK) + b"transfer-encoding: chunked\r\n\r\n"
    async with (
        raw_server(endless(head, b"1\r\nx\r\n", ended)) as server,
        opened(server.url, way, limit=10_000_000) as endpoint,
    ):
        with pytest.raises(WastefulError, match="/mcp sends chunks that carry nothing"):
            await read(endpoint)
        await ended.wait()


async def test_informational_answers_without_end_are_given_up() -> None:
    ended = trio.Event()
    async with (
        raw_server(endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", ended)) as server,
        opened(server.url) as endpoint,
    ):
        with pytest.raises(WastefulError, match="/mcp sends informational answers that carry nothing"):
            await post(endpoint)
        await ended.wait()


async def test_a_few_informational_answers_precede_the_answer(way: str) -> None:
    informational = b"HTTP/1.1 102 Processing\r\n\r\n" * 300
    async with (
        raw_server(closing(informational + OK + b"content-length: 2\r\n\r\n{}")) as server,
        opened(server.url, way) as endpoint,
    ):
        assert await post(endpoint) == b"{}"


async def test_others_have_a_turn_while_many_chunks_are_parsed(way: str) -> None:
    chunks = b"3\r\n   \r\n" * 1000 + b"2\r\n{}\r\n0\r\n\r\n"
    async with (
        raw_server(closing(OK + b"transfer-encoding: chunked\r\n\r\n" + chunks)) as server,
        opened(server.url, way) as endpoint,
        endpoint.ask("POST", {}, b"{}") as answer,
        counting_turns() as turns,
    ):
        body = await answer.read_body()
    assert body is not None
    assert body.strip() == b"{}"
    assert turns.count >= 4


@asynccontextmanager
async def counted(portions: list[bytes]) -> AsyncIterator[tuple[HttpResponse, Turns]]:
    """An answer of these chunks, which are there at once, and the number of turns that another task has."""

    async def chunks() -> AsyncIterator[bytes]:  # noqa: ASYNC900  # it holds no resource
        for portion in portions:
            yield portion  # noqa: ASYNC911, ASYNC119  # without a checkpoint, as what has come already

    async with counting_turns() as turns:
        yield HttpResponse(200, "OK", {}, chunks(), 1_000_000, url="http://server/"), turns


async def test_others_have_a_turn_between_portions_of_tiny_lines() -> None:
    data = b":\n" * 1900
    async with counted([data]) as (answer, turns):
        await answer.read_events(StreamPosition(), ignore)
        # Trio runs the tasks of one round in any order, so that some turns come before or after.
        assert turns.count >= len(data) // PORTION - 3


async def test_what_is_received_and_not_decoded_counts_as_unread() -> None:
    ping = encode_event(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    unread: list[bool] = []

    async def deliver(frames: list[InFrame]) -> None:
        await trio.lowlevel.checkpoint()
        unread.append(answer.has_unread())

    async with counted([ping + b":\n" * PORTION + ping]) as (answer, _):
        await answer.read_events(StreamPosition(), deliver)
    assert unread == [True, False]


async def test_others_have_a_turn_while_much_is_inflated() -> None:
    from trio_mcp.transports.http.content_coding import PIECE_BYTES, DecodedChunks

    async def chunks() -> AsyncIterator[bytes]:  # noqa: ASYNC900  # it holds no resource
        yield zlib.compress(b"x" * PIECE_BYTES * 20)  # noqa: ASYNC911, ASYNC119  # it has come already

    length = 0
    async with counting_turns() as turns:
        async for piece in DecodedChunks(chunks(), "deflate"):
            length += len(piece)
    assert length == PIECE_BYTES * 20
    assert turns.count >= 15


def is_given_up(events: bytes, times: int, seconds: float) -> bool:
    """Whether the patience ends if `events` come so many times, in so many seconds each."""
    decoder, patience = EventDecoder(100_000), Patience()
    for number in range(times):
        decoder.feed(events)
        if decoder.unpaid >= FRAMES_AT_ONCE and patience.is_exhausted_by(
            decoder.take_counts(), 1000 + number * seconds
        ):
            return True
    return False


ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
SANE = {
    "short messages in a burst": (encode_event(ANSWER) * 100, 0.0),
    "short messages with ids in a burst": (encode_event(ANSWER, event_id="1") * 100, 0.0),
    "short messages with every field": (
        (b"event: message\r\nid: 1\r\nretry: 10\r\ndata: " + ANSWER + b"\r\n\r\n") * 100,
        0.0,
    ),
    "indented messages": (
        b'data: {\ndata:   "jsonrpc": "2.0",\ndata:   "id": 1,\ndata:   "result": {\ndata:   }\ndata: }\n\n',
        0.0,
    ),
    "a comment each half second": (b": keep-alive\n\n", 0.5),
    "an empty event each half second": (encode_event(b"", event_id="1", retry=10), 0.5),
}


@pytest.mark.parametrize("kind", SANE)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_sane_event_streams_are_never_given_up(kind: str, newline: bytes) -> None:
    events, seconds = SANE[kind]
    assert not is_given_up(events.replace(b"\r\n", b"\n").replace(b"\n", newline), 5000, seconds)


def test_a_burst_of_comments_is_borne_up_to_a_bound() -> None:
    assert not is_given_up(b":\n", PATIENCE_FRAMES, 0)
    assert is_given_up(b":\n", PATIENCE_FRAMES + 2 * FRAMES_AT_ONCE, 0)


async def test_a_call_whose_stream_carries_nothing_fails_with_the_url_and_is_not_asked_again() -> None:
    async def handler(call: Call) -> None:
        if call.method == "tools/list":
            await call.result({"tools": []})
            return
        await call.stream()
        await call.event(None, event_id="1", retry=1)
        while not call.disconnected.is_set():
            await call.write(b"id: 1\ndata:\n\n" * 1000)

    async with (
        serving(LegacyServer(handler)) as app,
        open_client(app.url, protocol="2025-11-25") as client,
    ):
        with pytest.raises(Exception, match="/mcp sends events that carry nothing"):
            await client.call_tool("work")
        assert await client.list_tools() == []
    assert len(app.made("tools/call")) == 1
    assert [call for call in app.made(verb="GET") if "last-event-id" in call.headers] == []


async def test_a_stream_of_a_session_that_carries_nothing_is_not_opened_again() -> None:
    async def handler(call: Call) -> None:
        await call.result({"tools": []})

    async def listen(call: Call) -> None:
        await call.stream()
        await call.event(None, event_id="1", retry=1)
        for _ in range(ROUNDS):
            await call.write(b":\n" * 10_000)
        given_up.set()

    given_up = trio.Event()
    async with (
        serving(LegacyServer(handler, listen=listen)) as app,
        open_client(app.url, protocol="2025-11-25") as client,
    ):
        await given_up.wait()
        assert await client.list_tools() == []
    assert len(app.made(verb="GET")) == 1


def test_a_wasteful_server_is_one_that_cannot_be_reached() -> None:
    assert issubclass(WastefulError, UnreachableError)
