"""The tasks of a store, with the methods by which a client has those of a server.

Owns how a record becomes a snapshot and a result. Knows no terminal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import attrs
import trio

from trio_mcp.call_result import CallResult, finish_call
from trio_mcp.client.outcome import read_error
from trio_mcp.client.task_snapshot import TaskSnapshot, read_snapshot
from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskCancelled, TaskFailed, TaskNotFound
from trio_mcp.handlers.sink import Progress, ProgressHandler, ProgressSink, as_sink
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.record import Owner, TaskRecord, TaskStatus
from trio_mcp.tasks.rendering import extension_task
from trio_mcp.tasks.store import TaskStore
from trio_mcp.wire.codec import encode_value

PAGE_RECORDS: Final = 200
"""How many records are asked for at once: a few milliseconds of a store."""

LOOK_SECONDS: Final = 2.0
"""A record that is watched is read again after so long, in case that the store has missed a change."""


@attrs.frozen
class StoredSnapshot:
    """A task as the list of a store shows it: with its tool and its owner, which no client is told."""

    snapshot: TaskSnapshot
    tool: str
    owner: Owner
    attempt: int


class StoreTasks:
    """Reads and changes the tasks of an open store, whoever owns them. All methods checkpoint.

    A store that fails raises TaskStoreError.
    """

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._clock = TaskClock()

    async def list_tasks(self, owner: Owner | None = None) -> list[StoredSnapshot]:
        """All tasks of `owner`, of everybody without one, newest first."""
        records: list[TaskRecord] = []
        cursor: str | None = None
        while True:
            page = await self._store.list_page(owner, cursor, PAGE_RECORDS, self._clock.now())
            records += page.records
            cursor = page.next_cursor
            if cursor is None:
                return [StoredSnapshot(as_snapshot(r), r.tool, r.owner, r.attempt) for r in records]

    async def fetch_task(self, task_id: str) -> TaskSnapshot:
        """The state of a task; raises TaskNotFound."""
        return as_snapshot(await self._fetch(task_id))

    async def cancel_task(self, task_id: str) -> None:
        """Cancel a task, unless it has ended; whoever runs it stops. Raises TaskNotFound."""
        if await self._store.cancel(task_id, self._clock.now()) is None:
            raise TaskNotFound("no such task")

    async def forget_task(self, task_id: str) -> None:
        """Forget a task, whatever its status; raises TaskNotFound."""
        await self._fetch(task_id)
        await self._store.delete(task_id)

    @asynccontextmanager
    async def watch_task(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
        """Open a channel of a task's snapshots: the present state, and each change until it has ended.

        A slow reader misses snapshots, but never the last one. The channel ends early if the task is
        forgotten. Raises TaskNotFound.
        """
        snapshots = LatestChannel[TaskSnapshot]()
        snapshots.offer(await self.fetch_task(task_id))

        async def see(record: TaskRecord) -> None:
            await trio.lowlevel.checkpoint()
            snapshots.offer(as_snapshot(record))

        async def follow() -> None:
            with suppress(TaskNotFound):
                await self._follow(task_id, see)
            snapshots.close()

        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(follow)
            try:
                async with snapshots.receive as receive:
                    yield receive
            finally:
                snapshots.close()
                nursery.cancel_scope.cancel()

    async def await_task(
        self,
        task_id: str,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        raise_on_error: bool = True,
    ) -> CallResult:
        """Wait until a task has ended, with its progress, and return its result.

        Raises as `Client.await_task`: TaskNotFound, also if the task is forgotten meanwhile, TaskCancelled,
        ToolError, and the ProtocolError with which the task has failed.
        """
        if progress_handler is None:
            record = await self._follow(task_id, _ignore)
        else:
            async with as_sink(progress_handler).open_call(task_id) as receive:

                async def see(record: TaskRecord) -> None:
                    update = as_progress(record)
                    waiting = None if update is None else receive(update)
                    if waiting is not None:
                        await waiting

                record = await self._follow(task_id, see)
        outcome = record.outcome
        if outcome is not None and outcome.result is not None:
            return finish_call(f"the task {task_id!r}", outcome.result, None, raise_on_error=raise_on_error)
        if outcome is not None and outcome.error is not None:
            raise read_error(outcome.error)
        if record.status is TaskStatus.CANCELLED:
            raise TaskCancelled(f"task {task_id} was cancelled")
        raise TaskFailed(f"task {task_id} is {record.status.value} without a result")

    async def _follow(self, task_id: str, see: Callable[[TaskRecord], Awaitable[None]]) -> TaskRecord:
        """Call `see` with the record as it is and after each change, and return the one that is final.

        Raises TaskNotFound.
        """
        async with self._store.subscribe(task_id) as changes:
            record = await self._fetch(task_id)  # after the subscription, which misses nothing from now on
            await see(record)
            while not record.is_final:
                newer: TaskRecord | None = None
                with trio.move_on_after(LOOK_SECONDS):
                    try:
                        newer = await changes.receive()
                    except trio.EndOfChannel:
                        await self._fetch(task_id)  # most likely it is forgotten
                        await trio.sleep_forever()
                if newer is None:
                    newer = await self._fetch(task_id)
                if newer.version > record.version:
                    record = newer
                    await see(record)
        return record

    async def _fetch(self, task_id: str) -> TaskRecord:
        record = await self._store.get(task_id, self._clock.now())
        if record is None:
            raise TaskNotFound("no such task")
        return record


async def _ignore(record: TaskRecord) -> None:
    await trio.lowlevel.checkpoint()


def as_snapshot(record: TaskRecord) -> TaskSnapshot:
    """The record as a client of a server would read it, in the tasks extension."""
    return read_snapshot(encode_value(extension_task(record)))


def as_progress(record: TaskRecord) -> Progress | None:
    """The progress of a record as an update, or None if the task has reported no number."""
    progress = record.progress
    if progress is None or progress.current is None:
        return None
    return Progress(progress.current, progress.total, progress.message, progress.stages or ())
