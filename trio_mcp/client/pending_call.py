"""One request that a client waits for, and the progress that arrives before its answer.

Owns the bounded queue between the reader and the caller's own task, which empties the queue through the
progress handler. So the caller gets the answer only when the handler has finished with every earlier update.
Under `Lossless` the reader waits before it reads on if the queue is full; otherwise it never waits. Knows no
method and no transport.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, Final

import trio

from trio_mcp.client.outcome import Outcome
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.concurrency.wakeup import Wakeup
from trio_mcp.errors import MCPError, ProgressOverflow
from trio_mcp.handlers.sink import Handler, Progress, ProgressSink, Receiver
from trio_mcp.outgoing.policy import DEFAULT_BUFFER, LOSSLESS_CLIENT_BUFFER, Lossless, ProgressPolicy
from trio_mcp.progress.estimator import Estimator
from trio_mcp.wire.errors import DEADLINE_PASSED
from trio_mcp.wire.frames import ErrorResponse, RequestId, StageState, Update

logger = logging.getLogger("trio_mcp.client")

DELIVERIES_PER_YIELD: Final = 128
"""How many updates a sync handler gets before other tasks may run."""


PATIENCE_PARTS: Final = 10
"""In so many parts is waited for a handler, with a turn for it in each.

So the time for which the system does not run this process at all counts as one part, and a handler that was
given no turn does not seem to stand still.
"""


class PendingCall:
    """A request of one caller, with the updates that its progress handler has not seen yet.

    The reader of the connection puts in updates (`queue_updates`) and the answer (`settle`), and never
    waits. The caller's own task takes them out (`wait`). With a `timer`, its scope is around that wait.
    """

    __slots__ = (
        "__weakref__",
        "_accepts_late",
        "_arrival",
        "_estimator",
        "_handler",
        "_limit",
        "_lossless",
        "_note_crowded",
        "_queue",
        "_stages",
        "_took_first",
        "floor",
        "held",
        "id",
        "newest",
        "on_settled",
        "outcome",
        "timer",
    )

    def __init__(
        self,
        ident: RequestId,
        handler: Handler | None,
        policy: ProgressPolicy,
        timer: CallTimer | None = None,
        note_crowded: Callable[[PendingCall], None] | None = None,
        *,
        outlives_answer: bool = False,
        accepts_late: bool = False,
    ) -> None:
        self.id = ident
        self.outcome: Outcome | None = None
        self.on_settled: Callable[[], None] | None = None
        self.newest: Update | None = None
        self.floor: float | None = None  # the progress that an earlier request of the same call has delivered
        self.timer = timer
        self._note_crowded = note_crowded
        self.held: trio.lowlevel.ParkingLot | None = None
        """Where the readers wait that hold back more updates; made by the first."""
        # A receiver gets one record with the open stages; a plain handler gets three values (None here).
        self._stages: tuple[StageState, ...] | None = None
        self._estimator: Estimator | None = None
        self._handler: Callable[..., Awaitable[None] | None] | None = None
        if isinstance(handler, Receiver):
            self._handler, self._stages, self._estimator = handler.receive, (), Estimator()
        elif handler is not None:
            assert not isinstance(handler, ProgressSink), "a sink was opened for the wait"
            self._handler = handler
        self._accepts_late = outlives_answer or accepts_late
        # While nobody waits for a task, only its newest progress matters, so nothing can overflow.
        self._lossless = isinstance(policy, Lossless) and not outlives_answer
        default = LOSSLESS_CLIENT_BUFFER if self._lossless else DEFAULT_BUFFER
        self._limit = policy.buffer or default
        # At most `_limit` updates, see `queue_updates`; for a receiver each ends with the open stages.
        self._queue: deque[Any] = deque()
        self._took_first = False
        self._arrival = Wakeup()

    def __repr__(self) -> str:
        state = "waiting" if self.outcome is None else type(self.outcome).__name__
        return f"<PendingCall {self.id!r}: {state}, {len(self._queue)} updates queued>"

    def queue_updates(self, updates: list[Update], stages: tuple[StageState, ...] | None = None) -> None:
        """Queue updates for the handler; never waits. Updates after the answer are dropped.

        `stages` are the stages that are open since the last update, or None if they have not changed.
        """
        if self.outcome is not None and not self._accepts_late:
            logger.debug("progress after the answer to request %r was dropped", self.id)
            return
        if self.timer is not None and self.outcome is None:
            self.timer.resume()
        if self._handler is None:
            return
        if self.floor is not None:
            updates = [update for update in updates if update[0] > self.floor]
            if not updates:
                self.note_stages(stages)
                return
        self.newest = newest = updates[-1]
        if self._estimator is not None:
            self._estimator.update(trio.current_time(), _own_value(newest), newest[1])
        self._queue.extend(updates if self._stages is None else self._with_stages(updates, stages))
        if len(self._queue) > self._limit:
            self._overflow()
        self._arrival.unpark()

    @property
    def queued(self) -> int:
        """How many updates the handler has not been given yet."""
        return len(self._queue)

    @property
    def stages(self) -> tuple[StageState, ...] | None:
        """The stages that are open as of the newest update; None for a plain handler."""
        return self._stages

    def note_stages(self, stages: tuple[StageState, ...] | None) -> None:
        """Note which stages are open, for the next update; None changes nothing."""
        if self._stages is not None and stages is not None:
            self._stages = stages

    def hand_over(self, other: PendingCall) -> None:
        """Move what is queued here to `other`; what was delivered here counts as delivered there."""
        if self._queue:
            other.queue_updates([update[:4] for update in self._queue], self._stages)
            self._queue.clear()
        elif self.newest is not None:
            other.newest = self.newest
            other.note_stages(self._stages)

    async def wait_taken(self, patience: float) -> bool:
        """Wait while more updates are queued than the policy allows; checkpoints.

        Whoever reads a wire does so before it reads on. Returns False if the handler has taken no
        update for `patience` seconds.
        """
        idle_parts = 0
        while len(self._queue) > self._limit and (self.outcome is None or self._accepts_late):
            if self.held is None:
                self.held = trio.lowlevel.ParkingLot()
            if self.timer is not None and self.outcome is None:
                self.timer.keep_total()  # there is progress, though it has not been read
            before = len(self._queue)
            with trio.move_on_after(patience / PATIENCE_PARTS):
                await self.held.park()
            if self.timer is not None and self.outcome is None:
                self.timer.resume()
            idle_parts = 0 if len(self._queue) < before else idle_parts + 1
            if idle_parts == PATIENCE_PARTS:
                return False
        return True

    def overflow(self) -> None:
        """Fail the call, because its handler stands still."""
        self.release()
        if self.outcome is None:
            words = f"more than {self._limit} updates wait for the progress handler of this call"
            overflow = ProgressOverflow(words)
            self.settle(overflow)
            if self.timer is not None:
                self.timer.fail(overflow)  # the handler may be stuck

    def release(self) -> None:
        """Drop what is queued, and let the readers that wait go on: nobody takes it any more."""
        self._queue.clear()
        if self.held is not None:
            self.held.unpark_all()

    def settle(self, outcome: Outcome) -> None:
        """Note the outcome; `wait` returns it after the queued updates. Only the first one counts."""
        if self.outcome is None:
            self.outcome = outcome
            if self.timer is not None:
                # The handler may take as long as it likes, unless our own deadline has ended the call.
                if isinstance(outcome, ErrorResponse) and outcome.error.code == DEADLINE_PASSED:
                    self.timer.keep_total()
                else:
                    self.timer.suspend()
            self._arrival.unpark()
            if self.held is not None:
                self.held.unpark_all()
            if self.on_settled is not None:
                self.on_settled()

    async def wait(self) -> Outcome:
        """Deliver progress until there is an outcome, then return it; checkpoints."""
        if self._queue or self.outcome is not None:  # otherwise it parks, which is a checkpoint
            await trio.lowlevel.checkpoint()
        while True:  # noqa: ASYNC913  # each turn delivers, parks or returns
            if self._queue:
                await self._deliver()
            elif self.outcome is not None:
                if isinstance(self.outcome, MCPError):
                    # The cancellation that has ended the connection reaches its caller first.
                    await trio.lowlevel.checkpoint_if_cancelled()
                return self.outcome
            else:
                await self._arrival.park()

    async def wait_progress(self, progress: float) -> None:
        """Wait until an update with at least `progress` has arrived; checkpoints.

        For calls that accept updates after their answer.
        """
        await trio.lowlevel.checkpoint()
        while self.newest is None or _own_value(self.newest) < progress:
            await self._arrival.park()

    def _with_stages(
        self, updates: list[Update], stages: tuple[StageState, ...] | None
    ) -> list[tuple[Any, ...]]:
        """Return the updates, each with the stages that were open at that time."""
        queued = [(*update, self._stages) for update in updates]
        if stages is not None:
            self._stages = stages
            queued[-1] = (*updates[-1], stages)
        return queued

    def _overflow(self) -> None:
        if self._lossless:
            if self._note_crowded is None:
                self.overflow()
            else:
                self._note_crowded(self)  # whoever reads waits, in `wait_taken`
            return
        first = None if self._took_first else self._queue.popleft()
        room = self._limit - (first is not None)
        while len(self._queue) > room:
            self._queue.popleft()
        if first is not None:
            self._queue.appendleft(first)

    async def _deliver(self) -> None:
        handler, queue, is_plain = self._handler, self._queue, self._stages is None
        assert handler is not None, "updates are only queued for a handler"
        self._took_first = True
        for _ in range(min(len(queue), DELIVERIES_PER_YIELD)):
            if not queue:  # an overflow emptied it while the handler waited
                return
            update = queue.popleft()
            try:
                if is_plain:
                    progress, total, message, exact = update
                    pending = handler(progress if exact is None else exact, total, message)
                else:
                    progress, total, message, exact, stages = update
                    value = progress if exact is None else exact
                    pending = handler(Progress(value, total, message, stages, self._estimator))
                if pending is not None and (type(pending) is CoroutineType or inspect.isawaitable(pending)):
                    await pending
            except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything
                contain_failure(error, "a progress handler", logger, "failed; the call goes on")
        if self.held is not None and len(queue) <= self._limit:
            self.held.unpark_all()
        if queue:
            await trio.lowlevel.checkpoint()


def _own_value(update: Update) -> float:
    """Return the reporter's own number; the one on the wire may be larger, because it must increase."""
    progress, _, _, exact = update
    return progress if exact is None else exact
