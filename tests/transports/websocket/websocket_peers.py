"""WebSocket peers for the tests: raw peers, peers of trio-websocket, and connected transports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import trio
import trio.testing
import trio_websocket

from tests.transports.websocket.test_corking_stream import WriteCounter
from trio_mcp import (
    Context,
    Server,
    ServerSettings,
    serve_websocket,
)
from trio_mcp.client.settings import ClientSettings
from trio_mcp.transports.websocket.client import open_websocket_transport
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.transports.websocket.keeping import keep_connection
from trio_mcp.transports.websocket.transport import WebSocketTransport
from trio_mcp.wire.frames import ProgressRun

LIMIT = 100_000
MCP = ["mcp"]


class Url:
    """A connector for a URL, as `open_client("ws://...")` creates one."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options = options

    def open_transport(self, settings: ClientSettings) -> Any:
        return open_websocket_transport(self.url, max_frame_bytes=settings.max_frame_bytes, **self.options)


def make_server(**settings: Any) -> tuple[Server, dict[str, trio.Event]]:
    server = Server("websocket", settings=ServerSettings(**settings))
    seen = {"started": trio.Event(), "cancelled": trio.Event()}

    @server.tool
    async def burst(ctx: Context, count: int) -> int:
        for number in range(1, count + 1):
            await ctx.report_progress(number, count)
        return count

    @server.tool
    async def wait() -> None:
        seen["started"].set()
        try:
            await trio.sleep_forever()
        finally:
            seen["cancelled"].set()

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server, seen


@asynccontextmanager
async def serving(server: Any, **options: Any) -> AsyncIterator[str]:
    """Serve on a loopback socket and give the address."""
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(partial(serve_websocket, server, **options))
        yield address
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_peer(url: str, **options: Any) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Open a WebSocket client of trio-websocket."""
    async with trio_websocket.open_websocket_url(url, **options) as connection:
        yield connection
    await connection._stream.aclose()  # trio-websocket leaves it open if the peer has closed


@asynccontextmanager
async def serving_peer(
    talk: Callable[[trio_websocket.WebSocketConnection], Awaitable[None]], **options: Any
) -> AsyncIterator[str]:
    """Serve with trio-websocket: `talk` gets each connection."""

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        await talk(await request.accept(**options))

    async with trio.open_nursery() as nursery:
        serve = trio_websocket.serve_websocket
        listening = await nursery.start(serve, handle, "127.0.0.1", 0, None)
        yield f"ws://127.0.0.1:{listening.port}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving_bytes(answer: bytes, *, reads: bool = True) -> AsyncIterator[str]:
    """Serve over TCP: send `answer` on each connection and close it."""

    async def handle(stream: trio.SocketStream) -> None:
        if reads:
            await stream.receive_some()
        await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def ask(connection: trio_websocket.WebSocketConnection, message: Any) -> Any:
    text = message if isinstance(message, (str, bytes)) else msgspec.json.encode(message).decode()
    await connection.send_message(text)
    return msgspec.json.decode(await connection.get_message())


def memory_pair(
    inner: tuple[trio.abc.Stream, trio.abc.Stream],
) -> Callable[..., Any]:
    """Connected transports over a pair of streams, as a context manager: client, server, their counters."""

    @asynccontextmanager
    async def connected(**options: Any) -> AsyncIterator[tuple[Any, Any, WriteCounter]]:
        a, b = inner
        counter = WriteCounter(b)
        client_stream, server_stream = CorkingStream(a), CorkingStream(counter)
        scopes = trio.CancelScope(), trio.CancelScope()
        size = {"receive_buffer_size": 65536, "message_queue_size": 256, "max_message_size": LIMIT}

        async def accept(nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
            request = await trio_websocket.wrap_server_stream(nursery, server_stream, **size)
            return await request.accept()

        async def connect(nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
            return await trio_websocket.wrap_client_stream(nursery, client_stream, "test", "/", **size)

        made: dict[str, Any] = {}

        async with trio.open_nursery() as nursery:
            try:
                async with trio.open_nursery() as starting:

                    @starting.start_soon
                    async def start_server() -> None:
                        made["server"] = await nursery.start(
                            keep_connection, accept, server_stream, scopes[0]
                        )

                    made["client"] = await nursery.start(keep_connection, connect, client_stream, scopes[1])
                client = WebSocketTransport(made["client"], client_stream, max_frame_bytes=LIMIT)
                server = WebSocketTransport(
                    made["server"], server_stream, max_frame_bytes=LIMIT, close_code=1001
                )
                counter.writes.clear()
                yield client, server, counter
            finally:
                for scope in scopes:
                    scope.cancel()

    return connected


async def receive_updates(transport: Any, count: int) -> tuple[list[Any], int]:
    updates: list[Any] = []
    calls = 0
    while len(updates) < count:
        calls += 1
        for frame in await transport.receive_frames():
            assert isinstance(frame, ProgressRun)
            updates += frame.updates
    return updates, calls


def make_service(serve: Any) -> Any:
    from trio_mcp.transports.websocket.server import WebSocketService
    from trio_mcp.wire.origin import Doorkeeper

    return WebSocketService(lambda transport, headers, peer: serve(transport, headers), LIMIT, Doorkeeper())


async def receive_until_closed(transport: Any) -> None:
    while True:
        await transport.receive_frames()
