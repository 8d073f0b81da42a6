"""Following a background task from a client: by a subscription if the server offers one, else by polling.

Owns the choice between the two, the pace of polling, and that a snapshot which does not advance is
dropped. Refuses to know handles and progress handlers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import msgspec
import trio
from msgspec.structs import replace

from trio_mcp.client.link import Link
from trio_mcp.client.passing_failure import may_pass
from trio_mcp.client.task_questions import TaskQuestions
from trio_mcp.client.task_snapshot import TaskNews, TaskSnapshot, read_task
from trio_mcp.client.task_subscription import (
    TRANSITIONS,
    Subscription,
    SubscriptionEvent,
    read_acknowledgement,
)
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import MCPError, RemoteProtocolError
from trio_mcp.wire.frames import Notification
from trio_mcp.wire.messages import (
    META_HISTORY,
    META_REPORTS,
    META_SINCE,
    ListenParams,
    SubscriptionFilter,
)

logger = logging.getLogger("trio_mcp.client")

FIRST_POLL: Final = 0.05
"""Seconds before the second poll; doubled until the server's interval is reached."""

LEAST_POLL, MOST_POLL, USUAL_POLL = 0.05, 60.0, 1.0
"""Bounds in seconds for what a server asks for, and what is taken if it asks for nothing sensible."""

ACKNOWLEDGE_SECONDS: Final = 1.0
"""A server that has not acknowledged a subscription by then is polled, until it does."""

HISTORY_SECONDS: Final = 10.0
"""The same if the history is wanted, which a poll would overtake."""

SAFETY_FACTOR: Final = 10
"""A server that sends changes is still polled, but at so many times its interval."""

RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""The pauses between polls that fail while the connection goes on; the failure after the last is raised."""


def pace(snapshot: TaskSnapshot | None) -> float:
    """Return how long to wait between two polls, in seconds, whatever the server says."""
    interval = None if snapshot is None else snapshot.poll_interval
    if interval is None or not math.isfinite(interval) or interval <= 0:
        interval = USUAL_POLL
    return min(max(interval, LEAST_POLL), MOST_POLL)


class TaskFollowing:
    """Follows one task until it has ended; `receive` gets all news that are newer than the last.

    With `wants_history`, the first news contain the earlier reports that no client has received, or those
    behind the offset `after` if there is one, as far as the server keeps them. With `answers`, the task's
    questions are answered, which is for the client that waits for the result, and not for those that only
    watch; `timer` stands still meanwhile. Unless `is_patient`, a request that fails is not repeated.
    """

    def __init__(
        self,
        link: Link,
        task_id: str,
        receive: Callable[[TaskNews], None],
        *,
        wants_history: bool = False,
        after: int = 0,
        answers: bool = False,
        is_patient: bool = True,
        timer: CallTimer | None = None,
    ) -> None:
        self._link = link
        self._id = task_id
        self._receive = receive
        self._wants_history = wants_history
        self._after = after
        self._retries = RETRY_SECONDS if is_patient else ()
        self._last: TaskNews | None = None
        self._last_was_polled = False  # so that it may have overtaken reports on their way
        self._heard = -math.inf  # when the server last sent something of the task
        self._changed = trio.lowlevel.ParkingLot()
        self._questions = TaskQuestions(link, task_id, timer) if answers else None
        self._subscription = Subscription.SILENT  # unless the era has subscriptions

    def __repr__(self) -> str:
        status = "unknown" if self._last is None else self._last.snapshot.status
        return f"<TaskFollowing of {self._id!r}: {status}, {self._subscription.value}>"

    @property
    def is_over(self) -> bool:
        """Whether the task has ended."""
        return self._last is not None and self._last.snapshot.is_final

    async def run(self, nursery: trio.Nursery) -> None:
        """Follow until the task has ended; checkpoints.

        The tasks that answer questions run in `nursery`, for as long as this runs. Raises the errors of
        `Link.fetch_task`, unless the same poll may succeed later.
        """
        try:
            with self._listening():
                await self._wait_acknowledged()
                if self._subscription is not Subscription.COMPLETE:  # a poll would overtake the history
                    await self._poll()
                delay = FIRST_POLL
                while not self.is_over:
                    if self._questions is not None and self._last is not None:
                        self._questions.answer(self._last.questions, nursery)
                    if await self._wait_change(delay):
                        await self._poll()
                    delay *= 2
        finally:
            if self._questions is not None:
                self._questions.cancel()

    async def _wait_acknowledged(self) -> None:
        if self._subscription is not Subscription.AWAITED:
            return
        with trio.move_on_after(HISTORY_SECONDS if self._wants_history else ACKNOWLEDGE_SECONDS):
            while True:
                await self._changed.park()
                if self._subscription is not Subscription.AWAITED:
                    return

    async def _wait_change(self, delay: float) -> bool:
        """Wait for a change or for the time of the next poll; return whether to poll. Checkpoints."""
        interval = pace(None if self._last is None else self._last.snapshot)
        heard = self._heard
        if self._subscription.sends_changes:
            deadline = self._heard + SAFETY_FACTOR * interval
        else:
            deadline = trio.current_time() + min(delay, interval)
        with trio.move_on_at(deadline) as scope:
            await self._changed.park()
        if self._subscription is Subscription.ENDED:
            self._note(SubscriptionEvent.POLLED)
            return True
        # Most changes wake nobody, so the server may have sent one meanwhile.
        was_heard = self._subscription.sends_changes and self._heard > heard
        return scope.cancelled_caught and not was_heard

    async def _poll(self) -> None:
        """Ask for the state of the task; repeat that after a failure that may pass (`RETRY_SECONDS`)."""
        for delay in (*self._retries, None):
            try:
                news = await self._link.fetch_task(self._id)
            except MCPError as error:
                if delay is None or not may_pass(error, self._link.session):
                    raise
                logger.debug("task %s could not be looked at, again in %g s: %s", self._id, delay, error)
            else:
                self._accept(news, polled=True)
                return
            await trio.sleep(delay)
            if self.is_over:  # the server has sent its end meanwhile
                return

    def _accept(self, news: TaskNews, *, polled: bool = False) -> None:
        last = self._last
        self._heard = trio.current_time()
        if last is not None:
            # News with reports follow the last ones of the same stream, whatever their times say.
            follows = not polled and not self._last_was_polled and not self.is_over and bool(news.reports)
            if not follows and not _advances(last.snapshot, news.snapshot):
                return
            if self._last_was_polled:
                news = news.without_reports_before(last.snapshot)
            news = _keep_stages(news, last.snapshot)
            if last.snapshot.current is not None:
                news = news.raised_to(last.snapshot.current)
        self._last = news
        self._last_was_polled = polled
        self._receive(news)
        if self._questions is not None:
            self._questions.close_others(news.questions)
        if news.snapshot.is_final or news.questions:
            self._changed.unpark_all()

    def _note(self, event: SubscriptionEvent) -> None:
        self._subscription = TRANSITIONS[self._subscription][event]

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """While the block lasts, receive the notifications that the server sends about the task, if any."""
        session = self._link.session
        if not self._link.era.modern:
            with session.routes.listening_for_task(self._id, self._accept_raw):
                yield
            return
        params = ListenParams(notifications=SubscriptionFilter(task_ids=[self._id]))
        wishes: dict[str, Any] = {META_REPORTS: "newest"}
        if self._wants_history:
            known = {self._id: self._after} if self._after else {}
            wishes = {META_HISTORY: True, META_REPORTS: "all", META_SINCE: known}
        params.meta = {**self._link.meta, **wishes}
        call = session.begin("subscriptions/listen", params)
        self._subscription = Subscription.AWAITED
        call.on_settled = self._note_end
        if call.outcome is not None:  # the connection is lost
            self._note_end()
        try:
            with session.routes.subscribed(call.id, self._accept_notification):
                yield
        finally:
            session.end(call)

    def _accept_notification(self, frame: Notification) -> None:
        if frame.method == "notifications/subscriptions/acknowledged":
            self._note(read_acknowledgement(frame, self._id))
            self._heard = trio.current_time()
            self._changed.unpark_all()
        elif frame.method == "notifications/tasks" and not isinstance(frame.params, msgspec.UnsetType):
            self._accept_raw(frame.params)

    def _note_end(self) -> None:
        """Note that the subscription has ended, by an error or with the connection."""
        self._note(SubscriptionEvent.STREAM_ENDED)
        self._changed.unpark_all()

    def _accept_raw(self, raw: msgspec.Raw) -> None:
        try:
            news = read_task(raw)
        except RemoteProtocolError as error:
            logger.debug("a malformed task notification was dropped: %s", error)
            return
        if news.snapshot.id == self._id:
            self._accept(news)


def _keep_stages(news: TaskNews, old: TaskSnapshot) -> TaskNews:
    """Return `news` with the stages of `old` if they say nothing about stages; an ended task has none."""
    new = news.snapshot
    if new.stages is not None or old.stages is None:
        return news
    return replace(news, snapshot=replace(new, stages=() if new.is_final else old.stages))


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
    # The protocol's times are coarse. Within one tick the time of the report decides, which a trio_mcp
    # server sends with a finer resolution; without it, the progress must not go back.
    if old.reported_at is not None and new.reported_at is not None and new.reported_at != old.reported_at:
        return new.reported_at > old.reported_at
    if old.current is not None and (new.current is None or new.current < old.current):
        return False
    return new != old


@asynccontextmanager
async def watch(
    link: Link, task_id: str, note: Callable[[TaskNews], None] | None = None
) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
    """See `Client.watch_task`; `note` is called with all news."""
    channel = LatestChannel[TaskSnapshot]()
    await link.fetch_task(task_id)  # raises TaskNotFound here, and not in the middle of the block
    async with channel.receive as receive, open_unwrapping_nursery() as nursery:

        def offer(news: TaskNews) -> None:
            channel.offer(news.snapshot)
            if note is not None:
                note(news)

        async def follow() -> None:
            try:
                await TaskFollowing(link, task_id, offer).run(nursery)
            except MCPError as error:
                logger.debug("task %s can no longer be followed: %s", task_id, error)
            finally:
                channel.close()

        nursery.start_soon(follow)
        yield receive
        nursery.cancel_scope.cancel()
