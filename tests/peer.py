"""A peer that speaks raw bytes to a server, for what no client would send."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from trio_mcp import ClientSettings, Server
from trio_mcp.client.target import open_target
from trio_mcp.runtime.transport import FrameTransport
from trio_mcp.testing import PipeConnector
from trio_mcp.wire.codec import decode_lines, encode_messages

MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class RawPeer:
    """Sends bytes, reads JSON."""

    def __init__(self, transport: FrameTransport) -> None:
        self._transport = transport
        self._messages: deque[Any] = deque()

    async def send(self, *messages: bytes | dict[str, Any]) -> None:
        """Send each message as a line of its own."""
        lines = [m if isinstance(m, bytes) else msgspec.json.encode(m) for m in messages]
        await self.send_bytes(b"".join(line + b"\n" for line in lines))

    async def send_bytes(self, data: bytes) -> None:
        stream = getattr(self._transport, "_send", None)
        if isinstance(stream, trio.abc.SendStream):
            await stream.send_all(data)
        else:
            await self._transport.send_frames(decode_lines(data))

    async def receive(self) -> Any:
        """The next message from the server, as a dict (or a list, for a batch)."""
        with trio.fail_after(10):
            while not self._messages:
                frames = await self._transport.receive_frames()
                self._messages.extend(msgspec.json.decode(data) for data in encode_messages(frames))
        return self._messages.popleft()

    async def ask(self, message: bytes | dict[str, Any]) -> Any:
        """Send one message and return the next that comes."""
        await self.send(message)
        return await self.receive()

    async def initialize(self, version: str, capabilities: dict[str, Any] | None = None) -> Any:
        """Shake hands the legacy way."""
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
    """A tools/call request."""
    meta: dict[str, Any] = dict(MODERN_META) if modern else {}
    if token is not None:
        meta["progressToken"] = token
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}


@asynccontextmanager
async def open_raw(transport: str, server: Server) -> AsyncIterator[RawPeer]:
    """Connect a raw peer to `server` over "memory" or "stdio"."""
    target = server if transport == "memory" else PipeConnector(server, server.settings.max_frame_bytes)
    async with open_target(target, ClientSettings()) as opened:
        yield RawPeer(opened)
