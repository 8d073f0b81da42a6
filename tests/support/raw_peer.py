"""A peer that sends raw bytes to a server, for messages that no client would send."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urljoin

import httpx2
import msgspec
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import ClientSettings, HttpSettings, Server, serve_http
from trio_mcp.client.target import open_target
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.testing import HttpConnector, PipeConnector, WebSocketConnector
from trio_mcp.transports.newline_stream import StreamTransport
from trio_mcp.transports.websocket.transport import WebSocketTransport
from trio_mcp.wire.codec import decode_lines, decode_message, encode_messages
from trio_mcp.wire.frames import Request
from trio_mcp.wire.http import SESSION_HEADER, standard_headers
from trio_mcp.wire.incoming_request import read_request
from trio_mcp.wire.sse import EventDecoder

MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class RawPeer:
    """Sends bytes over any transport, and reads JSON messages."""

    def __init__(self, transport: FrameTransport) -> None:
        self._transport = transport
        self._messages: deque[Any] = deque()

    async def send(self, *messages: bytes | dict[str, Any]) -> None:
        """Send each message as a line of its own."""
        lines = [m if isinstance(m, bytes) else msgspec.json.encode(m) for m in messages]
        if isinstance(self._transport, WebSocketTransport):
            for line in lines:
                await self._transport._connection.send_message(_text_or_bytes(line))
        else:
            await self.send_bytes(b"".join(line + b"\n" for line in lines))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are over a stream; in memory, as the frames that they decode to."""
        if isinstance(self._transport, StreamTransport):
            await self._transport._send.send_all(data)
        else:
            await self._transport.send_frames(decode_lines(data))

    async def receive(self) -> Any:
        """The next message from the server, as a dict (or a list, for a batch)."""
        with trio.fail_after(HANG_SECONDS):
            while not self._messages:
                frames = await self._transport.receive_frames()
                self._messages.extend(msgspec.json.decode(data) for data in encode_messages(frames))
        return self._messages.popleft()

    async def receive_matching(self, **wanted: Any) -> Any:
        """The next message with these members; others before it are dropped."""
        while True:
            message = await self.receive()
            if all(message.get(key) == value for key, value in wanted.items()):
                return message

    async def ask(self, message: bytes | dict[str, Any]) -> Any:
        """Send one message and return the next that comes."""
        await self.send(message)
        return await self.receive()

    async def initialize(self, version: str, capabilities: dict[str, Any] | None = None) -> Any:
        """Do the handshake of a legacy revision; returns the answer to `initialize`."""
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        answer = await self.ask({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params})
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer


def call(
    ident: Any, name: str, *, token: Any = None, modern: bool = True, **arguments: Any
) -> dict[str, Any]:
    """The message of a tools/call request."""
    meta: dict[str, Any] = dict(MODERN_META) if modern else {}
    if token is not None:
        meta["progressToken"] = token
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}


def _text_or_bytes(data: bytes) -> str | bytes:
    """`data` as a WebSocket message: text if it is UTF-8, else binary."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


class RawHttpPeer(RawPeer):
    """Sends each message as a POST with the headers that belong to it, and collects the answers."""

    def __init__(self, url: str, http: httpx2.AsyncClient, nursery: trio.Nursery) -> None:
        self._url = url
        self._http = http
        self._nursery = nursery
        self._send, self._receive = trio.open_memory_channel[Any](100)

    async def send(self, *messages: bytes | dict[str, Any]) -> None:
        for message in messages:
            body = message if isinstance(message, bytes) else msgspec.json.encode(message)
            await self._nursery.start(self._post, body)

    async def receive(self) -> Any:
        with trio.fail_after(HANG_SECONDS):
            return await self._receive.receive()

    async def _post(self, body: bytes, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        frame = decode_message(body)
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if isinstance(frame, Request) and read_request(frame).names_modern_version:
            headers |= standard_headers(frame)
        task_status.started()
        answer = await self._http.post(self._url, content=body, headers=headers)
        if SESSION_HEADER in answer.headers:
            self._http.headers[SESSION_HEADER] = answer.headers[SESSION_HEADER]
        if answer.headers.get("content-type") == "text/event-stream":
            for data in encode_messages(EventDecoder(1 << 20).feed(answer.content)):
                await self._send.send(msgspec.json.decode(data))
        elif answer.content:
            await self._send.send(answer.json())


class RawSsePeer(RawPeer):
    """Sends each message as a POST to the endpoint that the event stream of HTTP+SSE names."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self._url = url
        self._http = http
        self._send, self._receive = trio.open_memory_channel[Any](1000)
        self._endpoint = ""
        self.statuses: list[int] = []

    async def listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read the event stream until its end; it has started once the endpoint is known."""
        decoder = EventDecoder(1 << 24)
        async with self._http.stream("GET", self._url, headers={"accept": "text/event-stream"}) as stream:
            async for data in stream.aiter_bytes():
                for message in encode_messages(decoder.feed(data)):
                    await self._send.send(msgspec.json.decode(message))
                if decoder.endpoint is not None and not self._endpoint:
                    self._endpoint = urljoin(self._url, decoder.endpoint)
                    task_status.started()

    async def send(self, *messages: bytes | dict[str, Any]) -> None:
        for message in messages:
            body = message if isinstance(message, bytes) else msgspec.json.encode(message)
            headers = {"content-type": "application/json"}
            answer = await self._http.post(self._endpoint, content=body, headers=headers)
            self.statuses.append(answer.status_code)

    async def send_bytes(self, data: bytes) -> None:
        await self.send(*data.splitlines())

    async def receive(self) -> Any:
        with trio.fail_after(HANG_SECONDS):
            return await self._receive.receive()


@asynccontextmanager
async def open_raw(transport: str, server: Server) -> AsyncIterator[RawPeer]:
    """Connect a raw peer to `server`; see `TRANSPORTS` in tests/conftest.py."""
    limit = server.settings.max_frame_bytes
    if transport == "http":
        async with trio.open_nursery() as nursery, httpx2.AsyncClient(timeout=HANG_SECONDS) as http:
            serve = partial(serve_http, server, settings=HttpSettings(max_body_bytes=limit))
            (url,) = await nursery.start(partial(serve, bind="127.0.0.1:0"))
            yield RawHttpPeer(url, http, nursery)
            nursery.cancel_scope.cancel()
        return
    if transport == "sse":
        async with trio.open_nursery() as nursery, httpx2.AsyncClient(timeout=HANG_SECONDS) as http:
            serve = partial(serve_http, server, settings=HttpSettings(max_body_bytes=limit), sse=True)
            (url,) = await nursery.start(partial(serve, bind="127.0.0.1:0"))
            peer = RawSsePeer(url.replace("/mcp", "/sse"), http)
            await nursery.start(peer.listen)
            yield peer
            nursery.cancel_scope.cancel()
        return
    target: Any = server
    if transport == "stdio":
        target = PipeConnector(server, limit)
    elif transport == "websocket":
        target = WebSocketConnector(server, limit)
    elif transport == "websocket-asgi":
        target = HttpConnector(server, websocket=True, settings=HttpSettings(max_body_bytes=limit))
    async with open_target(target, ClientSettings()) as opened:
        yield RawPeer(opened)
