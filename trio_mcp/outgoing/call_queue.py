"""Everything that one call has to send: its reports, its notifications and its answer.

Owns their order and the cap on pending reports. How reports become progress that strictly increases is
in `progress_slot.py`. Knows nothing of transports.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable

import trio
from msgspec import UnsetType

from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.pacing import Pace
from trio_mcp.outgoing.policy import DEFAULT_BUFFER, Lossless, ProgressPolicy
from trio_mcp.outgoing.progress_slot import ProgressSlot
from trio_mcp.outgoing.report import Report
from trio_mcp.outgoing.slot import HELD, IDLE, MOVES
from trio_mcp.wire.frames import OutFrame, ProgressToken

logger = logging.getLogger("trio_mcp.outgoing")


def _nothing() -> None:
    """Replaces a callback that was called."""


class CallQueue(ProgressSlot):
    """What one call has pending, in order: reports, notifications, the answer.

    At most `limit` reports are pending; `reports` counts them. `Slot` keeps the items and the place
    in the outbox: `_ask_turn` queues it for the writer, `_note_drained` says that the turn is over,
    `_clear` empties it but keeps its place, and with a `min_interval` its `_pace` holds back the newest
    report until `resume`.
    `ProgressSlot` makes progress of the reports.
    Not thread-safe. `push` and `put` never wait; `wait_space` does, for lossless calls.
    """

    __slots__ = (
        "_answer",
        "_closed",
        "_first_written",
        "_half",
        "_on_answered",
        "_space",
        "limit",
        "lossless",
        "policy",
    )

    _items: list[Report | OutFrame]

    def __init__(
        self,
        outbox: Outbox,
        token: ProgressToken | UnsetType,
        policy: ProgressPolicy,
        on_answered: Callable[[], None],
    ) -> None:
        # At most `limit` reports and log_buffer frames. It is a list because an empty deque takes a
        # quarter of the memory of all the rest of a call.
        super().__init__(outbox, [])
        self._token = token
        self.apply_policy(policy)
        self._on_answered = on_answered
        self._answer: OutFrame | None = None
        self._related_task = None
        self._closed = False
        self._first_written = False
        self._last = -math.inf
        self._floor = None
        self._last_details = (None, None)
        self._merged = None
        self.stages = None
        self._last_stages = ()
        self._space: trio.lowlevel.ParkingLot | None = None
        self.heart = None

    def __repr__(self) -> str:
        state = "closed, " if self._closed else ""
        return (
            f"<CallQueue of token {self._token!r}: {self.reports} reports, {self.frames} other frames, "
            f"{state}{self._state.value}>"
        )

    def apply_policy(self, policy: ProgressPolicy) -> None:
        """Treat pending reports by `policy`; only for a call that has not reported yet."""
        self.policy = policy
        self.limit = policy.buffer or DEFAULT_BUFFER
        self._half = self.limit // 2
        self._merge = policy.message == "merge"
        self.lossless = isinstance(policy, Lossless)
        if isinstance(policy, Lossless) or not policy.min_interval:
            self._pace = None
        else:
            self._pace = Pace(policy.min_interval, Report)

    @property
    def is_refilled(self) -> bool:
        """Whether more may be added, because the call is still going on."""
        return not self._closed

    @property
    def filling(self) -> bool:
        """Whether so many reports are pending that the reporter should let the writer run."""
        return self.reports >= self._half

    @property
    def full(self) -> bool:
        """Whether another report would push out an older one."""
        return self.reports >= self.limit

    @property
    def frames(self) -> int:
        """How many frames that are not progress are pending."""
        return len(self._items) - self.reports

    @property
    def has_token(self) -> bool:
        """Whether the client asked for progress."""
        return not isinstance(self._token, UnsetType)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be added, because the call was answered or withdrawn."""
        return self._closed

    def push(self, report: Report) -> bool:
        """Append one report; if the buffer is full, the oldest is dropped, but not the first one of the call
        while it is unsent.

        Under `Lossless` nothing is dropped, because the reporter has waited for room (`wait_space`).
        True if so many reports are pending that the reporter should let the writer run.
        """
        if self._closed:
            logger.debug("progress after the end of the call was ignored: %r", report)
            return False
        if self.reports >= self.limit:
            self._drop_oldest()
        self._items.append(report)
        self.reports = reports = self.reports + 1
        if reports > self._half:  # which is at least 1, because a policy has a buffer of at least 2
            return True
        if reports == 1:  # with more reports than this one, the call is queued already
            self._ask_turn()
        if reports < self._half:
            return False
        self.outbox.flush()
        return self.reports >= self._half  # it is not, if `min_interval` has just held the report

    def replace(self, old: Report, new: Report) -> bool:
        """Replace `old` by `new`; False if `old` is not the newest item that is pending."""
        if self._items and self._items[-1] is old:
            self._items[-1] = new
            return True
        return False

    def replace_newest(self, new: Report) -> None:
        """Replace the newest pending report by `new`; the buffer must be full."""
        for index in range(len(self._items) - 1, -1, -1):
            if type(self._items[index]) is Report:
                self._items[index] = new
                return

    def put(self, frame: OutFrame) -> None:
        """Append a frame behind everything that this call has pending; the writer does not collect more."""
        if self._closed:
            logger.debug("a message after the end of the call was ignored")
            return
        self._items.append(frame)
        self.outbox.flush()
        self._ask_turn()

    def succeed(self, outbox: Outbox, task_id: str) -> CallQueue:
        """Return a queue for the same token, of the task that goes on after this call is answered.

        What is pending leaves by this queue, before the answer. What leaves by the new one is
        marked as belonging to the task (MCP tasks 2025-11-25).
        """
        frames: list[OutFrame] = []
        if self._state is HELD:
            self._clear()  # what is held leaves by the successor
        else:
            self._take_frames(frames, sys.maxsize)  # the successor goes on from the last value sent
            self._items.extend(frames)
        successor = CallQueue(outbox, self._token, self.policy, _nothing)
        successor._first_written = self._first_written
        successor._pace, self._pace = self._pace, None
        successor.continue_from(self, task_id)
        successor.resume()
        return successor

    def settle_progress(self) -> float:
        """Make updates of all reports that are pending, of which none may follow.

        Returns the largest number that was sent or is pending now; minus infinity if there is none.
        """
        if self.heart is not None:
            self.heart.stop()
        if self._pace is not None:
            self.resume()
            self.reports = self._pace.keep_newest(self._items, has_begun=self._first_written, has_ended=True)
            self._pace = None
        frames: list[OutFrame] = []
        self._take_frames(frames, sys.maxsize)
        self._add_updates(frames, self._release_merged())
        self._items.extend(frames)
        if frames:
            self._ask_turn()
        return self._last

    def finish(self, answer: OutFrame | None) -> None:
        """End the call: `answer`, if there is one, is its last frame."""
        if self._closed:
            return
        if self._pace is not None:
            self.resume()
        if self.heart is not None:
            self.heart.stop()
        self._closed = True
        if self._space is not None:
            self._space.unpark_all()
        is_last = self._state is IDLE and self._merged is None
        if is_last and (answer is None or self.outbox.write_now(answer)):
            self._note_answered()
            return
        self._answer = answer
        self.outbox.flush()
        self._ask_turn()

    def withdraw(self) -> None:
        """Drop all that is pending, because the client wants nothing more of this call."""
        if self._closed:
            return
        if self.heart is not None:
            self.heart.stop()
        self._closed = True
        self._clear()
        if self._space is not None:
            self._space.unpark_all()
        if self._state is IDLE:
            self._note_answered()

    async def wait_space(self) -> None:
        """Wait until a report fits or the call is over; checkpoints."""
        await trio.lowlevel.checkpoint()
        while self.full and not self._closed:
            await self._park()

    async def wait_frames(self) -> None:
        """Wait until fewer frames than the outbox allows are pending; checkpoints."""
        await trio.lowlevel.checkpoint()
        while self.frames >= self.outbox.frame_limit and not self._closed:
            await self._park()

    async def _park(self) -> None:
        if self._space is None:
            self._space = trio.lowlevel.ParkingLot()
        await self._space.park()

    def drain(self, room: int) -> tuple[list[OutFrame], int, bool]:
        """Remove up to `room` reports; returns the frames, the reports used, and whether nothing is left."""
        frames: list[OutFrame] = []
        used = self._take_frames(frames, room)
        if self._items:
            return frames, used, False
        self._note_drained()
        if self._closed:
            self._add_updates(frames, self._release_merged())
            if self._answer is not None:
                frames.append(self._answer)
                self._answer = None
            self._note_answered()
        return frames, used, True

    def _take_frames(self, frames: list[OutFrame], room: int) -> int:
        """Move what is pending to `frames`, up to `room` reports; returns how many these were."""
        if self._pace is not None:
            self._keep_newest(self._pace)
        used = 0
        while self._items and used < room:
            if type(self._items[0]) is not Report:
                frames.append(self._items.pop(0))  # type: ignore[arg-type]  # no report, so a frame
                continue
            reports = self._take_reports(room - used)
            used += len(reports)
            self._add_updates(frames, self._increase(reports))
        if self._space is not None:
            self._space.unpark_all()
        return used

    def _keep_newest(self, pace: Pace) -> None:
        """Leave only the reports that may be sent now; `pace` may hold the newest until its time."""
        pace.put_back(self._items)
        self.reports = pace.keep_newest(self._items, has_begun=self._first_written, has_ended=self._closed)

    def _take_reports(self, room: int) -> list[Report]:
        items = self._items
        end = len(items)
        has_frames = end > self.reports
        if end > room:
            end = room
        if has_frames:
            end = next((index for index in range(end) if type(items[index]) is not Report), end)
        taken: list[Report] = items[:end]  # type: ignore[assignment]  # reports alone, before the first frame
        del items[:end]
        self.reports -= end
        self._first_written = True
        return taken

    def _drop_oldest(self) -> None:
        """Drop the oldest report, but not the first one of the call, which is always sent."""
        spare_first = not self._first_written
        for index, item in enumerate(self._items):
            if type(item) is not Report:
                continue
            if spare_first:
                spare_first = False
                continue
            del self._items[index]
            self.reports -= 1
            return

    def discard(self) -> None:
        """Drop all that is pending, because the wire is gone, and wake those who wait for space."""
        self._clear()
        self._state = MOVES[self._state]["discard"]
        if self._space is not None:
            self._space.unpark_all()
        if self._closed:
            self._note_answered()

    def _note_answered(self) -> None:
        self._on_answered()
        self._on_answered = _nothing
