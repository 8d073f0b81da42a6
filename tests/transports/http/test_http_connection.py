"""Requests to one HTTP endpoint of a raw server: over our own connections, and through httpx2."""

from __future__ import annotations

import gc
import gzip
import math
import ssl
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

import attrs
import httpx2
import pytest
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mcp.transports.http.address import may_have_proxy, parse_address
from trio_mcp.transports.http.h11_connection import CONNECT_SECONDS, MAX_HEAD_BYTES
from trio_mcp.transports.http.pool import KEPT_CONNECTIONS, KEPT_SECONDS, ConnectionPoolStatistics
from trio_mcp.transports.http.response import StreamPosition, UnreachableError
from trio_mcp.transports.http.server_url import ServerUrl, open_endpoint

DEADLINE = 120  # only a hang takes so long
LIMIT = 100_000
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@attrs.define(eq=False)
class Peer:
    """One connection at the server."""

    stream: trio.abc.Stream
    server: RawServer
    ended: trio.Event = attrs.field(factory=trio.Event)
    _buffer: bytes = b""

    async def read_request(self) -> bool:
        """Read one request; return False if the client has closed the connection."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._fill():
                return False
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        headers = {name.lower(): value for name, value in headers.items()}
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            assert await self._fill()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        self.server.requests.append(Received(line, headers, body, self))
        return True

    async def _fill(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        self._buffer += data
        if not data:
            self.ended.set()
        return bool(data)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def reply(self, body: bytes = b"{}", head: bytes = OK) -> None:
        await self.send(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))

    async def wait_end(self) -> None:
        """Return when the client has closed the connection."""
        while await self._fill():
            pass


@attrs.define
class Received:
    line: str
    headers: dict[str, str]
    body: bytes
    peer: Peer


Script = Callable[[Peer], Awaitable[None]]


@attrs.define(eq=False)
class RawServer:
    url: str
    peers: list[Peer] = attrs.field(factory=list)
    requests: list[Received] = attrs.field(factory=list)
    deadline: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@asynccontextmanager
async def raw_server(
    script: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve connections with `script`; each is closed when it returns."""
    server = RawServer("")

    async def converse(stream: trio.abc.Stream) -> None:
        peer = Peer(stream, server)
        server.peers.append(peer)
        async with stream:
            try:
                await script(peer)
            except trio.BrokenResourceError:
                peer.ended.set()  # the client may leave at any time

    with trio.fail_after(DEADLINE) as server.deadline:
        async with trio.open_nursery() as nursery:
            try:
                listeners = await trio.open_tcp_listeners(0, host=host)
            except OSError:
                pytest.skip(f"{host} cannot be listened on")
            port = listeners[0].socket.getsockname()[1]
            if tls is not None:
                serving: Any = [trio.SSLListener(each, tls, https_compatible=True) for each in listeners]
            else:
                serving = listeners
            await nursery.start(trio.serve_listeners, converse, serving)
            name = f"[{host}]" if ":" in host else host
            server.url = f"{'https' if tls else 'http'}://{name}:{port}/mcp"
            yield server
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(url: str, way: str = "direct", **options: Any) -> AsyncIterator[ServerUrl]:
    """Open an endpoint that uses our own connections, or httpx2."""
    options = {"limit": LIMIT, "headers": None, "auth": None, "http_client": None, **options}
    async with AsyncExitStack() as stack:
        if way == "httpx2":
            client = httpx2.AsyncClient(follow_redirects=True, timeout=httpx2.Timeout(None, connect=10))
            options["http_client"] = await stack.enter_async_context(client)
        endpoint = await stack.enter_async_context(open_endpoint(url, **options))
        assert (endpoint._direct is not None) == (way == "direct")
        yield endpoint


async def post(
    endpoint: ServerUrl, body: bytes = b"{}", headers: Mapping[str, str] = MappingProxyType({})
) -> bytes | None:
    async with endpoint.ask("POST", headers, body) as answer:
        assert answer.is_success
        return await answer.read_body()


def answering(*answers: bytes) -> Script:
    """Return a script that answers each request with all of `answers`, one write each."""

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            for answer in answers:
                await peer.send(answer)
                await wait_all_tasks_blocked()  # so that the portions arrive apart

    return script


def closing(*answers: bytes) -> Script:
    """Return a script that answers one request in the same way and closes the connection."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        for answer in answers:
            await peer.send(answer)

    return script


@pytest.fixture(params=["direct", "httpx2"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def no_socket_is_left() -> Iterator[None]:
    """Collect garbage: an open socket would warn then, and warnings are errors."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# Requests.


async def test_a_request_has_the_required_headers(way: str) -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.reply()

    async with raw_server(script) as server, opened(server.url + "?a=b%20c", way) as endpoint:
        assert await post(endpoint, b'{"a": 1}', {"mcp-method": "ping"}) == b"{}"
        async with endpoint.ask("GET", {"last-event-id": "7"}) as answer:
            assert answer.status == "200 OK"
        async with endpoint.ask("DELETE", {}):
            pass
    first, second, third = server.requests
    assert first.line == "POST /mcp?a=b%20c HTTP/1.1"
    assert first.headers["host"] == server.url.split("/")[2]
    assert first.headers["accept"] == "application/json, text/event-stream"
    assert first.headers["accept-encoding"] == "identity"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["user-agent"]
    assert first.headers["mcp-method"] == "ping"
    assert first.body == b'{"a": 1}'
    assert second.line == "GET /mcp?a=b%20c HTTP/1.1"
    assert second.headers["accept"] == "text/event-stream"
    assert second.headers["last-event-id"] == "7"
    assert third.line.startswith("DELETE")
    for bare in (second, third):
        assert not {"content-type", "content-length", "transfer-encoding"} & set(bare.headers)


async def test_the_headers_of_the_caller_are_sent_and_ours_prevail(way: str) -> None:
    headers = {"X-Tenant": "7", "User-Agent": "mine", "Accept-Encoding": "gzip", "Mcp-Method": "x"}
    async with (
        raw_server(answering(OK + b"content-length: 2\r\n\r\n{}")) as server,
        opened(server.url, way, headers=headers) as endpoint,
    ):
        await post(endpoint, headers={"mcp-method": "ping"})
    sent = server.requests[0].headers
    assert sent["x-tenant"] == "7"
    assert sent["user-agent"] == "mine"
    assert sent["accept-encoding"] == "identity"
    assert sent["mcp-method"] == "ping"


async def test_an_ipv6_host_keeps_its_brackets(way: str) -> None:
    answer = answering(OK + b"content-length: 2\r\n\r\n{}")
    async with raw_server(answer, "::1") as server, opened(server.url, way) as endpoint:
        assert await post(endpoint) == b"{}"
        assert server.requests[0].headers["host"] == server.url.split("/")[2]
        assert endpoint.origin == server.url.removesuffix("/mcp")


async def test_a_long_request_arrives_whole_and_reports_when_it_was_sent(way: str) -> None:
    body = b"x" * 3_000_000
    reading = trio.Event()

    async def script(peer: Peer) -> None:
        await reading.wait()
        await peer.read_request()
        await peer.reply()

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        sent = trio.Event()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                async with endpoint.ask("POST", {}, body, sent) as answer:
                    assert sent.is_set()
                    assert await answer.read_body() == b"{}"

            nursery.start_soon(ask)
            await wait_all_tasks_blocked(0.05)
            assert not sent.is_set()
            reading.set()
        assert server.requests[0].body == body


@pytest.mark.parametrize("value", ["é", "a\r\nb: c", "\ud800"])
async def test_a_header_that_cannot_be_sent_fails_its_request_alone(way: str, value: str) -> None:
    async with (
        raw_server(answering(OK + b"content-length: 2\r\n\r\n{}")) as server,
        opened(server.url, way) as endpoint,
    ):
        with pytest.raises(UnreachableError, match=r"/mcp failed: \w+Error: "):
            await post(endpoint, headers={"x": value})
        assert await post(endpoint) == b"{}"
        assert len(server.requests) == 1


# Responses.


ANSWERS = {
    "a length": OK + b"content-length: 10\r\n\r\n0123456789",
    "chunks": OK + b"transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\nt: x\r\n\r\n",
    "informational": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    + OK
    + b"content-length: 10\r\n\r\n0123456789",
    "odd case": b"HTTP/1.1 200 \r\nContent-LENGTH:10\r\n\r\n0123456789",
}
ENDING = {
    "the end": OK + b"\r\n0123456789",
    "connection: close": OK + b"connection: close\r\ncontent-length: 10\r\n\r\n0123456789",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n0123456789",
    "HTTP/1.0 with a length": b"HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\n0123456789",
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_response_is_read_and_its_connection_reused(way: str, kind: str) -> None:
    async with raw_server(answering(ANSWERS[kind])) as server, opened(server.url, way) as endpoint:
        for _ in range(3):
            assert await post(endpoint) == b"0123456789"
        assert len(server.requests) == 3
        assert len(server.peers) == 1


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_response_may_arrive_byte_by_byte(kind: str) -> None:
    pieces = [bytes([byte]) for byte in ANSWERS[kind]]
    async with raw_server(answering(*pieces)) as server, opened(server.url) as endpoint:
        for _ in range(2):
            assert await post(endpoint) == b"0123456789"
        assert len(server.peers) == 1


@pytest.mark.parametrize("kind", ENDING)
async def test_a_connection_that_ends_with_its_response_is_not_reused(way: str, kind: str) -> None:
    async with raw_server(closing(ENDING[kind])) as server, opened(server.url, way) as endpoint:
        for count in range(1, 4):
            assert await post(endpoint) == b"0123456789"
            assert len(server.peers) == count


async def test_a_response_without_a_body_leaves_its_connection_usable() -> None:
    async with (
        raw_server(answering(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")) as server,
        opened(server.url) as endpoint,
    ):
        for _ in range(3):
            async with endpoint.ask("POST", {}, b"{}") as answer:
                assert answer.status == "202 Accepted"
        assert len(server.peers) == 1


async def test_repeated_headers_are_joined(way: str) -> None:
    answer = b"HTTP/1.1 299 Fine\r\nX-A: 1\r\nx-a: \xe9\r\ncontent-length: 0\r\n\r\n"
    async with (
        raw_server(answering(answer)) as server,
        opened(server.url, way) as endpoint,
        endpoint.ask("POST", {}, b"{}") as answered,
    ):
        assert answered.headers["x-a"] == "1, é"
        assert answered.status == "299 Fine"


async def test_events_are_delivered_as_they_arrive(way: str) -> None:
    step, seen = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK.replace(b"application/json", b"text/event-stream; charset=utf-8"))
        await peer.send(b"transfer-encoding: chunked\r\n\r\n")
        event = b'data: {"jsonrpc": "2.0", "method": "x"}\n\n'
        await peer.send(b"%x\r\n%b\r\n" % (len(event), event))
        await step.wait()
        await peer.send(b"%x\r\n%b\r\n" % (len(event), event) * 3 + b"0\r\n\r\n")

    frames: list[Any] = []

    async def deliver(some: list[Any]) -> None:
        await trio.lowlevel.checkpoint()
        frames.extend(some)
        if not seen.is_set():
            seen.set()
            assert len(frames) == 1
            step.set()

    async with (
        raw_server(script) as server,
        opened(server.url, way) as endpoint,
        endpoint.ask("POST", {}, b"{}") as answer,
    ):
        assert answer.is_stream
        await answer.read_events(StreamPosition(), deliver)
    assert len(frames) == 4


# Bad responses.


MALFORMED = {
    "nothing": (b"", "without|disconnected"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "illegal status line"),
    "half a head": (OK, ""),
    "a short body": (OK + b"content-length: 10\r\n\r\n0123", ""),
    "a broken chunk": (OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n", ""),
    "an unfinished chunk": (OK + b"transfer-encoding: chunked\r\n\r\n4\r\n01", ""),
    "unfinished chunks": (OK + b"transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n", ""),
    "two lengths": (OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n01", "conflicting"),
    "a strange coding": (OK + b"transfer-encoding: gzip\r\n\r\n01", ""),
    "an upgrade": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
    "an end after 100": (b"HTTP/1.1 100 Continue\r\n\r\n", "without|disconnected"),
    "an endless head": (OK + b"x: " + b"y" * (MAX_HEAD_BYTES + 70_000), ""),
}


@pytest.mark.usefixtures("no_socket_is_left")
@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_response_fails_with_the_url_and_the_cause(way: str, kind: str) -> None:
    data, match = MALFORMED[kind]
    async with raw_server(closing(data)) as server, opened(server.url, way) as endpoint:
        with pytest.raises(UnreachableError, match=rf"/mcp failed: \w+: .*({match})"):
            await post(endpoint)
        assert len(server.requests) == 1, "nothing is sent twice"


async def test_events_before_the_connection_breaks_are_delivered(way: str) -> None:
    event = b'data: {"jsonrpc": "2.0", "method": "x"}\n\n'
    head = OK.replace(b"application/json", b"text/event-stream") + b"transfer-encoding: chunked\r\n\r\n"
    frames: list[Any] = []

    async def deliver(some: list[Any]) -> None:
        await trio.lowlevel.checkpoint()
        frames.extend(some)

    async with (
        raw_server(closing(head + b"%x\r\n%b\r\n" % (len(event), event) + b"oops\r\n")) as server,
        opened(server.url, way) as endpoint,
    ):
        with pytest.raises(UnreachableError, match="/mcp failed: RemoteProtocolError"):
            async with endpoint.ask("POST", {}, b"{}") as answer:
                await answer.read_events(StreamPosition(), deliver)
    assert len(frames) == 1


async def test_a_reset_fails_with_the_url(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        stream = peer.stream
        assert isinstance(stream, trio.SocketStream)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, for 0 seconds: closing resets the connection
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        with pytest.raises(UnreachableError, match="/mcp failed: "):
            await post(endpoint)


async def test_a_response_before_the_end_of_the_request_is_read(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.receive_some(1000)
        await peer.send(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        assert isinstance(peer.stream, trio.SocketStream)
        await peer.stream.send_eof()
        await peer.wait_end()

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        for _ in range(2):
            async with endpoint.ask("POST", {}, b"x" * 1_000_000) as answer:
                assert answer.status == "413 Too Large"
    assert len(server.peers) == 2


@pytest.mark.parametrize("head", [b"content-length: 200000\r\n\r\n", b"\r\n"])
async def test_a_body_beyond_the_limit_is_refused_and_its_connection_closed(way: str, head: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK + head + b"x" * 150_000)
        await peer.wait_end()

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        assert await post(endpoint) is None
        await server.peers[0].ended.wait()


# Content codings.


def encoded(coding: str, data: bytes) -> bytes:
    if coding in ("gzip", "X-GZIP"):
        return gzip.compress(data)
    if coding == "deflate":
        return zlib.compress(data)
    if coding == "raw":
        return zlib.compress(data, wbits=-zlib.MAX_WBITS)
    return data


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw", "identity"])
@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_coding_that_was_not_asked_for_is_decoded(way: str, coding: str, bytewise: bool) -> None:
    if (way, coding, bytewise) == ("httpx2", "raw", True):
        pytest.skip("httpx2 looks for the header of zlib in the first portion alone")
    data = b'{"text": "%b"}' % (b"abc" * 20_000)
    body = encoded(coding, data)
    name = b"deflate" if coding == "raw" else coding.encode()
    head = OK + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (name, len(body))
    if bytewise:
        data, head = b"short", OK + b"content-encoding: %b\r\n" % name
        body = encoded(coding, data)
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        answer = answering(head + b"transfer-encoding: chunked\r\n\r\n", pieces[:20], pieces[20:])
    else:
        answer = answering(head + body)
    async with raw_server(answer) as server, opened(server.url, way) as endpoint:
        for _ in range(2):
            assert await post(endpoint) == data
        assert len(server.peers) == 1


async def test_events_in_a_content_coding_are_delivered_at_once() -> None:
    step = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        head = OK.replace(b"application/json", b"text/event-stream")
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        event = packer.compress(b'data: {"jsonrpc": "2.0", "method": "x"}\n\n')
        await peer.send(head + b"content-encoding: gzip\r\n\r\n" + event + packer.flush(zlib.Z_SYNC_FLUSH))
        await step.wait()

    async def deliver(some: list[Any]) -> None:
        await trio.lowlevel.checkpoint()
        step.set()

    async with raw_server(script) as server, opened(server.url) as endpoint:
        async with endpoint.ask("POST", {}, b"{}") as answer:
            await answer.read_events(StreamPosition(), deliver)
        assert step.is_set()


async def test_a_compression_bomb_is_decoded_in_small_pieces() -> None:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    assert len(bomb) < 110_000  # and a hundred megabytes when decoded

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply(bomb, OK + b"content-encoding: gzip\r\n")

    async with raw_server(script) as server, opened(server.url) as endpoint:
        taken = 0
        async with endpoint.ask("POST", {}, b"{}") as answer:
            async for piece in answer._chunks:
                assert len(piece) <= 65_536
                taken += len(piece)
                if taken > LIMIT:
                    break
        assert await post(endpoint) is None


async def test_a_body_that_cannot_be_decoded_fails_clearly() -> None:
    async def script(peer: Peer) -> None:
        for coding in (b"gzip", b"br"):
            await peer.read_request()
            await peer.reply(b"no gzip at all", OK + b"content-encoding: %b\r\n" % coding)
        await peer.read_request()
        await peer.reply(b"\x8b", b"HTTP/1.1 502 Bad Gateway\r\ncontent-encoding: br\r\n")

    async with raw_server(script) as server, opened(server.url) as endpoint:
        with pytest.raises(UnreachableError, match=r"is not in its content coding 'gzip': .*header"):
            await post(endpoint)
        with pytest.raises(UnreachableError, match="content coding 'br', although identity was asked for"):
            await post(endpoint)
        async with endpoint.ask("POST", {}, b"{}") as answer:
            assert answer.status == "502 Bad Gateway"


# Connections that are kept.


async def reply_always(peer: Peer) -> None:
    while await peer.read_request():
        await peer.reply()


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"])
async def test_a_kept_connection_that_the_server_has_closed_is_not_reused(
    way: str, last_words: bytes
) -> None:
    close, closed = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply()
        await close.wait()
        if last_words:
            await peer.send(last_words)
        await peer.stream.aclose()
        closed.set()

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        await post(endpoint)
        close.set()
        await closed.wait()
        assert await post(endpoint) == b"{}"
        assert len(server.peers) == 2


async def test_bytes_after_a_response_are_never_read_as_the_next() -> None:
    answer = OK + b"content-length: 5\r\n\r\nfirst"
    stray = OK + b"content-length: 5\r\n\r\nstray"
    async with raw_server(answering(answer + stray)) as server, opened(server.url) as endpoint:
        for _ in range(3):
            assert await post(endpoint) == b"first"
        assert len(server.peers) == 3


async def test_a_request_that_fails_on_a_kept_connection_is_not_sent_again(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply()
        await peer.read_request()  # it closes without a response: its effects are unknown

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        await post(endpoint)
        with pytest.raises(UnreachableError, match="/mcp failed: RemoteProtocolError"):
            await post(endpoint)
        assert len(server.requests) == 2


async def test_a_repeatable_request_that_fails_on_a_kept_connection_is_sent_again_once(way: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        if len(peer.server.peers) < 3:
            await peer.reply()
            await peer.read_request()  # it closes without a response

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        await post(endpoint)
        async with endpoint.ask("POST", {}, b"{}", is_repeatable=True) as answer:
            assert await answer.read_body() == b"{}"
        assert [len([r for r in server.requests if r.peer is peer]) for peer in server.peers] == [2, 1]
        with pytest.raises(UnreachableError, match="RemoteProtocolError"):
            async with endpoint.ask("POST", {}, b"{}", is_repeatable=True):
                pytest.fail("it was answered")
        assert len(server.peers) == 3


async def test_a_repeatable_request_whose_answer_breaks_off_is_not_sent_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply()
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200")

    async with raw_server(script) as server, opened(server.url) as endpoint:
        await post(endpoint)
        with pytest.raises(UnreachableError):
            async with endpoint.ask("POST", {}, b"{}", is_repeatable=True):
                pytest.fail("it was answered")
        assert len(server.requests) == 2


def test_connections_are_kept_for_less_time_than_common_servers_keep_them() -> None:
    assert KEPT_SECONDS < 5


async def test_kept_connections_expire(mock_clock: MockClock) -> None:
    async with raw_server(reply_always) as server, opened(server.url) as endpoint:
        server.deadline.deadline = math.inf
        await post(endpoint)
        mock_clock.jump(KEPT_SECONDS - 1)
        await post(endpoint)
        assert len(server.peers) == 1
        mock_clock.jump(KEPT_SECONDS + 1)
        await post(endpoint)
        await server.peers[0].ended.wait()
        assert len(server.peers) == 2


async def test_the_pool_counts_opened_and_reused_connections() -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.reply()

    async with raw_server(script) as server, opened(server.url) as endpoint:
        assert endpoint._direct is not None
        pool = endpoint._direct.pool
        assert pool.statistics() == ConnectionPoolStatistics(0, opened=0, reused=0, is_closed=False)
        for _ in range(3):
            await post(endpoint)
        assert pool.statistics() == ConnectionPoolStatistics(1, opened=1, reused=2, is_closed=False)
        assert repr(pool) == f"<ConnectionPool of {endpoint.origin}: open, 1 idle>"
    assert pool.statistics() == ConnectionPoolStatistics(0, opened=1, reused=2, is_closed=True)
    assert repr(pool) == f"<ConnectionPool of {endpoint.origin}: closed, 0 idle>"


async def test_the_number_of_kept_connections_is_capped() -> None:
    count = KEPT_CONNECTIONS + 5
    all_there = trio.Event()

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            if len(peer.server.requests) >= count:
                all_there.set()
            await all_there.wait()
            await peer.reply()

    async with raw_server(script) as server, opened(server.url) as endpoint:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(post, endpoint)
        assert len(server.peers) == count
        assert endpoint._direct is not None
        assert endpoint._direct.pool.statistics().idle == KEPT_CONNECTIONS
        await wait_all_tasks_blocked(0.05)
        assert sum(peer.ended.is_set() for peer in server.peers) == 5


# Leaving early.


@pytest.mark.usefixtures("no_socket_is_left")
@pytest.mark.parametrize("leave", ["return", "cancel", "raise"])
async def test_leaving_a_stream_closes_its_connection_at_once(way: str, leave: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK + b"transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n")
        await peer.wait_end()

    async with raw_server(script) as server, opened(server.url, way) as endpoint:
        with trio.CancelScope() as scope:
            try:
                async with endpoint.ask("POST", {}, b"{}") as answer:
                    assert await anext(answer._chunks) == b"0123"
                    if leave == "cancel":
                        scope.cancel()
                        await answer.read_body()
                    if leave == "raise":
                        raise LookupError
            except LookupError:
                assert leave == "raise"
        with trio.fail_after(2):
            await server.peers[0].ended.wait()


@pytest.mark.usefixtures("no_socket_is_left")
@pytest.mark.parametrize("rounds", range(8))
@pytest.mark.parametrize("kept", [False, True])
async def test_a_cancellation_at_any_point_leaves_no_connection(rounds: int, kept: bool) -> None:
    go_on = trio.Event()

    async def script(peer: Peer) -> None:
        if kept:
            await peer.read_request()
            await peer.reply()
        if await peer.read_request():
            await peer.send(OK + b"content-length: 10\r\n\r\n0123")
        go_on.set()
        await peer.wait_end()

    async with raw_server(script) as server, opened(server.url) as endpoint:
        if kept:
            await post(endpoint)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, endpoint)
            for _ in range(rounds):
                await trio.lowlevel.checkpoint()
            if rounds == 7:
                await go_on.wait()
            nursery.cancel_scope.cancel()
        assert endpoint._direct is not None
        assert endpoint._direct.pool.statistics().idle in ((0, 1) if kept and not rounds else (0,))
        if rounds:
            with trio.fail_after(2):
                for peer in server.peers:
                    await peer.ended.wait()


async def test_nothing_is_kept_when_the_endpoint_closes() -> None:
    async with raw_server(reply_always) as server:
        async with opened(server.url) as endpoint:
            await post(endpoint)
        await server.peers[0].ended.wait()


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def served(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_tls_uses_the_context_of_the_caller(authority: trustme.CA, served: ssl.SSLContext) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with raw_server(reply_always, tls=served) as server:
        async with opened(server.url, ssl_context=trusting) as endpoint:
            for _ in range(3):
                assert await post(endpoint) == b"{}"
            assert len(server.peers) == 1
        with pytest.raises(UnreachableError, match=r"/mcp failed: SSLCertVerificationError: .*certificate"):
            async with opened(server.url) as endpoint:
                await post(endpoint)


async def test_a_body_that_ends_with_the_connection_needs_no_close_notify(
    authority: trustme.CA, served: ssl.SSLContext
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        raw_server(closing(ENDING["the end"]), tls=served) as server,
        opened(server.url, ssl_context=trusting) as endpoint,
    ):
        assert await post(endpoint) == b"0123456789"


@pytest.mark.usefixtures("no_socket_is_left")
async def test_a_server_that_never_completes_the_tls_handshake_times_out(autojump_clock: MockClock) -> None:
    async def script(peer: Peer) -> None:
        await trio.sleep_forever()

    async with raw_server(script) as server:
        url = server.url.replace("http:", "https:")
        async with opened(url) as endpoint:
            started = trio.current_time()
            with pytest.raises(UnreachableError, match="TimeoutError: no connection within 10 seconds"):
                await post(endpoint)
            assert trio.current_time() - started == CONNECT_SECONDS


async def test_a_server_that_does_not_listen_is_named() -> None:
    with trio.socket.socket() as sock:  # bound, so that no other server has the port, but not listening
        await sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        async with opened(url) as endpoint:
            with pytest.raises(UnreachableError, match=f"{url} failed: .*connect to 127.0.0.1"):
                await post(endpoint)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://a..b/", "http://no-such-host.invalid/"])
async def test_a_host_that_cannot_be_found_is_unreachable(way: str, url: str) -> None:
    async with opened(url, way) as endpoint:
        with pytest.raises(UnreachableError, match="failed: "):
            await post(endpoint)


# Requests through httpx2.


async def test_after_a_redirect_all_requests_go_through_httpx2() -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_request():
            if "/mcp" in peer.server.requests[-1].line:
                await peer.reply(b"", b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /there/\r\n")
            else:
                await peer.reply()

    async with raw_server(script) as server, opened(server.url) as endpoint:
        assert await post(endpoint, b'{"a": 1}', {"x": "1"}) == b"{}"
        assert endpoint._direct is None
        assert await post(endpoint, b'{"a": 2}') == b"{}"
    assert [received.line.split()[1] for received in server.requests] == [
        *("/mcp", "/mcp", "/there/"),
        *("/mcp", "/there/"),
    ]
    assert server.requests[2].body == b'{"a": 1}'
    assert server.requests[2].headers["x"] == "1"


@pytest.mark.parametrize("code", [301, 302, 303])
async def test_a_redirect_that_would_become_a_get_is_not_followed(code: int) -> None:
    answer = b"HTTP/1.1 %d Moved\r\nlocation: ../there?x\r\ncontent-length: 0\r\n\r\n" % code
    async with raw_server(answering(answer)) as server, opened(server.url) as endpoint:
        with pytest.raises(UnreachableError, match=r"redirects to http.*/there\?x, which makes a GET of"):
            await post(endpoint)
        assert len(server.requests) == 1


async def test_cookies_are_sent_back() -> None:
    head = OK + b"set-cookie: a=1; path=/\r\nset-cookie: b=2; path=/\r\nset-cookie: c=3; path=/elsewhere\r\n"
    async with (
        raw_server(answering(head + b"content-length: 2\r\n\r\n{}")) as server,
        opened(server.url) as endpoint,
    ):
        for _ in range(3):
            assert await post(endpoint) == b"{}"
    first, *others = server.requests
    assert "cookie" not in first.headers
    assert [received.headers["cookie"] for received in others] == ["a=1; b=2"] * 2


@pytest.mark.parametrize(
    "options",
    [{"auth": ("me", "secret")}, {"headers": {"Connection": "close"}}, {"headers": [("x", "1")]}],
)
async def test_unusual_options_go_through_httpx2(options: dict[str, Any]) -> None:
    options = {"limit": LIMIT, "headers": None, "auth": None, "http_client": None, **options}
    async with raw_server(reply_always) as server, open_endpoint(server.url, **options) as endpoint:
        assert endpoint._direct is None
        assert await post(endpoint) == b"{}"


async def test_credentials_in_the_url_go_through_httpx2() -> None:
    options: dict[str, Any] = {"limit": LIMIT, "headers": None, "auth": None, "http_client": None}
    async with raw_server(reply_always) as server:
        url = server.url.replace("://", "://me:secret@")
        async with open_endpoint(url, **options) as endpoint:
            assert await post(endpoint) == b"{}"
            assert endpoint.origin == server.url.removesuffix("/mcp")
    assert server.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"


async def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"limit": LIMIT, "headers": None, "auth": None, "http_client": None}
    async with raw_server(reply_always) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        async with open_endpoint("http://example.invalid/mcp", **options) as endpoint:
            assert await post(endpoint) == b"{}"
        assert server.requests[0].line == "POST http://example.invalid/mcp HTTP/1.1"
        monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.1")
        async with opened(server.url) as endpoint:
            assert await post(endpoint) == b"{}"
        assert server.requests[1].line == "POST /mcp HTTP/1.1"


PROXIES = [
    ({}, "http://example.org/"),
    ({"HTTP_PROXY": "http://p:1"}, "http://example.org/"),
    ({"HTTP_PROXY": "http://p:1"}, "https://example.org/"),
    ({"https_proxy": "p:1"}, "https://example.org/"),
    ({"ALL_PROXY": "http://p:1"}, "https://example.org/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, "http://example.org/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "EXAMPLE.org"}, "http://example.org:8000/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "example.org"}, "http://www.example.org/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "example.org"}, "http://notexample.org/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": ".example.org"}, "http://www.example.org/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": ".example.org"}, "http://example.org/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "localhost"}, "http://localhost:1/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "localhost"}, "http://a.localhost/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "127.0.0.1"}, "http://127.0.0.1:1/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "::1"}, "http://[::1]:1/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": "127.0.0.2"}, "http://127.0.0.1/"),
    ({"ALL_PROXY": "http://p:1", "NO_PROXY": ","}, "http://example.org/"),
    ({"NO_PROXY": "example.com"}, "http://example.org/"),
]


@pytest.mark.parametrize(("environment", "url"), PROXIES)
def test_proxy_variables_are_read_as_httpx2_reads_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = httpx2.AsyncClient()
    has_proxy = client._transport_for_url(httpx2.URL(url)) is not client._transport
    assert may_have_proxy(parse_address(url)) == has_proxy


@pytest.mark.parametrize("entry", ["127.0.0.0/8", "http://127.0.0.1", "127.0.0.1:80", "*127.0.0.1"])
def test_proxy_exceptions_that_only_httpx2_can_read_are_left_to_it(
    monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", entry)
    assert may_have_proxy(parse_address("http://127.0.0.1/"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/mcp",
        "http://127.0.0.1",
        "https://EXAMPLE.org:443/Mcp/?a=b&c=%20d?/",
        "http://a.b-c.d_e.example:8000/~x/@y:z;w=1/.well-known/a..b/",
        "http://example.org?x=1",
        "http://example.org/a/../b/./c",
        "http://example.org/a b|c",
        "http://größe.example/x",
        "http://[::1]:8000/mcp",
        "http://me:pw@example.org/",
        "http://example.org/x#part",
        "http://example.org:/x",
        "http://example.org:080/x",
        "HTTP://example.org/x",
    ],
)
def test_urls_are_read_as_httpx2_reads_them(url: str) -> None:
    parsed = httpx2.URL(url)
    address = parse_address(url)
    assert address.scheme == parsed.scheme
    assert address.host == parsed.raw_host.decode()
    assert address.target == parsed.raw_path.decode()
    assert address.netloc == parsed.netloc.decode()
    assert address.has_credentials == bool(parsed.userinfo)


@pytest.mark.parametrize("url", ["http://127.0.0.256/", "http://1.2.3.04/", "http://[::g]/", "ftp://x/", "x"])
def test_an_invalid_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no"):
        parse_address(url)


def test_httpx2_is_imported_only_if_it_is_needed() -> None:
    code = """
import sys, trio
from trio_mcp.transports.http.server_url import open_endpoint
async def main():
    options = dict(limit=1, headers={"x": "y"}, auth=None, http_client=None)
    async with open_endpoint("http://127.0.0.1:9/mcp?x", **options):
        print("httpx2" in sys.modules)
    async with open_endpoint("http://me:pw@127.0.0.1:9/mcp", **options):
        print("httpx2" in sys.modules)
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
