"""Frames between two tasks of one process, never encoded.

Owns a line for each direction. The same frame objects arrive that were sent. Refuses to know bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from trio_mcp.outgoing.transport import Accept, WaitRoom
from trio_mcp.session.direct_reader import DirectReader
from trio_mcp.wire.frames import InFrame, OutFrame


class _Line:
    """One direction: a channel, or the reader itself if that takes frames as they are sent."""

    def __init__(self) -> None:
        # One slot: the writer may prepare its next write while the reader works on this one.
        self.send, self.receive = trio.open_memory_channel[Sequence[OutFrame]](1)
        self.reader: DirectReader | None = None


@attrs.frozen(eq=False)
class MemoryTransport:
    """One end of an in-memory connection; see `memory_pair`."""

    _outgoing: _Line
    _incoming: _Line

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Hand `frames` to the peer; waits while it has no room for more. Checkpoints."""
        reader = self._outgoing.reader
        if reader is None:
            await self._outgoing.send.send(frames)
            return
        reader.take(frames)
        if reader.has_room:
            await trio.lowlevel.checkpoint()
        else:
            await reader.wait_room()

    def send_now(self, frame: OutFrame) -> bool:
        """Hand `frame` to the peer if it takes frames as they are sent and has room."""
        reader = self._outgoing.reader
        if reader is None or not reader.has_room:
            return False
        reader.take([frame])
        return True

    async def receive_frames(self) -> Sequence[InFrame]:
        """Take what the peer sent in one go; checkpoints."""
        return await self._incoming.receive.receive()

    async def deliver_frames(self, accept: Accept, wait_room: WaitRoom) -> None:
        """Let `accept` take what the peer sends, in the peer's own task; see `DirectTransport`."""
        line, reader = self._incoming, DirectReader(accept, wait_room)
        try:
            while line.receive.statistics().current_buffer_used:
                if accept(await line.receive.receive()):
                    await wait_room()
            line.reader = reader
            await reader.run(line.receive.receive)  # until the peer has closed its end
        finally:
            line.reader = None

    async def aclose(self) -> None:
        """Close both directions; checkpoints."""
        self._outgoing.reader = None
        self._outgoing.send.close()
        self._incoming.receive.close()
        await trio.lowlevel.checkpoint()


def memory_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Make two connected ends; each holds one write of its peer before the peer waits."""
    one, other = _Line(), _Line()
    return MemoryTransport(one, other), MemoryTransport(other, one)
