"""A way to connect a client to a server over real pipes inside one test.

Owns the pipes. In memory needs no connector: a server is a target by itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Servable, open_served
from trio_mcp.runtime.settings import DEFAULT_FRAME_BYTES
from trio_mcp.runtime.transport import FrameTransport
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


def pipe_streams() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
    """A pipe as two streams: the end to send on, the end to receive from."""
    receiving, sending = os.pipe()
    return trio.lowlevel.FdStream(sending), trio.lowlevel.FdStream(receiving)
