"""Clients that leave, whatever they have left unread; and connections that the server has to close."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any

import msgspec
import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from tests.support.asgi_host import META, MODERN
from tests.support.limits import HANG_SECONDS
from trio_mcp import Context, HttpSettings, Server, asgi_app, open_server
from trio_mcp.transports.hypercorn.serve import serve_asgi

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


class Holding:
    """A server with a tool that is held until its client leaves, served on a real socket."""

    def __init__(self) -> None:
        self.server = Server("holding")
        self.begun, self.ended = trio.Semaphore(0), trio.Semaphore(0)
        self.port = 0
        self.streams: list[trio.abc.Stream] = []
        self.app: Any = None
        self.trusting: ssl.SSLContext | None = None  # of a client, if it has to speak TLS

        @self.server.tool
        async def hold(ctx: Context) -> None:
            self.begun.release()
            try:
                await trio.sleep_forever()
            finally:
                self.ended.release()

    @property
    def load(self) -> int:
        """How many requests count as being answered."""
        return len(self.app._endpoint._load)

    async def connect(self) -> Any:
        stream: Any = await trio.open_tcp_stream("127.0.0.1", self.port)
        if self.trusting is not None:
            stream = trio.SSLStream(stream, self.trusting, server_hostname="127.0.0.1", https_compatible=True)
            await stream.do_handshake()
        self.streams.append(stream)
        return stream

    async def wait_idle(self) -> None:
        """Wait until no request counts any more."""
        while self.load:  # noqa: ASYNC110  # the endpoint has no event for it
            await trio.sleep(0.01)


@cache
def make_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of a server on the loopback, and of a client that trusts it."""
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return serving, trusting


async def leave(stream: Any, how: str) -> None:
    """End the connection of a client: closed, reset, or with its own direction closed."""
    raw = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if how == "half":
        await raw.send_eof()
        return
    if how == "reset":
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await raw.aclose()
    await stream.aclose()


@asynccontextmanager
async def holding(**options: Any) -> AsyncIterator[Holding]:
    held = Holding()
    settings = HttpSettings(**options.pop("settings", {}))
    if options.pop("is_secure", False):
        options["tls"], held.trusting = make_contexts()
    options = {"bind": "127.0.0.1:0", "shutdown_grace": 0.2, **options}
    with trio.fail_after(HANG_SECONDS):
        async with open_server(held.server) as running, trio.open_nursery() as nursery:
            held.app = asgi_app(running, settings=settings)
            (address,) = await nursery.start(partial(serve_asgi, held.app, **options))
            held.port = int(address.rpartition(":")[2])
            yield held
            for stream in held.streams:
                await stream.aclose()
            nursery.cancel_scope.cancel()


def post(message: dict[str, Any], *headers: str, modern: bool = False, version: str = "1.1") -> bytes:
    """A POST as bytes."""
    lines = [*headers]
    if modern:
        params = {**message.get("params", {}), "_meta": META}
        message = {"jsonrpc": "2.0", "id": 1, **message, "params": params}
        lines += [f"mcp-protocol-version: {MODERN}", f"mcp-method: {message['method']}"]
        lines += [f"mcp-name: {params['name']}"] if "name" in params else []
    body = msgspec.json.encode(message)
    head = (
        f"POST /mcp HTTP/{version}",
        "host: localhost",
        "accept: application/json, text/event-stream",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *lines,
    )
    return "\r\n".join((*head, "", "")).encode() + body


HOLD = {"method": "tools/call", "params": {"name": "hold"}}
LISTEN = {"method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": True}}}
H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA")


OFFERS = {"none": (), "h2c": H2C, "foo": ("connection: Upgrade", "upgrade: foo/2")}


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


async def read_answer(stream: trio.abc.ReceiveStream, count: int = 1) -> bytes:
    """Read `count` responses, each with a Content-Length."""
    received = rest = b""
    for _ in range(count):
        while b"\r\n\r\n" not in rest:
            data = await stream.receive_some()
            assert data, received
            rest += data
        head, _, rest = rest.partition(b"\r\n\r\n")
        (length,) = (line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line)
        while len(rest) < int(length):
            rest += await stream.receive_some()
        received += head + b"\r\n\r\n" + rest[: int(length)]
        rest = rest[int(length) :]
    assert not rest
    return received


async def initialize(held: Holding, version: str) -> str:
    """Open a session and return its id."""
    params = {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    stream = await held.connect()
    await stream.send_all(post({**PING, "method": "initialize", "params": params}))
    answer = await read_answer(stream)
    await stream.aclose()
    (line,) = (line for line in answer.decode().split("\r\n") if line.lower().startswith("mcp-session-id"))
    return line.partition(":")[2].strip()


# The end of a connection that the response said is closed


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "kind",
    [
        *("modern", "session", "notification", "unknown session", "malformed", "delete", "options", "get"),
        "accept",
    ],
)
async def test_a_connection_that_the_client_wants_closed_is_closed_behind_the_response(kind, version):
    close = ["connection: close"] if version == "1.1" else []
    async with holding(read_timeout=HANG_SECONDS, keep_alive_timeout=HANG_SECONDS * 2) as held:
        session = f"mcp-session-id: {await initialize(held, '2025-06-18')}"
        bare = f"X /mcp HTTP/{version}\r\nhost: localhost\r\n" + "".join(f"{line}\r\n" for line in close)
        data = {
            "modern": lambda: post({"method": "tools/list"}, *close, modern=True, version=version),
            "session": lambda: post(PING, session, *close, version=version),
            "notification": lambda: post(
                {"jsonrpc": "2.0", "method": "notifications/initialized"}, session, *close, version=version
            ),
            "unknown session": lambda: post(PING, "mcp-session-id: none", *close, version=version),
            "malformed": lambda: post({}, *close, version=version),
            "delete": lambda: f"{bare}{session}\r\n\r\n".replace("X", "DELETE", 1).encode(),
            "options": lambda: f"{bare}\r\n".replace("X", "OPTIONS", 1).encode(),
            "get": lambda: f"{bare}\r\n".replace("X", "GET", 1).encode(),
            "accept": lambda: post(PING, "accept: text/html", *close, version=version),
        }[kind]()
        stream = await held.connect()
        await stream.send_all(data)
        answer = await read_to_end(stream)
        assert answer.startswith(b"HTTP/1.1 "), answer
        assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "line", ["sec-websocket-version: 99", "sec-websocket-version: 13", "origin: http://evil"]
)
async def test_a_refused_websocket_handshake_closes_its_connection(line):
    async with holding(read_timeout=HANG_SECONDS * 2) as held:
        stream = await held.connect()
        lines = ["connection: Upgrade", "upgrade: websocket", line]
        if "origin" in line:
            lines += ["sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
        await stream.send_all("\r\n".join(["GET /mcp HTTP/1.1", "host: localhost", *lines, "", ""]).encode())
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 40")


# Clients that leave


@pytest.mark.parametrize("unread", [b"", b"\r\n", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", b"\0" * 5000])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
# A client that closes its direction has left, too: nobody could tell them apart.
@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
async def test_a_client_that_has_left_is_seen_whatever_is_unread(unread, offer, how, is_secure):
    async with holding(is_secure=is_secure) as held:
        for request, is_held in ((HOLD, True), (LISTEN, False)):
            stream = await held.connect()
            await stream.send_all(post(request, *offer, modern=True) + unread)
            if is_held:
                await held.begun.acquire()
            else:
                assert b"200" in await stream.receive_some()
            assert held.load == 1
            await leave(stream, how)
            if is_held:
                await held.ended.acquire()
            await held.wait_idle()


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
async def test_what_comes_behind_a_request_in_a_later_packet_does_not_hide_that_its_client_leaves(is_secure):
    async with holding(is_secure=is_secure) as held:
        stream = await held.connect()
        await stream.send_all(post(HOLD, modern=True))
        await held.begun.acquire()
        for _ in range(3):
            await stream.send_all(b"\r\n")
            await wait_all_tasks_blocked(0.01)
        await stream.aclose()
        await held.ended.acquire()
        await held.wait_idle()


@pytest.mark.parametrize("unread", [b"", b"\r\n"])
async def test_the_streams_of_departed_clients_of_a_session_are_given_back(unread):
    async with holding(settings={"max_streams": 2}) as held:
        session = await initialize(held, "2025-06-18")
        head = ["GET /mcp HTTP/1.1", "host: localhost", "accept: text/event-stream"]
        get = "\r\n".join([*head, f"mcp-session-id: {session}", ""])
        for _ in range(3):
            stream = await held.connect()
            await stream.send_all(get.encode() + b"\r\n" + unread)
            assert b"200" in await stream.receive_some()
            await stream.aclose()
            await held.wait_idle()


async def test_a_client_that_sends_much_while_its_request_is_answered_is_cut():
    async with holding(max_head_bytes=4096) as held:
        stream = await held.connect()
        await stream.send_all(post(HOLD, modern=True))
        await held.begun.acquire()
        await stream.send_all(b"x" * 70_000)
        await held.ended.acquire()
        await held.wait_idle()


# Requests in a pipeline, and offers of another protocol


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_requests_in_a_pipeline_are_answered_in_order(offer):
    async with holding() as held:
        stream = await held.connect()
        requests = [post({"id": n, "method": "tools/list"}, *offer, modern=True) for n in range(20)]
        await stream.send_all(b"".join(requests[:10]))
        await stream.send_all(b"".join(requests[10:]))
        answer = await read_answer(stream, 20)
        assert [answer.find(b'"id":%d,' % n) > 0 for n in range(20)] == [True] * 20
        assert answer.count(b"HTTP/1.1 200") == 20
        await stream.aclose()
        await held.wait_idle()


async def test_an_offer_of_h2c_is_answered_in_http_1():
    async with holding() as held:
        stream = await held.connect()
        head = ["OPTIONS /mcp HTTP/1.1", "host: localhost", *H2C, "", ""]
        for _ in range(2):
            await stream.send_all("\r\n".join(head).encode())
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 405")


# WebSocket


def handshake(*, version: str = "13") -> bytes:
    head = ["GET /mcp HTTP/1.1", "host: localhost", "connection: Upgrade", "upgrade: websocket"]
    head += [f"sec-websocket-version: {version}", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
    return "\r\n".join([*head, "", ""]).encode()


@pytest.mark.parametrize("early", [b"x", b"\x81\x80\0\0\0\0", b"y" * 100_000], ids=["byte", "frame", "much"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
async def test_what_comes_with_a_websocket_handshake_is_refused_and_leaves_nothing(early, is_secure, caplog):
    async with holding(is_secure=is_secure) as held:
        for _ in range(10):
            stream = await held.connect()
            await stream.send_all(handshake() + early)
            with_answer = True
            try:
                answer = await read_to_end(stream)
            except trio.BrokenResourceError:  # the bytes that nobody reads may overtake the answer
                with_answer = False
            if with_answer:
                assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 101")), answer
            await stream.aclose()
        await held.wait_idle()
        await wait_all_tasks_blocked(0.01)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
