"""Waiting for the result of a background task.

Owns the two ways of waiting (snapshots in the modern era, tasks/result in 2025-11-25). In both,
progress passes through a `PendingCall` as that of a call does, so it is delivered before the result.
Refuses to decode the result.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import msgspec
import trio
from msgspec.structs import replace

from trio_mcp.client.call_answer import TaskStarted
from trio_mcp.client.link import Link
from trio_mcp.client.outcome import read_error, unwrap
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.report_delivery import ReportDelivery
from trio_mcp.client.task_following import TaskFollowing
from trio_mcp.client.task_snapshot import Status, TaskNews, TaskSnapshot, read_last_progress
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ConnectionLost, MCPError, TaskCancelled, TaskFailed, TaskNotFound
from trio_mcp.handlers.sink import Handler
from trio_mcp.wire.frames import ErrorResponse, Response, Update
from trio_mcp.wire.messages import TaskIdParams


class _Flagged(msgspec.Struct, rename="camel"):
    is_error: Any = False


LATE_SECONDS: Final = 5.0
"""How long a result waits for progress that the server sent before it, by another stream."""


class TaskWaiter:
    """Waits for one task, once or several times; knows which progress its handler has seen already."""

    def __init__(self, link: Link, started: TaskStarted) -> None:
        self.task_id = started.snapshot.id
        self._link = link
        self._token_call = started.token_call
        self._has_token = started.has_token
        self._reported = started.reported
        self._stages = started.stages  # those that are known to be open
        self._started = started.snapshot
        self._final: TaskNews | None = None  # the server's last word on the task
        self._outcome: Response | ErrorResponse | None = None  # the same of tasks/result (2025-11-25)
        self._is_delivered = False  # whether a handler has seen the progress up to the end
        self._delivery = ReportDelivery(started.offset)

    @property
    def offset(self) -> int:
        """That of the newest report that a handler was given; 0 if none was, or the server has no offsets."""
        return self._delivery.find_offset()

    @property
    def has_ended(self) -> bool:
        """Whether the task is known to have ended."""
        return self._final is not None or self._outcome is not None

    async def fetch(self) -> TaskSnapshot:
        """Return the state of the task, from the server unless its end is known; checkpoints.

        Raises as `Client.fetch_task`.
        """
        if self._final is not None:
            await trio.lowlevel.checkpoint()
            return self._final.snapshot
        try:
            news = await self._link.fetch_task(self.task_id)
        except ConnectionLost:
            if self._outcome is None:
                raise
            return _describe_end(self._started, self._outcome)
        self._started = news.snapshot
        self.note(news)
        return news.snapshot

    def note(self, news: TaskNews) -> None:
        """Keep `news` if they tell the end of the task."""
        if news.snapshot.is_final:
            self._final = news

    async def wait(self, handler: Handler | None, timer: CallTimer | None) -> msgspec.Raw:
        """Wait for the result, with progress for `handler`; checkpoints. Raises as `TaskHandle.result`.

        It runs within the scope of `timer`. A result or failure that has come is kept, and returned or
        raised again without asking.
        """
        if timer is not None:
            timer.resume()
        if self._link.era.modern:
            return await self._wait_following(handler, timer)
        return await self._wait_for_answer(handler, timer)

    def abandon(self) -> None:
        """Cancel the task, unless it has ended, without waiting for an answer."""
        if not self.has_ended:
            self._link.abandon_task(self.task_id)
        self.forget()

    def forget(self) -> None:
        """Stop to keep the progress of a task whose result nobody will ask for."""
        if self._token_call is not None:
            self._link.session.end(self._token_call, cancellable=False)
            self._token_call = None

    async def _wait_following(self, handler: Handler | None, timer: CallTimer | None) -> msgspec.Raw:
        """Wait as the tasks extension does: progress and the end arrive as snapshots."""
        if self._final is not None and (self._is_delivered or handler is None):
            await trio.lowlevel.checkpoint()
            return _read_final(self._final)
        session = self._link.session
        waiter = PendingCall(self.task_id, handler, session.settings.progress, timer, session.note_crowded)
        waiter.note_stages(self._stages)
        self._delivery.begin(waiter)

        def receive(news: TaskNews) -> None:
            self._deliver(waiter, news)
            self.note(news)
            if news.snapshot.is_final:
                waiter.settle(TaskFailed("the task has ended"))

        try:
            async with self._following(waiter, receive, timer, wants_history=handler is not None):
                outcome = await waiter.wait()
        finally:
            if self._delivery.end():
                self._reported = None  # the next handler is given what this one was not
            waiter.release()
        if self._final is not None:
            self._is_delivered = handler is not None
            return _read_final(self._final)
        return unwrap(outcome)  # raises the error that has ended the following

    async def _wait_for_answer(self, handler: Handler | None, timer: CallTimer | None) -> msgspec.Raw:
        """Wait as 2025-11-25 does: tasks/result is answered at the end, and progress has the call's token.

        If there is no token, because another connection made the task or the call asked for no
        progress, it arrives as snapshots.
        """
        session, token_call = self._link.session, self._token_call
        if self._outcome is not None and (self._is_delivered or handler is None or session.is_lost):
            await trio.lowlevel.checkpoint()
            return await self._read_answer(self._outcome, timer)
        wants_progress = handler is not None or (timer is not None and timer.has_idle)
        follows = wants_progress and not self._has_token
        call = session.begin(
            "tasks/result",
            TaskIdParams(task_id=self.task_id),
            handler,
            timer,
            may_become_task=follows,
            accepts_late=token_call is not None,
        )
        try:
            if token_call is not None:
                session.redirect(token_call, call)
            async with AsyncExitStack() as stack:
                stack.enter_context(session.pauses.waiting(self.task_id, timer))
                if follows:
                    receive = lambda news: self._deliver(call, news)  # noqa: E731
                    await stack.enter_async_context(
                        self._following(call, receive, None, wants_history=handler is not None)
                    )
                outcome = await call.wait()
                if isinstance(outcome, MCPError):
                    if self._outcome is None:
                        raise outcome
                    outcome = self._outcome
                self._outcome = outcome
                if follows:  # the answer was faster than the last poll
                    if timer is not None:
                        timer.resume()
                    with suppress(ConnectionLost, TaskNotFound):
                        news = await self._link.fetch_task(self.task_id)
                        self.note(news)
                        self._deliver(call, news)
                    if timer is not None:
                        timer.suspend()
                    await call.wait()
                elif token_call is not None and handler is not None and isinstance(outcome, Response):
                    await _catch_up(call, read_last_progress(outcome.result))
        finally:
            if token_call is not None:
                session.restore(token_call, call)
            session.end(call)
        self._is_delivered = handler is not None
        return await self._read_answer(outcome, timer)

    async def _read_answer(self, outcome: Response | ErrorResponse, timer: CallTimer | None) -> msgspec.Raw:
        """Read the answer to tasks/result; an error may mean that the task was cancelled."""
        self.forget()
        if isinstance(outcome, ErrorResponse):
            if timer is not None:
                timer.resume()
            snapshot = await self.fetch()  # raises TaskNotFound for one that has expired
            if snapshot.status == "cancelled":
                raise TaskCancelled(f"task {self.task_id} was cancelled")
        return unwrap(outcome)

    def _deliver(self, waiter: PendingCall, news: TaskNews) -> None:
        """Queue the progress of a task in `waiter`, unless it was delivered already."""
        snapshot = news.snapshot
        updates: list[Update] = []
        offsets: list[int] = []
        seen, reported = self._delivery.seen, self._reported
        for report in news.all_reports:
            offset, current = report.offset, report.current
            if offset:  # otherwise the server has none
                if offset <= seen:
                    continue
                seen = offset
            values = (0 if current is None else current, report.total, report.message)
            if values != reported:
                reported = values
                updates.append((*values, None))
                offsets.append(offset)
        self._delivery.seen, self._reported = seen, reported
        if updates:
            waiter.queue_updates(updates, snapshot.stages)
            self._delivery.note_queued(offsets)
        else:
            waiter.note_stages(snapshot.stages)
        self._stages = waiter.stages

    @asynccontextmanager
    async def _following(
        self,
        waiter: PendingCall,
        receive: Callable[[TaskNews], None],
        timer: CallTimer | None,
        *,
        wants_history: bool,
    ) -> AsyncIterator[None]:
        """While the block lasts, `receive` gets the task's news; an error of following settles `waiter`.

        `timer` stands still while a question of the task is answered here.
        """
        following = TaskFollowing(
            self._link,
            self.task_id,
            receive,
            wants_history=wants_history,
            after=self.offset,
            answers=True,
            is_patient=not self.has_ended,
            timer=timer,
        )
        async with open_unwrapping_nursery() as nursery:

            async def follow() -> None:
                try:
                    await following.run(nursery)
                except MCPError as error:
                    waiter.settle(error)

            nursery.start_soon(follow)
            yield
            nursery.cancel_scope.cancel()


async def _catch_up(call: PendingCall, last: Update | None) -> None:
    """Deliver the last progress, which over HTTP may arrive by another stream than the result, and later."""
    if last is None:
        return
    with trio.move_on_after(LATE_SECONDS):
        await call.wait_progress(last[0])
    if call.newest is None or call.newest[0] < last[0]:
        call.queue_updates([last])
    await call.wait()


def _describe_end(started: TaskSnapshot, outcome: Response | ErrorResponse) -> TaskSnapshot:
    """Return the state of a task that has ended with `outcome`, of which the server can say no more."""
    if isinstance(outcome, ErrorResponse):
        return replace(started, status="failed", status_message=outcome.error.message)
    last = read_last_progress(outcome.result)
    current, total, message, _ = last or (None, None, None, None)
    is_error = msgspec.json.decode(outcome.result, type=_Flagged).is_error is True
    status: Status = "failed" if is_error else "completed"
    return replace(started, status=status, current=current, total=total, message=message)


def _read_final(final: TaskNews) -> msgspec.Raw:
    if final.result is not None:
        return final.result
    task_id, status = final.snapshot.id, final.snapshot.status
    if status == "cancelled":
        raise TaskCancelled(f"task {task_id} was cancelled")
    if final.error is not None:
        raise read_error(final.error)
    raise TaskFailed(f"task {task_id} is {status} without a result")
