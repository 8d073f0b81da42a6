"""Waiting for the result of a background task.

Owns the two ways of waiting (snapshots in the modern era, tasks/result in 2025-11-25). In both,
progress passes through a `PendingCall` as that of a call does, so it is delivered before the result.
Refuses to decode the result.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec
import trio

from trio_mcp.client.call_answer import TaskStarted
from trio_mcp.client.link import Link
from trio_mcp.client.outcome import Outcome, read_error, unwrap
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.task_following import TaskFollowing
from trio_mcp.client.task_snapshot import TaskNews, read_last_progress
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import MCPError, TaskCancelled, TaskFailed
from trio_mcp.handlers.sink import Handler
from trio_mcp.wire.frames import ErrorResponse, Response, Update
from trio_mcp.wire.messages import TaskIdParams

LATE_SECONDS: Final = 1.0
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
        self._has_ended = False

    async def wait(self, handler: Handler | None, idle: float, longest: float) -> msgspec.Raw:
        """Wait for the result, with progress for `handler`; checkpoints. Raises as `TaskHandle.result`."""
        if self._link.era.modern:
            return await self._wait_following(handler, idle, longest)
        return await self._wait_for_answer(handler, idle, longest)

    def abandon(self) -> None:
        """Cancel the task, unless it has ended, without waiting for an answer."""
        if not self._has_ended:
            self._link.abandon_task(self.task_id)
        self.forget()

    def forget(self) -> None:
        """Stop to keep the progress of a task whose result nobody will ask for."""
        if self._token_call is not None:
            self._link.session.end(self._token_call, cancellable=False)
            self._token_call = None

    async def _wait_following(self, handler: Handler | None, idle: float, longest: float) -> msgspec.Raw:
        """Wait as the tasks extension does: progress and the end arrive as snapshots."""
        waiter = PendingCall(self.task_id, handler, self._link.session.settings.progress)
        waiter.note_stages(self._stages)
        waiter.set_timeouts(idle, longest)
        final: TaskNews | None = None

        def receive(news: TaskNews) -> None:
            nonlocal final
            self._deliver(waiter, news)
            if news.snapshot.is_final:
                final = news
                waiter.settle(TaskFailed("the task has ended"))

        async with self._following(waiter, receive, wants_history=handler is not None):
            with waiter.scope:
                outcome = await waiter.wait()
        if final is not None:
            self._has_ended = True
            return _read_final(final)
        if waiter.scope.cancelled_caught:
            raise waiter.explain_end(f"task {self.task_id}")
        return unwrap(outcome)  # raises the error that has ended the following

    async def _wait_for_answer(self, handler: Handler | None, idle: float, longest: float) -> msgspec.Raw:
        """Wait as 2025-11-25 does: tasks/result is answered at the end, and progress has the call's token.

        If there is no token, because another connection made the task or the call asked for no
        progress, it arrives as snapshots.
        """
        session, token_call = self._link.session, self._token_call
        wants_progress = handler is not None or idle < math.inf
        follows = wants_progress and not self._has_token
        call = session.begin(
            "tasks/result",
            TaskIdParams(task_id=self.task_id),
            handler,
            may_become_task=follows,
            accepts_late=token_call is not None,
        )
        try:
            if token_call is not None:
                session.redirect(token_call, call)
            call.set_timeouts(idle, longest)
            async with AsyncExitStack() as stack:
                if follows:
                    receive = lambda news: self._deliver(call, news)  # noqa: E731
                    await stack.enter_async_context(
                        self._following(call, receive, wants_history=handler is not None)
                    )
                with call.scope:
                    outcome = await call.wait()
                    if follows:  # the answer was faster than the last poll
                        self._deliver(call, await self._link.fetch_task(self.task_id))
                        await call.wait()
                    elif token_call is not None and handler is not None and isinstance(outcome, Response):
                        await _catch_up(call, read_last_progress(outcome.result))
        finally:
            if token_call is not None:
                session.restore(token_call, call)
            session.end(call)
        if call.scope.cancelled_caught:
            raise call.explain_end(f"task {self.task_id}")
        return await self._read_answer(outcome)

    async def _read_answer(self, outcome: Outcome) -> msgspec.Raw:
        """Read the answer to tasks/result; an error may mean that the task was cancelled."""
        self._has_ended = isinstance(outcome, (Response, ErrorResponse))
        self.forget()
        if isinstance(outcome, ErrorResponse):
            news = await self._link.fetch_task(self.task_id)  # raises TaskNotFound for one that has expired
            if news.snapshot.status == "cancelled":
                raise TaskCancelled(f"task {self.task_id} was cancelled")
        return unwrap(outcome)

    def _deliver(self, waiter: PendingCall, news: TaskNews) -> None:
        """Queue the progress of a task in `waiter`, unless it was delivered already."""
        snapshot = news.snapshot
        reports = [report[1:] for report in news.reports]
        if snapshot.has_progress:
            reports.append((snapshot.current, snapshot.total, snapshot.message))
        updates: list[Update] = []
        for current, total, message in reports:
            values = (0 if current is None else current, total, message)
            if values != self._reported:
                self._reported = values
                updates.append((*values, None))
        if updates:
            waiter.queue_updates(updates, snapshot.stages)
        else:
            waiter.note_stages(snapshot.stages)
        self._stages = waiter.stages

    @asynccontextmanager
    async def _following(
        self, waiter: PendingCall, receive: Callable[[TaskNews], None], *, wants_history: bool
    ) -> AsyncIterator[None]:
        """While the block lasts, `receive` gets the task's news; an error of following settles `waiter`."""
        following = TaskFollowing(self._link, self.task_id, receive, wants_history=wants_history)
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


def _read_final(final: TaskNews) -> msgspec.Raw:
    if final.result is not None:
        return final.result
    task_id, status = final.snapshot.id, final.snapshot.status
    if status == "cancelled":
        raise TaskCancelled(f"task {task_id} was cancelled")
    if final.error is not None:
        raise read_error(final.error)
    raise TaskFailed(f"task {task_id} is {status} without a result")
