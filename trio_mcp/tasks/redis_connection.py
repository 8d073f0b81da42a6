"""How a connection to a Redis or Valkey server is opened.

Owns what must be different from the library's own connections: the stream is open before there is one, for it
would leave its buffers unclosed otherwise; and what was parsed does not stay in memory. Sends nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from trio_mcp.tasks.redis_address import RedisAddress
from trio_mcp.tasks.redis_library import BaseConnection, TCPLocation, anyio

MAX_PARSED: Final = 1_048_576
"""Bytes that were parsed and may stay in memory, beside a message that is not complete."""

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""After 10 seconds of silence the peer is asked every 5 seconds, and is gone after 3 times in vain."""


async def open_connection(address: RedisAddress, budget: anyio.CapacityLimiter) -> BaseConnection:
    """Open a stream, and a connection over it that takes unasked messages if nobody holds `budget`.

    Checkpoints; raises OSError. The connection has not said anything yet.
    """
    stream: anyio.abc.ByteStream
    if address.is_encrypted:
        context = ssl.create_default_context()
        stream = await anyio.connect_tcp(
            address.host, address.port, ssl_context=context, tls_standard_compatible=False
        )
    else:
        stream = await anyio.connect_tcp(address.host, address.port)
    _keep_alive(stream.extra(anyio.abc.SocketAttribute.raw_socket))
    return _Connection(
        stream,
        TCPLocation(address.host, address.port),
        username=address.username,
        password=address.password,
        db=address.database,
        processing_budget=budget,
    )


def _keep_alive(sock: socket.socket) -> None:
    """Let the kernel notice a peer that is gone, so that an idle process need not wake up for that."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # each system has its own
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class _Connection(BaseConnection):
    """A connection over a stream that is open already."""

    def __init__(self, stream: anyio.abc.ByteStream, location: TCPLocation, **options: Any) -> None:
        super().__init__(location, **options)
        self._opened = stream

    async def _connect(self) -> anyio.abc.ByteStream:
        await trio.lowlevel.checkpoint()
        return _Stream(self._opened, self._forget_parsed)

    def describe(self) -> str:
        return f"<connection to {self.location}>"

    def _forget_parsed(self) -> None:
        """Empty the buffer of the parser, which does so only if it ends with a message.

        In a steady stream of messages that is never so, and everything would stay.
        """
        parser = self._parser
        if parser.bytes_read > MAX_PARSED:
            buffer = parser.localbuffer
            buffer.seek(parser.bytes_read)
            rest = buffer.read()
            buffer.seek(0)
            buffer.truncate()
            parser.bytes_read = parser.bytes_written = 0
            parser.feed(rest)


class _Stream(anyio.abc.ByteStream):
    """A stream that calls `before` before each time that it receives."""

    def __init__(self, inner: anyio.abc.ByteStream, before: Callable[[], None]) -> None:
        self._inner = inner
        self._before = before

    async def receive(self, max_bytes: int = 65536) -> bytes:
        self._before()
        return await self._inner.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._inner.send(item)

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def aclose(self) -> None:
        await self._inner.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._inner.extra_attributes
