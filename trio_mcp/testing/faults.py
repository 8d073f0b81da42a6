"""Transports and streams that misbehave on purpose, for tests.

Each wraps a healthy one and owns one fault. Refuses to know what the frames say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import attrs
import trio

from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.wire.frames import InFrame, OutFrame


class LockstepTransport:
    """Sends a frame only when the test releases it; receives as `inner` does.

    Wrap both ends of a connection to hold both directions.
    """

    def __init__(self, inner: FrameTransport) -> None:
        self._inner = inner
        # Without a buffer, a sender waits until the test has received its frame.
        self._send, self._held = trio.open_memory_channel[OutFrame](0)

    async def release(self, count: int = 1) -> list[OutFrame]:
        """Let the next `count` frames pass, one write each, and return them; checkpoints.

        Waits for frames that are not there yet. Raises what `inner` raises on sending
        (the sender does not see that), and `trio.ClosedResourceError` after `aclose`.
        """
        released = []
        for _ in range(count):
            frame = await self._held.receive()
            await self._inner.send_frames([frame])
            released.append(frame)
        return released

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Wait until each of `frames` is released; checkpoints."""
        await trio.lowlevel.checkpoint()
        for frame in frames:
            await self._send.send(frame)

    async def receive_frames(self) -> Sequence[InFrame]:
        """Receive as `inner` does; checkpoints."""
        return await self._inner.receive_frames()

    async def aclose(self) -> None:
        """Drop the frames that are held and close both directions; checkpoints."""
        self._send.close()
        self._held.close()
        await self._inner.aclose()


@attrs.frozen(eq=False)
class SlowTransport:
    """Takes `seconds_per_send` before each write, by the clock of the Trio run."""

    _inner: FrameTransport
    _seconds_per_send: float

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Sleep, then send as `inner` does; checkpoints."""
        await trio.sleep(self._seconds_per_send)
        await self._inner.send_frames(frames)

    async def receive_frames(self) -> Sequence[InFrame]:
        """Receive as `inner` does; checkpoints."""
        return await self._inner.receive_frames()

    async def aclose(self) -> None:
        """Close both directions; checkpoints."""
        await self._inner.aclose()


class StalledTransport:
    """Behaves as if the peer did not read: sending blocks until `resume`.

    Stalled from the start unless `stalled` is false.
    """

    def __init__(self, inner: FrameTransport, *, stalled: bool = True) -> None:
        self._inner = inner
        self._reading = trio.Event()
        if not stalled:
            self._reading.set()

    def stall(self) -> None:
        """Block every write that has not begun."""
        if self._reading.is_set():
            self._reading = trio.Event()

    def resume(self) -> None:
        """Let the blocked writes and all later ones pass."""
        self._reading.set()

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Wait while stalled, then send as `inner` does; checkpoints."""
        await self._reading.wait()
        await self._inner.send_frames(frames)

    async def receive_frames(self) -> Sequence[InFrame]:
        """Receive as `inner` does; checkpoints."""
        return await self._inner.receive_frames()

    async def aclose(self) -> None:
        """Close both directions; a blocked write raises `trio.ClosedResourceError`. Checkpoints."""
        self.resume()
        await self._inner.aclose()


@attrs.frozen(eq=False)
class DroppingTransport:
    """Loses every sent frame for which `drop` returns true; the sender does not see that."""

    _inner: FrameTransport
    _drop: Callable[[OutFrame], bool]

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Send the frames that are not dropped, in one write; checkpoints."""
        await trio.lowlevel.checkpoint()
        kept = [frame for frame in frames if not self._drop(frame)]
        if kept:
            await self._inner.send_frames(kept)

    async def receive_frames(self) -> Sequence[InFrame]:
        """Receive as `inner` does; checkpoints."""
        return await self._inner.receive_frames()

    async def aclose(self) -> None:
        """Close both directions; checkpoints."""
        await self._inner.aclose()


@overload
def closing_at_byte(stream: trio.abc.SendStream, count: int) -> trio.abc.SendStream: ...


@overload
def closing_at_byte(stream: trio.abc.ReceiveStream, count: int) -> trio.abc.ReceiveStream: ...


def closing_at_byte(
    stream: trio.abc.SendStream | trio.abc.ReceiveStream, count: int
) -> trio.abc.SendStream | trio.abc.ReceiveStream:
    """Wrap `stream` so that exactly `count` bytes pass, after which it closes.

    A send stream delivers the first `count` bytes and raises `trio.BrokenResourceError`
    for a write that exceeds them; a receive stream ends after them, as if the peer had
    vanished. Raises TypeError for a stream of both directions: wrap its halves.
    """
    if isinstance(stream, trio.abc.SendStream):
        if isinstance(stream, trio.abc.ReceiveStream):
            raise TypeError("a stream of both directions cannot close at a byte; wrap one of its halves")
        return _ClosingSendStream(stream, count)
    return _ClosingReceiveStream(stream, count)


@attrs.define(eq=False)
class _ClosingSendStream(trio.abc.SendStream):
    _inner: trio.abc.SendStream
    _left: int

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        allowed = memoryview(data)[: self._left]
        if allowed:
            await self._inner.send_all(bytes(allowed))
        else:
            await trio.lowlevel.checkpoint()
        self._left -= len(allowed)
        if len(allowed) < len(data):
            await self._inner.aclose()
            raise trio.BrokenResourceError("the stream closed at the byte that the test chose")

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define(eq=False)
class _ClosingReceiveStream(trio.abc.ReceiveStream):
    _inner: trio.abc.ReceiveStream
    _left: int

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._left:
            await self._inner.aclose()
            return b""
        data = await self._inner.receive_some(self._left if max_bytes is None else min(max_bytes, self._left))
        self._left -= len(data)
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()
