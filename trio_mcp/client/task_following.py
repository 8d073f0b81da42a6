"""Following a background task from a client, in whatever way the server offers.

Owns the choice between subscriptions and polling, the pace of polling, and that
a snapshot which does not advance is dropped. Knows no handle and no handler.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec
import trio

from trio_mcp.client.task_snapshot import TaskSnapshot, read_snapshot
from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ConnectionLost, MCPError, ProtocolError, RemoteProtocolError
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.frames import Notification
from trio_mcp.wire.messages import (
    META_HISTORY,
    META_REPORTS,
    ListenParams,
    SubscriptionFilter,
    UpdateTaskParams,
)

if TYPE_CHECKING:
    from trio_mcp.client.client import Client

logger = logging.getLogger("trio_mcp")

FIRST_POLL: Final = 0.05
"""Seconds before the second look; doubled until the server's interval is reached."""

LEAST_POLL, MOST_POLL, USUAL_POLL = 0.05, 60.0, 1.0
"""Bounds in seconds for what a server asks for, and what is taken where it asks for nothing sensible."""

ACKNOWLEDGE_SECONDS: Final = 1.0
"""A server that has not acknowledged a subscription by then is polled, until it does."""

HISTORY_SECONDS: Final = 10.0
"""The same where the history is wanted, which a look at the task would overtake."""

SAFETY_FACTOR: Final = 10
"""Where the server tells of changes, it is still looked at, but so much less often."""

RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""The pauses between looks that fail while the connection goes on; the one after the last is an error."""

PASSING_STATUSES: Final = frozenset({408, 425, 429})
"""What HTTP answers, beside the errors of servers and gateways, to a request that may succeed later."""


def pace(snapshot: TaskSnapshot | None) -> float:
    """How long to wait between two looks, in seconds, whatever the server says."""
    interval = None if snapshot is None else snapshot.poll_interval
    if interval is None or not math.isfinite(interval) or interval <= 0:
        interval = USUAL_POLL
    return min(max(interval, LEAST_POLL), MOST_POLL)


class TaskFollowing:
    """One task, followed until it has ended; `take` gets every snapshot that advances.

    With `wants_history`, those begin with the reports so far that no client has taken,
    where the server keeps them.
    """

    def __init__(
        self,
        client: Client,
        task_id: str,
        take: Callable[[TaskSnapshot], None],
        *,
        wants_history: bool = False,
    ) -> None:
        self._client = client
        self._id = task_id
        self._take = take
        self._last: TaskSnapshot | None = None
        self._heard = -math.inf  # when the server last told of the task
        self._changed = trio.lowlevel.ParkingLot()
        self._answering: dict[str, trio.CancelScope] = {}  # by the key of the question
        self._wants_history = wants_history
        self._acknowledged = False
        self._begins = (
            False  # whether the server sends the state now, behind the history where that is wanted
        )
        self._told = False  # whether the server tells of changes
        self._lost = False  # whether it has just stopped to
        self._overtaken = False  # whether the last snapshot is that of a look

    async def run(self, nursery: trio.Nursery) -> None:
        """Follow until a final snapshot was taken; checkpoints.

        The task's questions are answered in `nursery`, for as long as this runs. Raises what
        `fetch_task` raises, unless another look may bring what one has not.
        """
        try:
            with self._notifications():
                if not self._acknowledged:
                    await self._wait_acknowledged()
                if not self._begins:  # a look would overtake the history
                    await self._look()
                delay = FIRST_POLL
                while not self.is_over:
                    self._answer(nursery)
                    if await self._wait_change(delay):
                        await self._look()
                    delay *= 2
        finally:
            for scope in self._answering.values():
                scope.cancel()

    @property
    def is_over(self) -> bool:
        """Whether the last snapshot is final."""
        return self._last is not None and self._last.is_final

    async def _wait_acknowledged(self) -> None:
        with trio.move_on_after(HISTORY_SECONDS if self._wants_history else ACKNOWLEDGE_SECONDS):
            while True:
                await self._changed.park()
                if self._acknowledged:
                    return

    async def _wait_change(self, delay: float) -> bool:
        """Wait until there is something to do, and return whether that is to look. Checkpoints."""
        interval = pace(self._last)
        if self._told:
            deadline = self._heard + SAFETY_FACTOR * interval
        else:
            deadline = trio.current_time() + min(delay, interval)
        with trio.move_on_at(deadline) as scope:
            await self._changed.park()
        if self._lost:
            self._lost = False
            return True
        # Most changes wake nobody, so it may have been told meanwhile.
        return scope.cancelled_caught and not (
            self._told and self._heard > deadline - SAFETY_FACTOR * interval
        )

    async def _look(self) -> None:
        """Look at the task, again and again where that fails in a way that may pass (`RETRY_SECONDS`)."""
        for delay in (*RETRY_SECONDS, None):
            try:
                snapshot = await self._client.fetch_task(self._id)
            except MCPError as error:
                if delay is None or not self._may_pass(error):
                    raise
                logger.debug("task %s could not be looked at, again in %g s: %s", self._id, delay, error)
            else:
                self._accept(snapshot, looked=True)
                return
            await trio.sleep(delay)
            if self.is_over:  # its end was told meanwhile
                return

    def _may_pass(self, error: MCPError) -> bool:
        """Whether what made a look fail says nothing of the task, and the connection goes on."""
        if isinstance(error, ConnectionLost):  # over HTTP a single answer can be lost
            return not self._client._session.is_lost
        data = error.data if isinstance(error, ProtocolError) else None
        status = data.get("status") if isinstance(data, dict) else None
        return isinstance(status, int) and (status in PASSING_STATUSES or status >= 500)

    def _accept(self, snapshot: TaskSnapshot, *, looked: bool = False) -> None:
        last = self._last
        self._heard = trio.current_time()
        if last is not None:
            follows = not looked and not self._overtaken and not last.is_final and bool(snapshot._reports)
            if not follows and not _advances(last, snapshot):
                return
            if self._overtaken:
                snapshot = snapshot.without_reports_before(last)
            if snapshot.stages is None and last.stages is not None:
                # Nothing new is known of them, but that none outlives its task.
                snapshot = attrs.evolve(snapshot, stages=() if snapshot.is_final else last.stages)
        self._last = snapshot
        self._overtaken = looked
        self._take(snapshot)
        if snapshot.is_final or snapshot._questions:
            self._changed.unpark_all()

    def _answer(self, nursery: trio.Nursery) -> None:
        """Answer what the task asks, each question once."""
        questions = {} if self._last is None else self._last._questions
        for key, question in questions.items():
            if key not in self._answering:
                scope = self._answering[key] = trio.CancelScope()
                nursery.start_soon(self._answer_question, key, question, scope)

    async def _answer_question(self, key: str, question: Any, scope: trio.CancelScope) -> None:
        with scope:
            await self._find_answer(key, question)

    async def _find_answer(self, key: str, question: Any) -> None:
        method = question.get("method") if isinstance(question, dict) else None
        params = question.get("params") if isinstance(question, dict) else None
        answer = None
        try:
            answer = await self._client._session.answering.answer(str(method), params)
            encode_json(answer)  # raises ValueError for what is not JSON
        except BaseException as error:  # noqa: ASYNC103  # contain_failure raises it
            contain_failure(error, f"the handler of {method} failed")
            answer = {"action": "cancel"} if method == "elicitation/create" else None
        if answer is not None:  # sampling has no words for a failure
            await self._send_answer(key, answer)

    async def _send_answer(self, key: str, answer: dict[str, Any]) -> None:
        update = UpdateTaskParams(task_id=self._id, input_responses={key: answer})
        try:
            await self._client._request("tasks/update", update)
        except MCPError as error:
            logger.warning("the answer to question %r of task %s was refused: %s", key, self._id, error)

    @contextmanager
    def _notifications(self) -> Iterator[None]:
        """Be told of changes while the block lasts, if the server does that."""
        session = self._client._session
        if not self._client._agreement.era.modern:
            self._acknowledged = True
            with session.listening_for_task(self._id, self._accept_raw):
                yield
            return
        params = ListenParams(notifications=SubscriptionFilter(task_ids=[self._id]))
        wishes = (
            {META_HISTORY: True, META_REPORTS: "all"} if self._wants_history else {META_REPORTS: "newest"}
        )
        params.meta = {**self._client._meta, **wishes}
        call = session.begin("subscriptions/listen", params)
        call.on_settled = self._note_end
        try:
            with session.subscribed(call.id, self._receive):
                yield
        finally:
            session.end(call)

    def _receive(self, frame: Notification) -> None:
        if frame.method == "notifications/subscriptions/acknowledged":
            self._told, self._begins = _read_acknowledgement(frame, self._id)
            self._acknowledged = True
            self._heard = trio.current_time()
            self._changed.unpark_all()
        elif frame.method == "notifications/tasks" and not isinstance(frame.params, msgspec.UnsetType):
            self._accept_raw(frame.params)

    def _note_end(self) -> None:
        """The subscription has ended, by an error or with the connection."""
        self._told, self._lost = False, True
        self._acknowledged = True
        self._changed.unpark_all()

    def _accept_raw(self, raw: msgspec.Raw) -> None:
        try:
            snapshot = read_snapshot(raw)
        except RemoteProtocolError as error:
            logger.debug("a malformed task notification was dropped: %s", error)
            return
        if snapshot.id == self._id:
            self._accept(snapshot)


def _advances(old: TaskSnapshot, new: TaskSnapshot) -> bool:
    """Whether `new` is later than `old`; two streams may bring them in any order."""
    if old.is_final:
        return False
    if new.is_final:
        return True
    if old.last_updated_at is None or new.last_updated_at is None:
        return new != old
    if new.last_updated_at != old.last_updated_at:
        return new.last_updated_at > old.last_updated_at
    # The protocol's times are coarse: within one tick the time of the report decides, which is finer
    # where the server is ours, and then that nothing goes back.
    if old.reported_at is not None and new.reported_at is not None and new.reported_at != old.reported_at:
        return new.reported_at > old.reported_at
    if old.current is not None and (new.current is None or new.current < old.current):
        return False
    return new != old


def _read_acknowledgement(frame: Notification, task_id: str) -> tuple[bool, bool]:
    """Whether the server tells of the task's changes, and whether it begins with what is known so far."""
    try:
        params = msgspec.json.decode(frame.params) if not isinstance(frame.params, msgspec.UnsetType) else {}
        told = task_id in (params["notifications"].get("taskIds") or ())
        meta = params.get("_meta", {})
        return told, told and (META_REPORTS in meta or meta.get(META_HISTORY) is True)
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return False, False


@asynccontextmanager
async def watch(client: Client, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
    """See `Client.watch_task`."""
    channel = LatestChannel[TaskSnapshot]()
    await client.fetch_task(task_id)  # what is unknown is told here, and not in the middle
    async with channel.receive as receive, open_unwrapping_nursery() as nursery:

        async def follow() -> None:
            try:
                await TaskFollowing(client, task_id, channel.offer).run(nursery)
            except MCPError as error:
                logger.debug("task %s can no longer be followed: %s", task_id, error)
            finally:
                channel.close()

        nursery.start_soon(follow)
        yield receive
        nursery.cancel_scope.cancel()
