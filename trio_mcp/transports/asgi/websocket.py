"""MCP over the WebSocket of an ASGI server: one JSON-RPC message in each text message.

Owns the mapping of frames to the events of an ASGI connection (ASGI 3, "WebSocket").
Knows no ASGI server, no method and no session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from trio_mcp.concurrency.exclusive import Exclusive
from trio_mcp.transports.asgi.types import Receive, Scope, Send
from trio_mcp.transports.paced_decoding import decode_messages
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.value_count import MAX_VALUES
from trio_mcp.wire.websocket import (
    GOING_AWAY,
    MESSAGE_TOO_BIG,
    NO_STATUS,
    NORMAL_ENDS,
    SUBPROTOCOL,
)

MORE: Final = "trio_mcp.more"
"""The ASGI extension of a host that joins messages, and the key of a message that others follow at once."""


class AsgiWebSocketTransport:
    """Frames over one ASGI WebSocket connection, which `accept` must open first."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        max_frame_bytes: int,
        max_values: int = MAX_VALUES,
    ) -> None:
        self._offered: Sequence[str] = scope.get("subprotocols", ())
        self._receive = receive
        self._send = send
        self._is_joined = MORE in (scope.get("extensions") or ())
        self._limit = max_frame_bytes
        self._max_values = max_values
        self._accepted = False
        self._closed = False
        self._end: Exception | None = None  # how the peer ended it
        self._waiting = trio.CancelScope()
        self._sending, self._receiving = Exclusive("sending on"), Exclusive("receiving from")

    async def accept(self) -> None:
        """Accept the connection, with the subprotocol "mcp" if it is offered; checkpoints.

        Raises `trio.BrokenResourceError` if the client has gone before.
        """
        event = await self._receive()
        if event["type"] != "websocket.connect":
            self._end = trio.BrokenResourceError("the client left before it was let in")
            raise self._end
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in self._offered else None
        try:
            await self._send({"type": "websocket.accept", "subprotocol": subprotocol})
        except OSError as error:  # what ASGI says of a client that is gone
            self._end = trio.BrokenResourceError(f"the client left before it was let in: {error}")
            raise self._end from error
        self._accepted = True

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Send a text message for each JSON-RPC message, in one write if the host can; checkpoints."""
        self._require_open()
        with self._sending:
            await trio.lowlevel.checkpoint()
            messages = encode_messages(frames)
            for following, message in enumerate(messages, 1 - len(messages)):
                self._require_open()
                if self._end is not None:
                    raise trio.BrokenResourceError("the peer is gone")
                event: dict[str, Any] = {"type": "websocket.send", "text": message.decode()}
                if self._is_joined and following:
                    event[MORE] = True
                try:
                    await self._send(event)
                except OSError as error:  # what ASGI says of a client that is gone
                    raise trio.BrokenResourceError(f"the peer is gone: {error}") from error

    async def receive_frames(self) -> Sequence[InFrame]:
        """Wait for a message and decode it; checkpoints."""
        self._require_open()
        with self._receiving:
            if self._end is not None:
                raise self._end
            with trio.CancelScope() as self._waiting:
                message = await self._take(await self._receive())
                return await decode_messages([message], self._max_values)
            raise trio.ClosedResourceError("this transport was closed")

    async def aclose(self) -> None:
        """Close with code 1001; quietly if the peer is gone. Checkpoints."""
        closing = self._accepted and not self._closed and self._end is None
        self._closed = True
        self._waiting.cancel()
        if closing:
            await self._say_goodbye(GOING_AWAY, "")
        else:
            await trio.lowlevel.checkpoint()

    async def _take(self, event: Mapping[str, Any]) -> str | bytes:
        if event["type"] == "websocket.disconnect":
            # Servers differ in the code that they give if the peer gave none.
            code = event.get("code") or NO_STATUS
            reason = event.get("reason") or "no reason was given"
            broken = trio.BrokenResourceError(f"the connection was closed with code {code}: {reason}")
            self._end = trio.EndOfChannel() if code in NORMAL_ENDS else broken
            raise self._end
        message: str | bytes | None = event.get("text")
        if message is None:
            message = event.get("bytes") or b""
        if len(message) > self._limit:
            reason = f"a message longer than {self._limit} bytes"
            self._end = trio.BrokenResourceError(f"the peer sent {reason}")
            await self._say_goodbye(MESSAGE_TOO_BIG, reason)
            raise self._end
        return message

    async def _say_goodbye(self, code: int, reason: str) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            await trio.lowlevel.checkpoint()  # it is gone already

    def _require_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this transport was closed")
