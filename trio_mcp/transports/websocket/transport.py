"""MCP over WebSocket, a custom transport: one JSON-RPC message in each text message.

Owns the mapping of frames to messages. Refuses to know methods, sessions and eras, and how a connection
begins (`client.py`, `server.py`). The handshake, the control frames and the masking are trio-websocket's.
A server's messages, which are not masked, go past it: sending them by it one at a time costs ten times
as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from trio_mcp.concurrency.exclusive import Exclusive
from trio_mcp.transports.paced_decoding import decode_messages
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.transports.websocket.library import find_messages, trio_websocket
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.value_count import MAX_VALUES
from trio_mcp.wire.websocket import (
    MESSAGE_TOO_BIG,
    NORMAL_CLOSURE,
    NORMAL_ENDS,
    encode_texts,
)

CLOSE_SECONDS: Final = 1.0
"""What a peer gets to answer our close frame: a round trip over a slow line, not more."""

BURST_MESSAGES: Final = 1024
"""The most messages decoded in one pass, so that a peer that never pauses cannot put it off."""

QUIET_ROUNDS: Final = 2
"""Decode after so many scheduling rounds that brought no message: the order within a round is random."""


class WebSocketTransport:
    """Frames over an open WebSocket connection that was made on `stream`.

    `close_code` is what the peer is told when we close.
    """

    def __init__(
        self,
        connection: trio_websocket.WebSocketConnection,
        stream: CorkingStream,
        *,
        max_frame_bytes: int,
        max_values: int = MAX_VALUES,
        close_code: int = NORMAL_CLOSURE,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._limit = max_frame_bytes
        self._max_values = max_values
        self._close_code = close_code
        self._messages = find_messages(connection)
        self._closed = False
        self._sending, self._receiving = Exclusive("sending on"), Exclusive("receiving from")

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Send a text message for each JSON-RPC message, all in one write; checkpoints if it has to wait.

        Control frames that trio-websocket sends meanwhile take their place between them.
        """
        self._require_open()
        with self._sending:
            messages = encode_messages(frames)
            if self._connection.is_server:
                await self._send_unmasked(messages)
            else:
                await self._send_masked(messages)

    async def _send_unmasked(self, messages: list[bytes]) -> None:
        reason = self._connection.closed
        if reason is not None:  # nothing may follow a close frame, ours or the peer's
            raise self._broken(trio_websocket.ConnectionClosed(reason))
        try:
            await self._stream.send_all(encode_texts(messages))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._require_open()
            raise trio.BrokenResourceError("the peer is gone") from None

    async def _send_masked(self, messages: list[bytes]) -> None:
        self._stream.cork()
        try:
            for message in messages:
                await self._connection.send_message(message.decode())
        except trio_websocket.ConnectionClosed as closed:
            raise self._broken(closed) from None
        finally:
            self._stream.uncork()
        await self._stream.flush()

    async def receive_frames(self) -> Sequence[InFrame]:
        """Wait for a message and take all that have come with it; checkpoints."""
        self._require_open()
        with self._receiving:
            try:
                with self._stream.wanting():
                    messages = await self._receive_burst()
                return await decode_messages(messages, self._max_values)
            except trio_websocket.ConnectionClosed as closed:
                if self._closed:
                    raise trio.ClosedResourceError("this transport was closed") from None
                if closed.reason is not None and closed.reason.code in NORMAL_ENDS:
                    raise trio.EndOfChannel from None
                raise self._broken(closed) from None

    async def aclose(self) -> None:
        """Send a close frame, wait a second at most for the peer's, and close; checkpoints."""
        self._closed = True
        self._stream.discard()
        try:
            with trio.move_on_after(CLOSE_SECONDS) as scope, self._stream.unless_ended(scope):
                await self._connection.aclose(self._close_code)
                closed = self._connection.closed
                if closed is not None and closed.code == MESSAGE_TOO_BIG and not self._stream.is_reading:
                    await self._stream.linger()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _receive_burst(self) -> list[str | bytes]:
        messages = [await self._connection.get_message()]
        self._add_waiting(messages)
        quiet = 0
        # While trio-websocket reads, what was read is all here; until then it hands over one message
        # in each scheduling round.
        # Another turn passes between the portions of a read.
        while (
            quiet < QUIET_ROUNDS + self._stream.has_more
            and not self._stream.is_reading
            and len(messages) < BURST_MESSAGES
        ):
            before = len(messages)
            await trio.lowlevel.cancel_shielded_checkpoint()  # cancelled, it would lose what it has taken
            self._add_waiting(messages)
            quiet = quiet + 1 if len(messages) == before else 0
        return messages

    def _add_waiting(self, messages: list[str | bytes]) -> None:
        try:
            while len(messages) < BURST_MESSAGES:
                messages.append(self._messages.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            pass

    def _require_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this transport was closed")

    def _broken(self, closed: trio_websocket.ConnectionClosed) -> Exception:
        if self._closed:
            return trio.ClosedResourceError("this transport was closed")
        if self._stream.fault is not None:
            return trio.BrokenResourceError(self._stream.fault)
        if closed.reason is None:
            return trio.BrokenResourceError("the connection ended without a closing handshake")
        code, reason = closed.reason.code, closed.reason.reason or closed.reason.name
        return trio.BrokenResourceError(f"the connection was closed with code {code}: {reason}")
