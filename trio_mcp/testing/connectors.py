"""Connectors: they serve and connect over real pipes and sockets, in one process.

Owns the pipes and listeners. Memory needs no connector: a server is a target by itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Servable, UrlOptions, open_served, open_target
from trio_mcp.concurrency.nursery import open_service_nursery
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.server.http import serve_http
from trio_mcp.server.running import AuthenticatedServer, RunningServer
from trio_mcp.server.server import Server
from trio_mcp.session.settings import DEFAULT_REQUEST_BYTES
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.newline_stream import StreamTransport
from trio_mcp.wire.origin import Doorkeeper
from trio_mcp.wire.value_count import MAX_ANSWER_VALUES


@attrs.frozen
class PipeConnector:
    """Serves over two pipes with the framing of stdio, in one process; POSIX only.

    Bytes go through the kernel, so an unread pipe fills up as it would between
    processes. `max_frame_bytes` is the server's cap.
    """

    server: Servable
    max_frame_bytes: int = DEFAULT_REQUEST_BYTES

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Serve and connect during the block; checkpoints on exit."""
        (to_server, from_client), (to_client, from_server) = pipe_streams(), pipe_streams()
        ours = StreamTransport(
            to_server,
            from_server,
            max_frame_bytes=settings.max_frame_bytes,
            max_values=MAX_ANSWER_VALUES,
        )
        theirs = StreamTransport(to_client, from_client, max_frame_bytes=self.max_frame_bytes)
        async with open_served(self.server, ours, theirs) as transport:
            yield transport


@attrs.frozen
class HttpConnector:
    """Serves over HTTP on a loopback address, in one process, and connects to it.

    With `websocket` it connects over WebSocket to the same endpoint instead, and with `sse` over the HTTP+SSE
    of 2024-11-05.
    """

    server: Server | RunningServer | AuthenticatedServer
    websocket: bool = False
    sse: bool = False
    settings: HttpSettings | None = None

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Serve and connect during the block; checkpoints."""
        server, principal = self.server, None
        target = server.running if isinstance(server, AuthenticatedServer) else server
        if isinstance(server, AuthenticatedServer):
            principal = server.principal
        async with open_service_nursery() as nursery:
            try:
                (url,) = await nursery.start(
                    partial(
                        serve_http,
                        target,
                        bind="127.0.0.1:0",
                        settings=self.settings,
                        authenticate=lambda scope: principal,
                        sse=self.sse,
                    )
                )
                if self.websocket:
                    url = url.replace("http", "ws", 1)
                options = UrlOptions()
                if self.sse:
                    url, options = url.replace("/mcp", "/sse"), UrlOptions(transport="sse")
                async with open_target(url, settings, options) as transport:
                    yield transport
            finally:
                nursery.cancel_scope.cancel()


@attrs.frozen
class WebSocketConnector:
    """Serves over trio-websocket on a loopback socket, in one process, and connects to it.

    `max_frame_bytes` is the server's cap; times are in seconds.
    """

    server: Servable
    max_frame_bytes: int = DEFAULT_REQUEST_BYTES
    ping_interval: float = 20.0

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Serve and connect during the block; on exit, wait until the server has ended. Checkpoints."""
        # Imported here: trio-websocket is an extra, which `import trio_mcp.testing` must not need.
        from trio_mcp.transports.websocket.client import open_websocket_transport
        from trio_mcp.transports.websocket.server import WebSocketService

        served = trio.Event()

        async def serve(transport: FrameTransport, headers: Mapping[str, str], peer: str) -> None:
            try:
                if isinstance(self.server, RunningServer):
                    await self.server.serve(transport, headers=headers, peer=peer)
                elif isinstance(self.server, Server):
                    await self.server.serve(transport, headers=headers)
                else:
                    await self.server.serve(transport)
            finally:
                served.set()

        service = WebSocketService(
            serve, self.max_frame_bytes, Doorkeeper.for_bind("127.0.0.1"), ping_interval=self.ping_interval
        )
        async with open_service_nursery() as nursery:
            try:
                (address,) = await nursery.start(service.listen, "127.0.0.1", 0)
                async with open_websocket_transport(
                    address, max_frame_bytes=settings.max_frame_bytes, ping_interval=self.ping_interval
                ) as transport:
                    yield transport
                await served.wait()
            finally:
                nursery.cancel_scope.cancel()


def pipe_streams() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
    """A pipe as two streams: the end to send on, the end to receive from."""
    receiving, sending = os.pipe()
    return trio.lowlevel.FdStream(sending), trio.lowlevel.FdStream(receiving)
