"""Following a background task from a client, in whatever way the server offers.

Owns the choice between subscriptions and polling, the pace of polling, and that
a snapshot which does not advance is dropped. Knows no handle and no handler.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from trio_mcp.client.snapshots import TaskSnapshot, read_snapshot
from trio_mcp.errors import MCPError, RemoteProtocolError
from trio_mcp.runtime.border import contain_failure
from trio_mcp.runtime.lone import open_lone_nursery
from trio_mcp.runtime.newest import NewestChannel
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.frames import Notification
from trio_mcp.wire.messages import META_HISTORY, ListenParams, SubscriptionFilter, UpdateTaskParams

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
        self._changed = trio.lowlevel.ParkingLot()
        self._answered: set[str] = set()
        self._wants_history = wants_history
        self._replays = False  # whether the server sends the history, and the state now behind it
        self._told = False  # whether the server tells of changes
        self._lost = False  # whether it has just stopped to

    async def run(self) -> None:
        """Follow until a final snapshot was taken; checkpoints. Raises what `fetch_task` raises."""
        async with open_lone_nursery() as nursery:
            async with self._notifications(nursery):
                if not self._replays:  # a look would overtake the history
                    await self._look()
                delay = FIRST_POLL
                while not self.is_over:
                    self._answer(nursery)
                    longest = pace(self._last) * (SAFETY_FACTOR if self._told else 1)
                    with trio.move_on_after(longest if self._told else min(delay, longest)) as scope:
                        await self._changed.park()
                    delay *= 2
                    if scope.cancelled_caught or self._lost:
                        self._lost = False
                        await self._look()
            nursery.cancel_scope.cancel()

    @property
    def is_over(self) -> bool:
        """Whether the last snapshot is final."""
        return self._last is not None and self._last.is_final

    async def _look(self) -> None:
        self._accept(await self._client.fetch_task(self._id))

    def _accept(self, snapshot: TaskSnapshot) -> None:
        if self._last is not None and not _advances(self._last, snapshot):
            return
        self._last = snapshot
        self._take(snapshot)
        self._changed.unpark_all()

    def _answer(self, nursery: trio.Nursery) -> None:
        """Answer what the task asks, each question once."""
        questions = {} if self._last is None else self._last._questions
        for key, question in questions.items():
            if key not in self._answered:
                self._answered.add(key)
                nursery.start_soon(self._answer_question, key, question)

    async def _answer_question(self, key: str, question: Any) -> None:
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

    @asynccontextmanager
    async def _notifications(self, nursery: trio.Nursery) -> AsyncIterator[None]:
        """Be told of changes while the block lasts, if the server does that."""
        session = self._client._session
        if not self._client._agreement.era.modern:
            with session.listening_for_task(self._id, self._accept_raw):
                yield
            return
        params = ListenParams(notifications=SubscriptionFilter(task_ids=[self._id]))
        params.meta = self._client._meta
        if self._wants_history:
            params.meta = {**params.meta, META_HISTORY: True}
        call = session.begin("subscriptions/listen", params)
        acknowledged = trio.Event()

        def receive(frame: Notification) -> None:
            if frame.method == "notifications/subscriptions/acknowledged":
                self._told, self._replays = _read_acknowledgement(frame, self._id)
                acknowledged.set()
            elif frame.method == "notifications/tasks" and not isinstance(frame.params, msgspec.UnsetType):
                self._accept_raw(frame.params)

        async def watch_end() -> None:
            await call.wait()  # an error, the subscription's end, or the connection's
            self._told, self._lost = False, True
            acknowledged.set()
            self._changed.unpark_all()

        try:
            with session.subscribed(call.id, receive):
                nursery.start_soon(watch_end)
                with trio.move_on_after(HISTORY_SECONDS if self._wants_history else ACKNOWLEDGE_SECONDS):
                    await acknowledged.wait()
                yield
        finally:
            session.end(call)

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
    """Whether the server tells of the task's changes, and whether it begins with what was reported so far."""
    try:
        params = msgspec.json.decode(frame.params) if not isinstance(frame.params, msgspec.UnsetType) else {}
        told = task_id in (params["notifications"].get("taskIds") or ())
        return told, told and params.get("_meta", {}).get(META_HISTORY) is True
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return False, False


@asynccontextmanager
async def watch(client: Client, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
    """See `Client.watch_task`."""
    channel = NewestChannel[TaskSnapshot]()
    await client.fetch_task(task_id)  # what is unknown is told here, and not in the middle
    async with channel.receive as receive, open_lone_nursery() as nursery:

        async def follow() -> None:
            try:
                await TaskFollowing(client, task_id, channel.offer).run()
            except MCPError as error:
                logger.debug("task %s can no longer be followed: %s", task_id, error)
            finally:
                channel.close()

        nursery.start_soon(follow)
        yield receive
        nursery.cancel_scope.cancel()
