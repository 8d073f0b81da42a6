"""Raw connections that ask a server for bursts and receive them at the least cost, without decoding JSON.

Owns as much of HTTP/1.1 and of WebSocket as that needs. A burst has arrived when its answer has. The bytes
are returned as they came, and are checked after the clock has stopped.
"""

import base64
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import trio
from limits_messages import LAST_CHUNK, VERSION, call, masked_frame

READ_BYTES = 65_536
TAIL = 1024
"""Every answer is shorter than this."""

HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = {"mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": "burst"}


def head(method: str, path: str, fields: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join((*lines, "", "")).encode()


class Consumer(Protocol):
    """A connection that can ask for a burst."""

    async def prepare(self) -> None:
        """Connect again if necessary; a server closes a connection that is idle for long."""

    async def burst(self, n: int) -> bytes:
        """All bytes of a burst of `n` updates, its answer included."""

    async def aclose(self) -> None:
        """Disconnect."""


class _Pieces:
    """The bytes received so far; an end is searched for only in the last of them."""

    def __init__(self, data: bytes = b"") -> None:
        self._pieces = [data]
        self._tail = data[-TAIL:]

    def add(self, data: bytes | bytearray) -> None:
        if not data:
            raise trio.BrokenResourceError(f"the server hung up behind {self._tail!r}")
        self._pieces.append(bytes(data))
        self._tail = (self._tail + self._pieces[-1])[-TAIL:]

    def has(self, end: bytes) -> bool:
        return end in self._tail

    def ends(self, end: bytes) -> bool:
        return self._tail.endswith(end)

    def join(self) -> bytes:
        return b"".join(self._pieces)


class HttpConsumer:
    """One HTTP connection that is kept alive."""

    def __init__(self, stream: trio.SocketStream, url: str) -> None:
        self._stream = stream
        self._url = url
        parts = urlsplit(url)
        self._path, self._host = parts.path or "/", parts.netloc
        self._ident = 0

    async def prepare(self) -> None:
        await self._stream.aclose()
        self._stream = await connect(self._url)

    async def burst(self, n: int) -> bytes:
        self._ident += 1
        _, body = await self.request("POST", call(n, self._ident), HEADERS | MODERN)
        return body

    async def request(
        self, method: str, body: bytes, headers: dict[str, str], path: str = ""
    ) -> tuple[bytes, bytes]:
        """The head of the response, and its body, still chunked if it came chunked."""
        await self.send(method, body, headers, path)
        pieces = _Pieces()
        while not pieces.has(b"\r\n\r\n"):
            pieces.add(await self._stream.receive_some(READ_BYTES))
        start, _, rest = pieces.join().partition(b"\r\n\r\n")
        pieces = _Pieces(rest)
        fields = start.lower()
        if b"transfer-encoding: chunked" in fields:
            while not pieces.ends(LAST_CHUNK):
                pieces.add(await self._stream.receive_some(READ_BYTES))
            return start, pieces.join()
        length = int(fields.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(rest) < length:
            rest += await self._stream.receive_some(READ_BYTES)
        return start, rest

    async def send(self, method: str, body: bytes, headers: dict[str, str], path: str = "") -> None:
        """Send a request without waiting for its response."""
        fields = {"host": self._host, "content-length": str(len(body)), **headers}
        await self._stream.send_all(head(method, path or self._path, fields) + body)

    async def receive_until(self, end: bytes) -> None:
        """Receive until `end` has come."""
        pieces = _Pieces()
        while not pieces.has(end):
            pieces.add(await self._stream.receive_some(READ_BYTES))

    async def aclose(self) -> None:
        await self._stream.aclose()


class MessageConsumer:
    """One stream of messages in both directions, such as a WebSocket's or a subprocess's."""

    def __init__(
        self, send: trio.abc.SendStream, receive: trio.abc.ReceiveStream, wrap: Callable[[bytes], bytes]
    ) -> None:
        self._send, self._receive = send, receive
        self._wrap = wrap
        self._ident = 0

    async def prepare(self) -> None:
        await trio.lowlevel.checkpoint()

    async def burst(self, n: int) -> bytes:
        self._ident += 1
        return await self.ask(call(n, self._ident), b'"result"')

    async def ask(self, message: bytes, end: bytes) -> bytes:
        """Send a message, and return all that comes up to `end`."""
        await self.tell(message)
        pieces = _Pieces()
        while not pieces.has(end):
            pieces.add(await self._receive.receive_some(READ_BYTES))
        return pieces.join()

    async def tell(self, message: bytes) -> None:
        await self._send.send_all(self._wrap(message))

    async def aclose(self) -> None:
        await self._send.aclose()
        await self._receive.aclose()


class WebSocketConsumer(MessageConsumer):
    """A WebSocket that answers no pings, so a server drops it while it waits for its turn."""

    def __init__(self, stream: trio.SocketStream, url: str) -> None:
        super().__init__(stream, stream, masked_frame)
        self._url = url

    async def prepare(self) -> None:
        await self.aclose()
        self._send = self._receive = await open_websocket(self._url)


async def connect(url: str) -> trio.SocketStream:
    parts = urlsplit(url)
    return await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)


async def connect_http(url: str) -> HttpConsumer:
    return HttpConsumer(await connect(url), url)


async def connect_websocket(url: str) -> WebSocketConsumer:
    return WebSocketConsumer(await open_websocket(url), url)


async def open_websocket(url: str) -> trio.SocketStream:
    stream = await connect(url)
    parts = urlsplit(url)
    key = base64.b64encode(bytes(16)).decode()
    upgrade = {
        "host": parts.netloc,
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": key,
        "sec-websocket-version": "13",
    }
    await stream.send_all(head("GET", parts.path or "/", upgrade))
    pieces = _Pieces()
    while not pieces.has(b"\r\n\r\n"):  # a ping may follow at once
        pieces.add(await stream.receive_some(READ_BYTES))
    if not pieces.join().startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"{url} refused a WebSocket: {pieces.join()!r}")
    return stream


@asynccontextmanager
async def open_stdio(command: Sequence[str | Path]) -> AsyncIterator[MessageConsumer]:
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    consumer = MessageConsumer(process.stdin, process.stdout, lambda message: message + b"\n")
    try:
        yield consumer
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await consumer.aclose()
            await process.wait()
