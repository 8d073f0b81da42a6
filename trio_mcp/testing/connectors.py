"""Ways to connect a client to a server over real pipes and sockets inside one test.

Owns the pipes and listeners. In memory needs no connector: a server is a target by itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Servable, open_served, open_target
from trio_mcp.runtime.lone import open_lone_nursery
from trio_mcp.runtime.settings import DEFAULT_FRAME_BYTES
from trio_mcp.runtime.transport import FrameTransport
from trio_mcp.server.http import serve_http
from trio_mcp.server.running import AuthenticatedServer, RunningServer
from trio_mcp.server.server import Server
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.stream import StreamTransport


@attrs.frozen
class PipeConnector:
    """Serves over two pipes with the framing of stdio, in one process; POSIX only.

    What travels is bytes through the kernel, so an unread pipe fills up as it would
    between processes; `max_frame_bytes` is the server's cap.
    """

    server: Servable
    max_frame_bytes: int = DEFAULT_FRAME_BYTES

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Connect; checkpoints on exit."""
        (to_server, from_client), (to_client, from_server) = pipe_streams(), pipe_streams()
        ours = StreamTransport(to_server, from_server, max_frame_bytes=settings.max_frame_bytes)
        theirs = StreamTransport(to_client, from_client, max_frame_bytes=self.max_frame_bytes)
        async with open_served(self.server, ours, theirs) as transport:
            yield transport


@attrs.frozen
class HttpConnector:
    """Serves over HTTP on a loopback address, in one process, and connects to it.

    With `websocket` it connects over WebSocket to the same endpoint instead.
    """

    server: Server | RunningServer | AuthenticatedServer
    websocket: bool = False
    settings: HttpSettings | None = None

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Connect; checkpoints."""
        target, principal = self.server, None
        if isinstance(target, AuthenticatedServer):
            target, principal = target.running, target.principal
        async with open_lone_nursery() as nursery:
            (url,) = await nursery.start(
                partial(
                    serve_http,
                    target,
                    bind="127.0.0.1:0",
                    settings=self.settings,
                    authenticate=lambda scope: principal,
                )
            )
            if self.websocket:
                url = url.replace("http", "ws", 1)
            async with open_target(url, settings) as transport:
                yield transport
            nursery.cancel_scope.cancel()


def pipe_streams() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
    """A pipe as two streams: the end to send on, the end to receive from."""
    receiving, sending = os.pipe()
    return trio.lowlevel.FdStream(sending), trio.lowlevel.FdStream(receiving)
