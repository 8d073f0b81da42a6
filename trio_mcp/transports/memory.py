"""Frames between two tasks of one process, never encoded.

Owns a pair of channels. The same frame objects arrive that were sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from trio_mcp.wire.frames import InFrame, OutFrame


@attrs.frozen(eq=False)
class MemoryTransport:
    """One end of an in-memory connection; see `memory_pair`."""

    _send: trio.MemorySendChannel[Sequence[OutFrame]]
    _receive: trio.MemoryReceiveChannel[Sequence[OutFrame]]

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Hand `frames` to the peer; waits while it has not taken the ones before. Checkpoints."""
        await self._send.send(frames)

    async def receive_frames(self) -> Sequence[InFrame]:
        """Take what the peer sent in one go; checkpoints."""
        return await self._receive.receive()

    async def aclose(self) -> None:
        """Close both directions; checkpoints."""
        self._send.close()
        self._receive.close()
        await trio.lowlevel.checkpoint()


def memory_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Make two connected ends; each holds one write of its peer before the peer waits."""
    # One slot: the writer may prepare its next write while the reader works on this one.
    a_send, b_receive = trio.open_memory_channel[Sequence[OutFrame]](1)
    b_send, a_receive = trio.open_memory_channel[Sequence[OutFrame]](1)
    return MemoryTransport(a_send, a_receive), MemoryTransport(b_send, b_receive)
