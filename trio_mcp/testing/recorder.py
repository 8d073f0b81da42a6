"""Records the frames that travel between a client and a server.

Owns the record; changes no frame and delays none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec

from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Target, open_target
from trio_mcp.outgoing.transport import FrameTransport, MirroringTransport
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.frames import InFrame, Lost, Malformed, OutFrame


@attrs.define
class WireRecorder:
    """A connector that records the frames between a client and `target`.

    `sent` holds the frames of each write of the client, `received` those of each read;
    a read is one write of the server if the transport keeps writes apart.
    """

    target: Target
    sent: list[Sequence[OutFrame]] = attrs.field(factory=list)
    received: list[Sequence[InFrame]] = attrs.field(factory=list)

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Connect to the target during the block."""
        async with open_target(self.target, settings) as transport:
            if isinstance(transport, MirroringTransport):
                yield _RecordingHttpTransport(transport, self)
            else:
                yield _RecordingTransport(transport, self)

    def sent_messages(self, method: str | None = None) -> list[Any]:
        """The JSON messages that the client sent, or those of one method."""
        return _messages(self.sent, method)

    def received_messages(self, method: str | None = None) -> list[Any]:
        """The JSON messages that the client received, or those of one method."""
        return _messages(self.received, method)


@attrs.define
class _RecordingTransport:
    _inner: FrameTransport
    _recorder: WireRecorder

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        self._recorder.sent.append(list(frames))
        await self._inner.send_frames(frames)

    async def receive_frames(self) -> Sequence[InFrame]:
        frames = await self._inner.receive_frames()
        self._recorder.received.append(list(frames))
        return frames

    async def aclose(self) -> None:
        await self._inner.aclose()


def _passed_on(name: str) -> Any:
    """An attribute of the transport that is recorded, to read and to set."""
    return property(
        lambda self: getattr(self._inner, name), lambda self, value: setattr(self._inner, name, value)
    )


class _RecordingHttpTransport(_RecordingTransport):
    """Passes on what a session reads and sets at a transport over HTTP, which works as without a record."""

    origin = _passed_on("origin")
    parameter_headers = _passed_on("parameter_headers")
    handshake_status = _passed_on("handshake_status")
    wait_taken = _passed_on("wait_taken")
    on_renewed = _passed_on("on_renewed")
    on_unheard = _passed_on("on_unheard")
    on_silent = _passed_on("on_silent")


def _messages(writes: Iterable[Sequence[InFrame]], method: str | None) -> list[Any]:
    messages = []
    for frames in writes:
        for data in encode_messages(frame for frame in frames if not isinstance(frame, (Malformed, Lost))):
            message = msgspec.json.decode(data)
            if method is None or message.get("method") == method:
                messages.append(message)
    return messages
