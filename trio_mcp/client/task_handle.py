"""The public handle of a background task.

Owns what a user can do with a task, and the same methods for a call that was answered at once, so
that no task was made. Refuses to know how a result is waited for: see `task_waiting.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec
import trio

from trio_mcp.call_result import CallResult, D_co, finish_call
from trio_mcp.client.call_answer import Answered, TaskStarted
from trio_mcp.client.link import Link
from trio_mcp.client.task_following import watch
from trio_mcp.client.task_reference import make_reference
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.client.task_waiting import TaskWaiter
from trio_mcp.client.timeouts import CallTimer, read_timeouts, run_within
from trio_mcp.errors import TaskNotFound
from trio_mcp.handlers.sink import Handler, as_handler, open_handler

if TYPE_CHECKING:
    from typing import Unpack

    from trio_mcp.client.call_options import WaitOptions

T = TypeVar("T")


class TaskHandle(Generic[D_co]):
    """A task that this client has started, or the result of a call that was answered at once."""

    def __init__(
        self,
        link: Link,
        tool: str | None,
        start: Answered | TaskStarted,
        handler: Handler | None,
        *,
        is_known: bool = True,
        result_type: Any = None,
        raise_on_error: bool = True,
    ) -> None:
        self._is_known = is_known  # otherwise only its id, of a task that may not exist
        self._link = link
        self._tool = tool
        self._handler = handler
        self._result_type = result_type
        self._raise_on_error = raise_on_error
        self._waiter = TaskWaiter(link, start) if isinstance(start, TaskStarted) else None
        self.answer: msgspec.Raw | None = start.raw if isinstance(start, Answered) else None

    def __repr__(self) -> str:
        what = "answered at once" if self._waiter is None else f"task {self._waiter.task_id!r}"
        return f"<TaskHandle of tool {self._tool!r}: {what}>" if self._tool else f"<TaskHandle: {what}>"

    @property
    def id(self) -> str | None:
        """The task's id, or None if the server answered at once and made no task."""
        return None if self._waiter is None else self._waiter.task_id

    def reference(self) -> str:
        """A text by which another client, in another process, can open this task: `Client.open_task`.

        It has the characters that are safe in a URL, and tells the id of the task and the newest report that
        the progress handler of this handle was given. Raises TaskNotFound if the server made no task.
        """
        if self._waiter is None:
            raise TaskNotFound("the server answered at once, so there is no task")
        return make_reference(self._waiter.task_id, self._waiter.offset)

    async def status(self) -> TaskSnapshot | None:
        """Ask for the state of the task; None if there is no task. Checkpoints. Raises TaskNotFound.

        The state of a task that has ended is kept, and not asked for again.
        """
        if self._waiter is None:
            await trio.lowlevel.checkpoint()
            return None
        return await self._waiter.fetch()

    async def cancel(self) -> None:
        """Ask the server to cancel the task; nothing happens if it has ended. Checkpoints."""
        if self._waiter is None or self._waiter.has_ended:
            await trio.lowlevel.checkpoint()
            return
        await self._link.cancel_task(self._waiter.task_id)
        self._waiter.forget()

    @overload
    async def result(self, *, result_type: type[T], **options: Unpack[WaitOptions]) -> CallResult[T]: ...

    @overload
    async def result(
        self, *, result_type: None = None, **options: Unpack[WaitOptions]
    ) -> CallResult[D_co]: ...

    @overload
    async def result(self, *, result_type: Any, **options: Unpack[WaitOptions]) -> CallResult: ...

    async def result(
        self,
        *,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
        raise_on_error: bool | None = None,
        result_type: Any = None,
    ) -> CallResult[Any]:
        """Wait for the result; checkpoints.

        `result_type` and `raise_on_error` are by default those with which the call was made.
        When the result is returned, the progress handler has finished with every update that will
        be delivered for this task. Cancelling the wait does not cancel the task. Raises what
        `Client.call_tool` raises, TaskCancelled, TaskNotFound, and TaskFailed if the
        task ended without a result. The end of the task is kept: a second call asks nothing of the
        server, and returns or raises the same.
        """
        what = f"task {self.id}" if self._tool is None else f"tool {self._tool!r}"
        idle, longest = read_timeouts(idle_timeout, max_timeout)
        if self._waiter is not None:
            async with open_handler(self._handler, self._tool or what) as handler:
                raw = await run_within(self.wait, handler, self._link.session.settings, what, idle, longest)
        else:
            await trio.lowlevel.checkpoint()
            assert self.answer is not None, "without a task there is an answer"
            raw = self.answer
        wanted = self._result_type if result_type is None else result_type
        raises = self._raise_on_error if raise_on_error is None else raise_on_error
        result = finish_call(what, raw, wanted, raise_on_error=raises)
        if self._tool is not None and self._link.validation is not None:
            await self._link.validation.check(self._tool, result)
        return result

    async def wait(self, handler: Handler | None, timer: CallTimer | None) -> msgspec.Raw:
        """Wait for the task's result within the scope of `timer`; checkpoints. Raises as `result`."""
        assert self._waiter is not None, "there is a task to wait for"
        if not self._is_known:
            await self._waiter.fetch()  # raises TaskNotFound
            self._is_known = True
        return await self._waiter.wait(handler, timer)

    @asynccontextmanager
    async def updates(self) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
        """Open a channel of the task's snapshots until it has ended; see `Client.watch_task`.

        Of a task that is known to have ended it has the last one.
        """
        if self._waiter is None or self._waiter.has_ended:
            send, receive = trio.open_memory_channel[TaskSnapshot](1)
            async with receive:
                if self._waiter is not None:
                    send.send_nowait(await self._waiter.fetch())
                send.close()
                yield receive
            return
        async with watch(self._link, self._waiter.task_id, self._waiter.note) as receive:
            yield receive

    def use_handler(self, handler: Any) -> None:
        """Use another progress handler from now on, unless `handler` is None."""
        self._handler = as_handler(handler) or self._handler

    def abandon(self) -> None:
        """Cancel the task, unless it has ended, without waiting for an answer."""
        if self._waiter is not None:
            self._waiter.abandon()

    def forget(self) -> None:
        """Stop to keep the progress of a task whose result nobody will ask for."""
        if self._waiter is not None:
            self._waiter.forget()
