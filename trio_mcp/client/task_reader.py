"""What a client does with tasks that run at its server already: it looks, waits, opens and cancels.

Owns the verbs that name a task by its handle, its id or a reference. A task is started by `Client.call_tool`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

import trio

from trio_mcp.call_result import CallResult
from trio_mcp.client.call_answer import TaskStarted
from trio_mcp.client.server_reader import ServerReader
from trio_mcp.client.task_following import watch
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.client.task_reference import read_reference
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.errors import TaskNotFound
from trio_mcp.handlers.sink import ProgressHandler, ProgressSink, as_handler

if TYPE_CHECKING:
    from typing import Unpack

    from trio_mcp.client.call_options import AwaitOptions

T = TypeVar("T")


class TaskReader(ServerReader):
    """The part of a `Client` with which programs follow tasks."""

    async def fetch_task(self, task_id: str) -> TaskSnapshot:
        """Ask for the state of a task (tasks/get); checkpoints.

        Raises TaskNotFound, NotSupportedByEra in revisions without tasks, ConnectionLost, ProtocolError.
        """
        return (await self._link.fetch_task(task_id)).snapshot

    @overload
    async def await_task(
        self, task: TaskHandle[T], *, result_type: None = None, **options: Unpack[AwaitOptions]
    ) -> CallResult[T]: ...

    @overload
    async def await_task(
        self, task: TaskHandle | str, *, result_type: type[T], **options: Unpack[AwaitOptions]
    ) -> CallResult[T]: ...

    @overload
    async def await_task(
        self, task: TaskHandle | str, *, result_type: Any = None, **options: Unpack[AwaitOptions]
    ) -> CallResult: ...

    async def await_task(self, task: TaskHandle[Any] | str, **options: Any) -> CallResult[Any]:
        """Wait for the result of a task, given by its handle or id; see `TaskHandle.result`.

        `options` are the keyword arguments of that method, and `progress_handler`.
        """
        if isinstance(task, TaskHandle):
            task.use_handler(options.pop("progress_handler", None))
            return await task.result(**options)
        handler = as_handler(options.pop("progress_handler", None)) or self._progress_handler
        started = TaskStarted(TaskSnapshot(id=task, status="working"))
        handle: TaskHandle[Any] = TaskHandle(self._link, None, started, handler, is_known=False)
        return await handle.result(**options)

    @overload
    async def open_task(
        self,
        reference: str,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        result_type: type[T],
    ) -> TaskHandle[T]: ...

    @overload
    async def open_task(
        self,
        reference: str,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        result_type: Any = None,
    ) -> TaskHandle: ...

    async def open_task(
        self,
        reference: str,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        result_type: Any = None,
    ) -> TaskHandle[Any]:
        """Open the task to which `TaskHandle.reference` was made, in this process or another. Checkpoints.

        The progress handler gets the reports behind those that were delivered then, as far as the server
        keeps them, and always the newest. In 2025-11-25 it gets the newest alone. `result_type` is as in
        `call_tool`.

        Raises ValueError for what is no reference, TaskNotFound, NotSupportedByEra in revisions without
        tasks, ConnectionLost, ProtocolError.
        """
        task_id, offset = read_reference(reference)
        snapshot = await self.fetch_task(task_id)
        handler = as_handler(progress_handler) or self._progress_handler
        started = TaskStarted(snapshot, offset=offset)
        return TaskHandle(self._link, None, started, handler, result_type=result_type)

    async def cancel_task(self, task: TaskHandle | str) -> None:
        """Ask the server to cancel a task (tasks/cancel); checkpoints.

        A task that has ended does not change. Raises TaskNotFound, ConnectionLost, ProtocolError.
        """
        task_id = task.id if isinstance(task, TaskHandle) else task
        if task_id is None:
            await trio.lowlevel.checkpoint()
        elif isinstance(task, TaskHandle):
            await task.cancel()
        else:
            await self._link.cancel_task(task_id)

    async def list_tasks(self) -> list[TaskSnapshot]:
        """List all tasks of this client, newest first (tasks/list, 2025-11-25 only); checkpoints.

        Raises NotSupportedByEra in other protocol revisions, ConnectionLost and ProtocolError.
        """
        return await self._link.list_tasks()

    @asynccontextmanager
    async def watch_task(
        self, task: TaskHandle | str
    ) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
        """Open a channel of a task's snapshots: the present state, and each change until it has ended.

        A slow reader misses snapshots, but never the last one. The channel ends early if the task
        expires or the connection is lost. Checkpoints. Raises TaskNotFound.
        """
        task_id = task.id if isinstance(task, TaskHandle) else task
        if task_id is None:
            raise TaskNotFound("the server answered at once, so there is no task")
        opened = task.updates() if isinstance(task, TaskHandle) else watch(self._link, task_id)
        async with opened as snapshots:
            yield snapshots
