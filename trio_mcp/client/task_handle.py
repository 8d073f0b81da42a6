"""A background task in a client's hands.

Owns the waiting for its result: progress goes through the same handler and the
same bounded queue as that of a call, and is delivered before the result.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from trio_mcp.call_result import CallResult, finish_call
from trio_mcp.client.negotiation import read_error
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.task_following import TaskFollowing
from trio_mcp.client.task_snapshot import (
    TaskSnapshot,
    read_last_progress,
)
from trio_mcp.client.timeouts import read_timeouts
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import (
    MCPError,
    TaskCancelled,
    TaskFailed,
)
from trio_mcp.handlers.sink import Handler, as_handler, open_handler
from trio_mcp.wire.frames import ErrorResponse, Response, StageState, Update
from trio_mcp.wire.messages import TaskIdParams

if TYPE_CHECKING:
    from trio_mcp.client.client import Client


LATE_SECONDS: Final = 1.0
"""How long a result waits for progress that the server sent before it, by another stream."""


class TaskHandle:
    """A task that this client has started, or the result of a call that was answered at once."""

    def __init__(
        self,
        client: Client,
        tool: str | None,
        snapshot: TaskSnapshot | None,
        answer: msgspec.Raw | None,
        handler: Handler | None,
        token_call: PendingCall | None = None,
        *,
        has_token: bool = False,
    ) -> None:
        self._client = client
        self._tool = tool
        self._snapshot = snapshot
        self.answer = answer
        self._handler = handler
        self._token_call = token_call
        self._has_token = has_token
        self._reported: tuple[Any, ...] | None = None  # what the handler has seen of a snapshot
        self._stages: tuple[StageState, ...] | None = None  # what is known to be open
        self._has_ended = False

    @property
    def id(self) -> str | None:
        """The task's id, or None where the server answered at once and made no task."""
        return None if self._snapshot is None else self._snapshot.id

    async def status(self) -> TaskSnapshot | None:
        """Look at the task; None where there is none. Checkpoints. Raises TaskNotFound."""
        if self._snapshot is None:
            await trio.lowlevel.checkpoint()
            return None
        return await self._client.fetch_task(self._snapshot.id)

    async def cancel(self) -> None:
        """Ask the server to cancel the task; nothing happens where it has ended. Checkpoints."""
        if self._snapshot is None:
            await trio.lowlevel.checkpoint()
            return
        await self._client.cancel_task(self._snapshot.id)
        self.forget()

    async def result(
        self,
        *,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
        raise_on_error: bool = True,
        result_type: Any = None,
    ) -> CallResult:
        """Wait for the result; checkpoints.

        The progress handler has finished with every update that will be delivered for
        this task when it is returned. Leaving it does not cancel the task. Raises what
        `Client.call_tool` raises, TaskCancelled, TaskNotFound, and TaskFailed where the
        task ended without a result.
        """
        if self.answer is None:
            async with open_handler(self._handler, self._tool or f"task {self.id}") as handler:
                raw = await self._wait(handler, *read_timeouts(idle_timeout, max_timeout))
        else:
            await trio.lowlevel.checkpoint()
            raw = self.answer
        what = f"task {self.id}" if self._tool is None else f"tool {self._tool!r}"
        return finish_call(what, raw, result_type, raise_on_error=raise_on_error)

    @asynccontextmanager
    async def updates(self) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
        """A channel of the task's snapshots until it has ended; see `Client.watch_task`."""
        if self._snapshot is None:
            send, receive = trio.open_memory_channel[TaskSnapshot](0)
            send.close()
            async with receive:
                yield receive
            return
        async with self._client.watch_task(self._snapshot.id) as receive:
            yield receive

    def use_handler(self, handler: Any) -> None:
        """Take another progress handler, unless `handler` is None."""
        self._handler = as_handler(handler) or self._handler

    def note_reported(self, *values: Any, stages: tuple[StageState, ...] | None) -> None:
        """Note the progress that the handler has seen already, so that no snapshot repeats it."""
        self._reported = values
        self._stages = stages

    def abandon(self) -> None:
        """Cancel the task, unless it has ended, without waiting for an answer."""
        if self._snapshot is not None and not self._has_ended:
            params = TaskIdParams(task_id=self._snapshot.id)
            if self._client._meta:
                params.meta = self._client._meta
            self._client._session.send_and_forget("tasks/cancel", params)
        self.forget()

    def forget(self) -> None:
        """Stop keeping progress for a task whose result nobody will ask for."""
        if self._token_call is not None:
            self._client._session.end(self._token_call, cancellable=False)
            self._token_call = None

    async def _wait(self, handler: Handler | None, idle: float, longest: float) -> msgspec.Raw:
        if self._client._agreement.era.modern:
            return await self._wait_following(handler, idle, longest)
        return await self._wait_for_answer(handler, idle, longest)

    async def _wait_following(self, handler: Handler | None, idle: float, longest: float) -> msgspec.Raw:
        """The extension: progress and the end come as snapshots."""
        assert self._snapshot is not None, "there is a task"
        waiter = PendingCall(self._snapshot.id, handler, self._client._session.settings.progress)
        waiter.note_stages(self._stages)
        waiter.set_timeouts(idle, longest)
        final: TaskSnapshot | None = None

        def take(snapshot: TaskSnapshot) -> None:
            nonlocal final
            self._feed(waiter, snapshot)
            if snapshot.is_final:
                final = snapshot
                waiter.settle(TaskFailed("the task has ended"))

        async with self._following(waiter, take):
            with waiter.scope:
                outcome = await waiter.wait()
        if final is not None:
            self._has_ended = True
            return _final_result(final)
        if waiter.scope.cancelled_caught:
            raise waiter.explain_end(f"task {self._snapshot.id}")
        assert isinstance(outcome, MCPError), "a following ends with a final snapshot or an error"
        raise outcome

    async def _wait_for_answer(self, handler: Handler | None, idle: float, longest: float) -> msgspec.Raw:
        """2025-11-25: tasks/result blocks until the end, and progress comes by the call's own token.

        Without one, because another connection made the task or nobody wanted progress
        then, it comes as snapshots.
        """
        assert self._snapshot is not None, "there is a task"
        session, token_call = self._client._session, self._token_call
        wants_progress = handler is not None or idle < math.inf
        follows = wants_progress and not self._has_token
        call = session.begin(
            "tasks/result",
            TaskIdParams(task_id=self._snapshot.id),
            handler,
            may_become_task=follows,
            takes_late=token_call is not None,
        )
        try:
            if token_call is not None:
                session.redirect(token_call, call)
            call.set_timeouts(idle, longest)
            async with AsyncExitStack() as stack:
                if follows:
                    await stack.enter_async_context(
                        self._following(call, lambda snapshot: self._feed(call, snapshot))
                    )
                with call.scope:
                    outcome = await call.wait()
                    if follows:  # the answer was faster than the last look
                        self._feed(call, await self._client.fetch_task(self._snapshot.id))
                        await call.wait()
                    elif token_call is not None and handler is not None and isinstance(outcome, Response):
                        await _catch_up(call, read_last_progress(outcome.result))
        finally:
            if token_call is not None:
                session.restore(token_call, call)
            session.end(call)
        if call.scope.cancelled_caught:
            raise call.explain_end(f"task {self._snapshot.id}")
        self._has_ended = isinstance(outcome, (Response, ErrorResponse))
        self.forget()
        if isinstance(outcome, Response):
            return outcome.result
        if isinstance(outcome, ErrorResponse):
            if await self._was_cancelled():
                raise TaskCancelled(f"task {self._snapshot.id} was cancelled")
            raise read_error(outcome)
        raise outcome

    def _feed(self, waiter: PendingCall, snapshot: TaskSnapshot) -> None:
        """Deliver the progress of a snapshot, unless it was delivered already."""
        reports = [report[1:] for report in snapshot._reports]
        if snapshot.has_progress:
            reports.append((snapshot.current, snapshot.total, snapshot.message))
        updates: list[Update] = []
        for current, total, message in reports:
            values = (0 if current is None else current, total, message)
            if values != self._reported:
                self._reported = values
                updates.append((*values, None))
        if updates:
            waiter.take_updates(updates, snapshot.stages)
        else:
            waiter.note_stages(snapshot.stages)
        self._stages = waiter.stages

    @asynccontextmanager
    async def _following(
        self, waiter: PendingCall, take: Callable[[TaskSnapshot], None]
    ) -> AsyncIterator[None]:
        """While the block lasts, `take` gets the task's snapshots; what ends them early settles `waiter`."""
        assert self._snapshot is not None, "there is a task"
        following = TaskFollowing(
            self._client, self._snapshot.id, take, wants_history=self._handler is not None
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

    async def _was_cancelled(self) -> bool:
        """Whether an error of tasks/result stands for a cancellation.

        Raises TaskNotFound where the task has expired.
        """
        assert self._snapshot is not None, "there is a task"
        return (await self._client.fetch_task(self._snapshot.id)).status == "cancelled"


async def _catch_up(call: PendingCall, last: Update | None) -> None:
    """Deliver what the task reported and comes by another stream than its result (over HTTP)."""
    if last is None:
        return
    with trio.move_on_after(LATE_SECONDS):
        await call.wait_progress(last[0])
    if call.newest is None or call.newest[0] < last[0]:
        call.take_updates([last])
    await call.wait()


def _final_result(final: TaskSnapshot) -> msgspec.Raw:
    if final._result is not None:
        return final._result
    if final.status == "cancelled":
        raise TaskCancelled(f"task {final.id} was cancelled")
    if final._error is not None:
        raise read_error(ErrorResponse(final._error))
    raise TaskFailed(f"task {final.id} is {final.status} without a result")
