"""The one way out of a session: everything that waits for the wire, and the single writer.

Owns the order in which calls leave, and the moment at which they are written. The writer's task
writes. While it sleeps and nothing is queued, the task that has a single frame to send may write it
in its place (`write_now`), if the wire takes the frame at once; so there is one writer at a time. A
memory channel hands the writer every call queue that has something pending, each at most once, so
the channel cannot grow with the number of reports. Knows no method.
"""

from __future__ import annotations

import abc
import logging
import math
from collections.abc import Callable
from time import perf_counter
from typing import Final

import trio
from msgspec import Struct

from trio_mcp.outgoing.transport import FrameSink
from trio_mcp.wire.frames import OutFrame

logger = logging.getLogger("trio_mcp.outgoing")

COLLECT_SECONDS: Final = 0.001
"""The longest time for which the writer collects more before it writes, in seconds of its clock."""

QUIET_ROUNDS: Final = 2
"""The writer writes after so many scheduling rounds in which nothing was added.

One round is not enough: Trio shuffles the tasks of a round, so that a handler which reports in every
round may seem to have missed one.
"""

LONE_QUIET_ROUNDS: Final = 1
"""The same if only one report is pending, which most often stays alone."""

WRITE_UPDATES: Final = 1024
"""The most progress updates in one write, so that many busy calls cannot make it arbitrarily large."""


class Source(abc.ABC):
    """What the writer of an outbox empties: anything that may have more than one frame pending."""

    __slots__ = ("outbox",)

    outbox: Outbox
    """The outbox by which everything pending leaves."""

    @property
    @abc.abstractmethod
    def pending(self) -> int:
        """How many reports are pending; the writer waits for more as long as the number grows."""

    @property
    @abc.abstractmethod
    def is_refilled(self) -> bool:
        """Whether more may be added at any time, so that a busy source has to let others pass."""

    @abc.abstractmethod
    def drain(self, room: int) -> tuple[list[OutFrame], int, bool]:
        """Remove up to `room` reports; returns the frames, the reports used, and whether nothing is left."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Queue again what was held until its time."""

    @abc.abstractmethod
    def discard(self) -> None:
        """Drop all that is pending, because the wire is gone, and wake those who wait for space."""


class OutboxStatistics(Struct, frozen=True):
    """The state of an outbox at one moment.

    `queued` call queues, task feeds and bare frames wait to be written, and `held` ones wait for a
    time. `moved_away` ones still have a place in the queue, but leave by another wire.
    `tasks_waiting_room` tasks are in `wait_room`. `is_broken` says that the writer has ended.
    """

    queued: int
    held: int
    moved_away: int
    tasks_waiting_room: int
    is_broken: bool


class Outbox:
    """Everything that waits for one wire, and the writer that empties it.

    `frame_limit` is how many frames other than progress one call may have pending before its
    handler waits, and how many items may be queued before the reader of the wire waits. `clock`
    tells, in seconds, for how long the writer has collected. Not thread-safe.
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
        "clock",
        "frame_limit",
        "queued",
    )

    def __init__(self, frame_limit: int, clock: Callable[[], float] = perf_counter) -> None:
        # Unbounded, but never longer than what is in flight: a call queue is in it at most once, and a
        # bare frame is a request, a notification, or the answer to a message that was read.
        self._send, self._receive = trio.open_memory_channel[Source | OutFrame](math.inf)
        self._waiting: list[Source | OutFrame] = []
        # Sources that leave by another wire, but still have a place here. An empty set takes more memory.
        self._moved: dict[Source, None] = {}
        self._held: dict[Source, float] = {}  # when the writer resumes each, by Trio's clock
        self._broken = False
        self._direct: Callable[[OutFrame], bool] | None = None  # `send_now`, while the writer waits for work
        self._written: trio.lowlevel.ParkingLot | None = None  # made by the first task that waits
        self.queued = 0
        """How many call queues and bare frames wait in the channel."""
        self.frame_limit = frame_limit
        self.clock = clock
        self._at_once = False  # whether the writer writes without collecting more

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
        """Let the writer stop collecting and write all that is queued, at its next turn; does not wait."""
        self._at_once = True

    def enqueue(self, item: Source | OutFrame) -> bool:
        """Hand `item` to the writer; False if the wire is gone, so that the item was dropped."""
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
        """Note that `source`, which is queued here, leaves by another wire now."""
        self._moved[source] = None

    def take_back(self, source: Source) -> bool:
        """Give `source`, which comes back, the place that it left; False if it has none here."""
        if source not in self._moved:
            return False
        del self._moved[source]
        return True

    def hold_until(self, source: Source, until: float) -> None:
        """Let the writer resume `source`, which it has just drained, at `until` on Trio's clock."""
        self._held[source] = until

    def unhold(self, source: Source) -> None:
        """Let the writer not resume `source` any more."""
        self._held.pop(source, None)

    def put(self, frame: OutFrame) -> None:
        """Send a frame that belongs to no call, behind all that is queued, without collecting more."""
        if not self.write_now(frame):
            self._at_once = True
            self.enqueue(frame)

    def write_now(self, frame: OutFrame) -> bool:
        """Write `frame` now, if nothing is queued and the wire takes it; False if it has to be queued."""
        return self._direct is not None and not self.queued and self._direct(frame)

    async def wait_room(self) -> None:
        """Wait while more items are queued than `frame_limit`; checkpoints.

        The reader calls it, so that nothing is read from a peer that sends and never reads.
        """
        await trio.lowlevel.checkpoint()
        while self.is_crowded:
            if self._written is None:
                self._written = trio.lowlevel.ParkingLot()
            await self._written.park()

    @property
    def is_crowded(self) -> bool:
        """Whether more items are queued than `frame_limit`."""
        return not self._broken and self.queued > self.frame_limit

    def close(self) -> None:
        """Let the writer return when it has written all that is queued."""
        self._direct = None
        self._send.close()

    async def write(self, sink: FrameSink) -> None:
        """Write until `close` was called and everything is written; checkpoints.

        Raises what `sink.send_frames` raises; from then on everything is dropped.
        """
        # A `DirectSink` has it. An isinstance check of a Protocol takes longer than a short answer.
        direct: Callable[[OutFrame], bool] | None = getattr(sink, "send_now", None)
        try:
            while await self._collect(direct):
                frames = self._take_frames()
                if frames:
                    await sink.send_frames(frames)
                self._note_written()
                if self._waiting or self.queued:
                    await trio.lowlevel.checkpoint()  # the sink may not have waited
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
        """Wait for something to write, and for more as long as more keeps coming; False at the end."""
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
        clock = self.clock
        started = clock()
        pending = quiet = 0
        while True:
            self._receive_queued()
            if self._at_once:
                return True
            before = pending
            pending = sum(item.pending for item in self._waiting if isinstance(item, Source))
            quiet = quiet + 1 if pending == before else 0
            enough = LONE_QUIET_ROUNDS if pending == 1 else QUIET_ROUNDS
            if quiet >= enough or clock() - started > COLLECT_SECONDS:
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
                # One busy call must not keep the others waiting, so it goes to the end of the queue. A
                # frame that must follow all of it, such as the end of its task, is queued only after
                # the call has ended; then the call is not moved any more.
                self._waiting.append(self._waiting.pop(0))
        self._at_once = bool(self._waiting)
        return frames

    def _note_written(self) -> None:
        if self._written is not None:
            self._written.unpark_all()
