"""The one way out of a session: what waits for the wire, and the single writer.

Owns the order in which calls leave, and when the writer writes: its task, or, where that
waits for work and the wire takes a frame without waiting, `put` in its place. A memory
channel carries the call queues that have something pending, each at most once, to
the writer, so it cannot grow with the number of reports. Knows no method.
"""

from __future__ import annotations

import abc
import logging
import math
from collections.abc import Callable
from time import perf_counter
from typing import Final

import attrs
import trio

from trio_mcp.outgoing.transport import FrameSink
from trio_mcp.wire.frames import OutFrame

logger = logging.getLogger("trio_mcp")

COLLECT_SECONDS: Final = 0.001
"""The longest that a lone update waits for company, in seconds of real time."""

QUIET_ROUNDS: Final = 2
"""The writer writes after so many scheduling rounds that added nothing.

One may look so although a handler reports in each, because the order within a round is random.
"""

LONE_QUIET_ROUNDS: Final = 1
"""The same where a single report waits, which most often stays alone."""

WRITE_UPDATES: Final = 1024
"""The most progress updates in one write, so that many busy calls cannot make a write unbounded."""


class Source(abc.ABC):
    """What the writer of an outbox empties: whatever may have more pending than one frame."""

    __slots__ = ("outbox",)

    outbox: Outbox
    """The one that it is queued or held in, or will be."""

    @property
    @abc.abstractmethod
    def pending(self) -> int:
        """How many reports are pending, which may be joined by others before they are written."""

    @property
    @abc.abstractmethod
    def is_refilled(self) -> bool:
        """Whether reports may be added without end, so that a busy source has to let others pass."""

    @abc.abstractmethod
    def drain(self, room: int) -> tuple[list[OutFrame], int, bool]:
        """Take up to `room` reports: the frames, how many reports were used, whether all is taken."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Queue again what was held until its time."""

    @abc.abstractmethod
    def discard(self) -> None:
        """Drop all that is pending, because the wire is gone, and wake those who wait for space."""


@attrs.frozen
class OutboxStatistics:
    """The state of an outbox at one moment.

    `queued` call queues, task feeds and bare frames wait to be written, `held` ones wait for a
    time, and `moved_away` have their place here still but leave by another wire.
    `tasks_waiting_room` readers wait until fewer bare frames are unwritten. `is_broken` is whether
    the writer has ended.
    """

    queued: int
    held: int
    moved_away: int
    tasks_waiting_room: int
    is_broken: bool


class Outbox:
    """Everything that waits for one wire, and the writer that empties it.

    `frame_limit` caps the frames other than progress that one call may have
    pending before its handler waits. Not thread-safe.
    """

    __slots__ = (
        "_at_once",
        "_broken",
        "_direct",
        "_held",
        "_moved",
        "_receive",
        "_send",
        "_waiting",
        "_written",
        "frame_limit",
        "queued",
    )

    def __init__(self, frame_limit: int) -> None:
        # Unbounded, yet never longer than the calls in flight: a call queue is in it at most once,
        # and a bare frame answers a message that the reader took up one at a time.
        self._send, self._receive = trio.open_memory_channel[Source | OutFrame](math.inf)
        self._waiting: list[Source | OutFrame] = []
        # What left by another wire, and has its place here still. No set: an empty one takes more.
        self._moved: dict[Source, None] = {}
        self._held: dict[Source, float] = {}  # what is not to leave before a time, by Trio's clock
        self._broken = False
        self._direct: Callable[[OutFrame], bool] | None = None  # set while the writer waits for work
        self._written: trio.lowlevel.ParkingLot | None = None  # made by the first that waits
        self.queued = 0
        """How many call queues and bare frames wait in the channel."""
        self.frame_limit = frame_limit
        self._at_once = False  # whether the writer is to wait for no more company

    def __repr__(self) -> str:
        now = self.statistics()
        state = "broken" if now.is_broken else f"{now.queued} queued, {now.held} held"
        return f"<Outbox: {state}>"

    def statistics(self) -> OutboxStatistics:
        """The state now."""
        return OutboxStatistics(
            queued=self.queued + len(self._waiting) - len(self._moved),
            held=len(self._held),
            moved_away=len(self._moved),
            tasks_waiting_room=0 if self._written is None else len(self._written),
            is_broken=self._broken,
        )

    def flush(self) -> None:
        """Let the writer write all that is queued without waiting for more."""
        self._at_once = True

    def enqueue(self, item: Source | OutFrame) -> bool:
        """Hand `item` to the writer; False where the wire is gone and it is dropped."""
        if not self._broken:
            try:
                self._send.send_nowait(item)
                self.queued += 1
                return True
            except trio.ClosedResourceError:
                pass
        logger.debug("a message after the end of the connection was dropped")
        return False

    def note_moved_away(self, source: Source) -> None:
        """Note that `source`, which waits here, leaves by another wire now."""
        self._moved[source] = None

    def take_back(self, source: Source) -> bool:
        """Whether `source`, which comes back, still has its place here, so that it needs no other."""
        if source not in self._moved:
            return False
        del self._moved[source]
        return True

    def hold_until(self, source: Source, until: float) -> None:
        """Let the writer rouse `source` at `until`, by Trio's clock; for what it has just drained."""
        self._held[source] = until

    def unhold(self, source: Source) -> None:
        """Let the writer not resume `source` any more."""
        self._held.pop(source, None)

    def put(self, frame: OutFrame) -> None:
        """Send one frame that belongs to no call, behind all that is queued, at once."""
        if not self.write_now(frame):
            self._at_once = True
            self.enqueue(frame)

    def write_now(self, frame: OutFrame) -> bool:
        """Write in place where nothing waits and the wire takes it; False where it has to be queued."""
        return self._direct is not None and not self.queued and self._direct(frame)

    async def wait_room(self) -> None:
        """Wait while too many bare frames are unwritten; checkpoints.

        The reader calls it, so that a peer that floods and never reads is not read from.
        """
        await trio.lowlevel.checkpoint()
        while self.is_crowded:
            if self._written is None:
                self._written = trio.lowlevel.ParkingLot()
            await self._written.park()

    @property
    def is_crowded(self) -> bool:
        """Whether too many bare frames are unwritten."""
        return not self._broken and self.queued > self.frame_limit

    def close(self) -> None:
        """Let the writer return once it has written all that is queued."""
        self._direct = None
        self._send.close()

    async def write(self, sink: FrameSink) -> None:
        """Write until `close` was called and all is written; checkpoints.

        Raises what `sink.send_frames` raises; from then on everything is dropped.
        """
        # A `DirectSink` has it. Asking a Protocol by isinstance would take longer than a short answer does.
        direct: Callable[[OutFrame], bool] | None = getattr(sink, "send_now", None)
        try:
            while await self._collect(direct):
                frames = self._take_frames()
                if frames:
                    await sink.send_frames(frames)
                self._note_written()
                if self._waiting or self.queued:
                    await trio.lowlevel.checkpoint()  # the sink need not have waited
        finally:
            self._broken = True
            self._note_written()
            self._receive_queued()
            for item in self._waiting:
                if isinstance(item, Source) and item.outbox is self:
                    item.discard()
            for source in list(self._held):
                source.discard()
            self._waiting.clear()
            self._moved.clear()
            self._held.clear()

    async def _collect(self, direct: Callable[[OutFrame], bool] | None) -> bool:
        """Wait for something to write, and for its company as long as that keeps coming."""
        if self._held:
            self._resume_due()
        if not (self._waiting or self.queued):
            self._direct = direct
            try:
                self._waiting.append(await (self._receive_next() if self._held else self._receive.receive()))
                self.queued -= 1
            except trio.EndOfChannel:
                return False
            finally:
                self._direct = None
        started = perf_counter()
        pending = quiet = 0
        while True:
            self._receive_queued()
            if self._at_once:
                return True
            before = pending
            pending = sum(item.pending for item in self._waiting if isinstance(item, Source))
            quiet = quiet + 1 if pending == before else 0
            enough = LONE_QUIET_ROUNDS if pending == 1 else QUIET_ROUNDS
            if quiet >= enough or perf_counter() - started > COLLECT_SECONDS:
                return True
            await trio.lowlevel.checkpoint()

    async def _receive_next(self) -> Source | OutFrame:
        while self._held:
            with trio.CancelScope(deadline=min(self._held.values())):
                return await self._receive.receive()
            self._resume_due()
        return await self._receive.receive()

    def _resume_due(self) -> None:
        now = trio.current_time()
        for source in [source for source, until in self._held.items() if until <= now]:
            del self._held[source]
            source.resume()

    def _receive_queued(self) -> None:
        for _ in range(self.queued):
            self._waiting.append(self._receive.receive_nowait())
        self.queued = 0

    def _take_frames(self) -> list[OutFrame]:
        frames: list[OutFrame] = []
        room = WRITE_UPDATES
        self._at_once = False
        while self._waiting and room > 0:
            item = self._waiting[0]
            if not isinstance(item, Source):
                frames.append(self._waiting.pop(0))  # type: ignore[arg-type]  # not a source, so a frame
                continue
            if item.outbox is not self:
                self._waiting.pop(0)
                self._moved.pop(item, None)
                continue
            drained, used, empty = item.drain(room)
            frames.extend(drained)
            room -= used
            if empty:
                self._waiting.pop(0)
            elif item.is_refilled:
                # One busy call must not keep the others waiting. What must come behind it, such as
                # the end of its task, is queued when no more is added, so it stays behind.
                self._waiting.append(self._waiting.pop(0))
        self._at_once = bool(self._waiting)
        return frames

    def _note_written(self) -> None:
        if self._written is not None:
            self._written.unpark_all()
