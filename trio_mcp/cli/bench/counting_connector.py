"""A connection on which every frame is counted, in both directions.

Owns the transports that count. What the counts mean is the business of `wire_count`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from trio_mcp.cli.bench.wire_count import WireCount
from trio_mcp.client.pending_call import DELIVERIES_PER_YIELD
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Target, open_target
from trio_mcp.outgoing.transport import FrameTransport, MirroringTransport
from trio_mcp.wire.frames import InFrame, OutFrame


@attrs.frozen
class CountingConnector:
    """A connector to `target` that lets `count` see all that passes.

    It changes nothing, but reads no faster than the progress handlers can take: a lossless
    client would fail calls for which a server is too fast.
    """

    target: Target
    count: WireCount

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Connect to the target for as long as the block lasts; checkpoints."""
        async with open_target(self.target, settings) as transport:
            if isinstance(transport, MirroringTransport):
                yield _MirroringCountingTransport(
                    transport,
                    self.count,
                    origin=transport.origin,
                    parameter_headers=transport.parameter_headers,
                )
            else:
                yield _CountingTransport(transport, self.count)


@attrs.define(eq=False)
class _CountingTransport:
    _inner: FrameTransport
    _count: WireCount
    _turns: int = attrs.field(default=0, init=False)

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        self._count.note_sent(frames)
        await self._inner.send_frames(frames)

    async def receive_frames(self) -> Sequence[InFrame]:
        for _ in range(self._turns):
            await trio.lowlevel.checkpoint()
        before = self._count.received
        frames = await self._inner.receive_frames()
        self._count.note_received(frames, time.perf_counter())
        # In each of these turns every call delivers so many updates.
        self._turns = (self._count.received - before) // DELIVERIES_PER_YIELD
        return frames

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define(eq=False)
class _MirroringCountingTransport(_CountingTransport):
    origin: str = attrs.field(kw_only=True)
    parameter_headers: dict[str, Mapping[str, tuple[str, ...]]] = attrs.field(kw_only=True)
