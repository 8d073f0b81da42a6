"""A connection on which every frame is counted, in both directions.

Owns the transports that hand frames on. `wire_count.py` counts and judges them.
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
from trio_mcp.client.target import Target, UrlOptions, open_target
from trio_mcp.outgoing.transport import FrameTransport, MirroringTransport
from trio_mcp.wire.frames import InFrame, OutFrame


@attrs.frozen
class CountingConnector:
    """A connector to `target` that passes every frame to `count`.

    It changes no frame, but reads no faster than the progress handlers run: a lossless
    client would fail the calls of a server that is too fast for it.
    """

    target: Target
    count: WireCount
    options: UrlOptions = attrs.field(factory=UrlOptions)

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Connect to the target during the block; checkpoints."""
        async with open_target(self.target, settings, self.options) as transport:
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
        # In each of these turns every call delivers as many updates.
        self._turns = (self._count.received - before) // DELIVERIES_PER_YIELD
        return frames

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define(eq=False)
class _MirroringCountingTransport(_CountingTransport):
    origin: str = attrs.field(kw_only=True)
    parameter_headers: dict[str, Mapping[str, tuple[str, ...]]] = attrs.field(kw_only=True)
