"""A byte stream that joins a burst of writes into one and reports its state.

Owns what trio-websocket leaves out: joining writes, a cap on what is read ahead, turns for other tasks
while much is read, the time of the last sign of life, and the end. Its users write whole frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio

from trio_mcp.transports.websocket.frame_pacing import FramePacer
from trio_mcp.transports.write_now import write_now

WRITE_BYTES: Final = 256 * 1024
"""The most in one write: more than a burst has, and little enough to see a large message advance."""

AHEAD_BYTES: Final = 1024 * 1024
"""How much is read while nobody takes it: several bursts, and a limit to what a peer can make us hold."""

FLUSH_SECONDS: Final = 1.0
"""What the last frames get before the stream closes: they are small, the peer may have stopped reading."""

WASTING: Final = "the peer sends frames that carry nothing"


class CorkingStream(trio.abc.Stream):
    """Wraps `inner`, which it closes; any number of tasks may send, one may receive."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self._socket = inner.socket if isinstance(inner, trio.SocketStream) else None
        self._lock = trio.StrictFIFOLock()
        self._pending: list[bytes | bytearray | memoryview] = []
        self._corked = False
        self._cut = False
        self._ended = False
        self._waiting: set[trio.CancelScope] = set()
        self._ahead = 0  # bytes received since somebody last took what was received
        self._wanted = self._discarding = False
        self._room = trio.lowlevel.ParkingLot()
        self._pacer = FramePacer()
        self.fault: str | None = None
        """What the peer did because of which the stream was broken off."""
        self.note_held: Callable[[int], None] | None = None
        """Called with the number of received bytes that nobody has taken, when that changes."""
        self.is_reading = False
        self.last_heard = trio.current_time()

    def cork(self) -> None:
        """Keep back what is sent until `uncork`; it leaves with the next write after that."""
        self._corked = True

    def uncork(self) -> None:
        """Let writes pass again, from `flush` on or the next `send_all`."""
        self._corked = False

    async def flush(self) -> None:
        """Write what was kept back, in one write up to 256 KiB; checkpoints if it has to wait.

        Raises `trio.BrokenResourceError` also if an earlier write was cut short by
        cancellation, for what would follow it could not be read.
        """
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            if self._cut:
                raise trio.BrokenResourceError("an earlier write was cut short")
            if self._pending:
                data = b"".join(self._pending)
                written = 0 if self._socket is None else write_now(self._socket.fileno(), data)
                if not written:
                    await trio.lowlevel.checkpoint_if_cancelled()  # as long as nothing is lost by it
                self._pending.clear()
                if written < len(data):
                    self._cut = True
                    await self._write(memoryview(data)[written:])
                    self._cut = False
        finally:
            self._lock.release()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` behind all that was kept back; while corked, keep it back, without a checkpoint."""
        self._pending.append(data)
        if not self._corked:
            await self.flush()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the inner stream does; checkpoints."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive as the inner stream does, a few frames at a time; checkpoints.

        Waits while much is unread that nobody wants. Raises `trio.BrokenResourceError` also if the
        peer only wastes time.
        """
        if self._pacer.has_more:
            await trio.lowlevel.checkpoint()
            return self._pacer.take()
        while self._ahead > AHEAD_BYTES and not (self._wanted or self._discarding or self._ended):
            await self._room.park()
        self.is_reading = True
        try:
            data = bytes(await self._inner.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end()
            raise
        finally:
            self.is_reading = False
        if not data:
            self.end()
            return data
        self.last_heard = trio.current_time()
        self._ahead += len(data)
        if self.note_held is not None and not self._discarding:
            self.note_held(self._ahead)
        if not self._pacer.feed(data, self.last_heard):
            self.fault = WASTING
            self.end()
            await trio.aclose_forcefully(self._inner)
            raise trio.BrokenResourceError(WASTING)
        return self._pacer.take()

    @contextmanager
    def wanting(self) -> Iterator[None]:
        """A block in which a task waits for what is received; at its end all of it has been taken."""
        self._wanted = True
        self._room.unpark_all()
        try:
            yield
        finally:
            self._wanted = False
            self._ahead = 0
            if self.note_held is not None:
                self.note_held(0)

    @property
    def has_more(self) -> bool:
        """Whether something was received of the inner stream that is not handed out yet."""
        return self._pacer.has_more and not self._ended

    def discard(self) -> None:
        """Read without a cap from now on, because what comes is thrown away."""
        self._discarding = True
        self._room.unpark_all()

    @contextmanager
    def unless_ended(self, scope: trio.CancelScope) -> Iterator[None]:
        """A block in which the end of the stream cancels `scope`."""
        self._waiting.add(scope)
        if self._ended:
            scope.cancel()
        try:
            yield
        finally:
            self._waiting.discard(scope)

    def end(self) -> None:
        """Note that nothing more comes, and let the reader find that out."""
        self._ended = True
        self._room.unpark_all()
        for scope in self._waiting:
            scope.cancel()

    async def linger(self) -> None:
        """Close our direction if that is possible, and read on until the peer closes; checkpoints.

        A socket that is closed while bytes are unread takes back the last that was
        sent, which says why it closes.
        """
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if isinstance(self._inner, trio.abc.HalfCloseableStream):
                await self._inner.send_eof()
            while await self._inner.receive_some(AHEAD_BYTES):
                pass

    async def aclose(self) -> None:
        """Write what was kept back, for at most a second, then close; also when cancelled. Checkpoints."""
        try:
            if self._pending and not self._cut:
                with (
                    suppress(trio.BrokenResourceError, trio.ClosedResourceError),
                    trio.move_on_after(FLUSH_SECONDS),
                ):
                    await self.flush()
        finally:
            self.end()
            await self._inner.aclose()

    async def _write(self, data: memoryview) -> None:
        while len(data) > WRITE_BYTES:
            await self._inner.send_all(data[:WRITE_BYTES])
            # A peer that takes a long message is alive, although its pongs come behind that.
            self.last_heard = trio.current_time()
            data = data[WRITE_BYTES:]
        await self._inner.send_all(data)
