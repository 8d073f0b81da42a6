"""Tasks in a SQLite file: the embedded store for tasks that outlive their process.

Owns the calls, and who is told of changes. The thread, the file and the statements have modules of their own.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import attrs
import trio
from msgspec import Raw

from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskStoreError, TaskTooLarge
from trio_mcp.tasks.cursors import Cursors
from trio_mcp.tasks.memory_store import DEFAULT_RECORD_BYTES, DEFAULT_RECORDS
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.sqlite_file import open_file
from trio_mcp.tasks.sqlite_jobs import CreateJob, EncodedChange, Job, JobKind, NewTask, PutJob, Told
from trio_mcp.tasks.sqlite_listing import list_page, read_reports
from trio_mcp.tasks.sqlite_queue import claim, next_expiry, next_ready, recover
from trio_mcp.tasks.sqlite_tables import Tables, open_tables
from trio_mcp.tasks.sqlite_thread import CLOSE_SECONDS, StoreThread
from trio_mcp.tasks.store import TaskChange, TaskPage
from trio_mcp.tasks.store_checks import require_size
from trio_mcp.tasks.stored_codec import encode_record, encode_work, to_microseconds
from trio_mcp.tasks.stored_task import StoredReport, StoredTask, TaskWork
from trio_mcp.validators import require_count, require_positive

T = TypeVar("T")

WRITE_BEHIND: Final = 0.2
"""Seconds: five commits a second for progress, which a disk that spins can do."""

SWEEP_INTERVAL: Final = 60.0
"""Seconds between two looks for what has expired; each costs one look into an index."""

WATCH_INTERVAL: Final = 0.25
"""Seconds between two looks of a reader at a task that another process changes."""


@attrs.frozen
class SQLiteStatistics:
    """What a store has done since it was opened; `turns` are those of its thread, `waiting` are calls."""

    commits: int
    turns: int
    waiting: int


class SQLiteTaskStore:
    """Keeps tasks in a file, which one process has open at a time; implements TaskStore.

    `path` is that of the file, which is made if it is not there, for its owner only; files whose names begin
    with it stand beside it. `max_records` and `max_record_bytes` are as in MemoryTaskStore. `write_behind`
    and `sweep_interval` are in seconds. With `read_only` the file may be open elsewhere, and every change
    raises TaskStoreError.

    What a method has acknowledged is on the disk, and survives a power cut. A call that is cancelled before
    the thread of the store has begun with it changes nothing; later it is done, and returns. Calls that wait
    at the same time are one transaction. Progress is committed at most twice in `write_behind`, or with
    the next change of status.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_records: int = DEFAULT_RECORDS,
        max_record_bytes: int = DEFAULT_RECORD_BYTES,
        write_behind: float = WRITE_BEHIND,
        sweep_interval: float = SWEEP_INTERVAL,
        read_only: bool = False,
    ) -> None:
        require_count("max_records", max_records)
        require_count("max_record_bytes", max_record_bytes)
        require_positive("write_behind", write_behind)
        require_positive("sweep_interval", sweep_interval)
        self.path = os.fspath(path)
        self.max_records = max_records
        self.max_record_bytes = max_record_bytes
        self.write_behind: float | None = write_behind
        self.put_timeout: float | None = None  # what the thread has begun cannot be cancelled
        self.sweep_interval: float | None = sweep_interval
        self.is_shared = False
        self.read_only = read_only
        self._thread: StoreThread | None = None
        self._holder = ""
        self._cursors = Cursors(b"")
        self._queued = trio.lowlevel.ParkingLot()
        self._times_queued = 0
        self._subscriptions: dict[str, set[LatestChannel[TaskRecord]]] = {}  # never an empty set
        # What was put last of each task that is held here: a change of it is no mere progress.
        self._held: dict[str, tuple[Any, ...]] = {}

    def __repr__(self) -> str:
        state = "closed" if self._thread is None else "read only" if self.read_only else "open"
        return f"<SQLiteTaskStore {self.path!r} ({state})>"

    def statistics(self) -> SQLiteStatistics:
        """What the store has done since it was opened."""
        thread = self._thread
        if thread is None:
            return SQLiteStatistics(0, 0, 0)
        return SQLiteStatistics(thread.commits, thread.turns, thread.waiting)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open the file for as long as the block lasts. Checkpoints.

        Raises TaskStoreError if it is open elsewhere, damaged, written by a newer version, no database, or
        if it cannot be made or written.
        """
        if self._thread is not None:
            raise TaskStoreError(f"task store {self.path}: it is open already")
        self._holder = secrets.token_hex(8)
        thread = self._thread = StoreThread((self.write_behind or WRITE_BEHIND) / 2, self._show)
        try:
            await thread.start(self._open_tables)
            try:
                yield
            finally:
                # Shielded, since whoever opens the file next needs it closed.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
                    await thread.stop()
        finally:
            self._thread = None
            self._held.clear()
            for channels in self._subscriptions.values():
                for changes in channels:
                    changes.close()
            self._subscriptions.clear()

    def _open_tables(self) -> tuple[Tables, Callable[[], None]]:
        """Open the file; runs in the thread."""
        file = open_file(self.path, read_only=self.read_only)
        self._cursors = Cursors(file.cursor_key)
        with ExitStack() as opened:
            opened.callback(file.close)
            tables = open_tables(file.db, self.path, self._holder, self.max_records)
            opened.pop_all()
        return tables, file.close

    async def create(
        self,
        record: TaskRecord,
        work: TaskWork | None = None,
        *,
        key: str | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        """Keep a new task; when this returns, `get` finds it. Checkpoints.

        A full store first forgets what had expired when `record` was created, and nothing else. Raises
        TaskOverload if the store is full, TaskTooLarge if `record` is larger than `max_record_bytes`,
        ValueError if the id exists.
        """
        new = NewTask(
            record=record,
            row=(
                record.id,
                _owner(record.owner),
                record.tool,
                to_microseconds(record.created_at),
                None if record.expires_at is None else to_microseconds(record.expires_at),
                record.version,
                int(record.is_final),
                int(work is None or work.is_listed),
                encode_record(record),
            ),
            work=None if work is None or record.is_final else encode_work(work),
            key=key,
            is_queued=is_queued and not record.is_final,
            refusal=self._refusal(record),
        )
        known: StoredTask | None = await self._change(
            CreateJob(JobKind.WRITE, lambda tables: tables.create(new), new=new)
        )
        if known is not None:
            return known
        if record.is_final:
            return StoredTask(record=record)
        if is_queued:
            return StoredTask(record=record, work=work)
        self._held[record.id] = _state(record)
        return StoredTask(record=record, work=work, holder=self._holder, claim=1)

    async def get(self, task_id: str, now: datetime) -> TaskRecord | None:
        """The record, or None if there is none or it has expired by `now`. Checkpoints."""
        moment = to_microseconds(now)
        return await self._read(lambda tables: tables.read_record(task_id, moment))

    async def load(self, task_id: str) -> StoredTask | None:
        """All that is kept of a task, or None if there is none. Checkpoints."""
        return await self._read(lambda tables: tables.load(task_id))

    async def put(self, changes: Sequence[TaskChange]) -> Collection[str]:
        """Keep each record in place of its older version, and show it to the subscribers. Checkpoints.

        Returns the ids of tasks that are final, held by another or under another claim, or not there. Raises
        TaskTooLarge if a record is larger than `max_record_bytes`; then nothing changes.
        """
        if not changes:
            await trio.lowlevel.checkpoint()
            return ()
        encoded = [EncodedChange.of(change, self._refusal(change.record)) for change in changes]
        is_progress = all(
            change.checkpoint is None and self._held.get(change.record.id) == _state(change.record)
            for change in changes
        )
        kind = JobKind.PROGRESS if is_progress else JobKind.WRITE
        lost: Collection[str] = await self._change(
            PutJob(kind, lambda tables: tables.put(encoded), changes=encoded)
        )
        for task_id in lost:
            self._held.pop(task_id, None)
        return lost

    async def release(self, record: TaskRecord, claim: int, ready_at: datetime | None = None) -> bool:
        """Put a task that is held under `claim` back into the queue; False if it is lost. Checkpoints."""
        encoded = EncodedChange.of(TaskChange(record, claim), self._refusal(record))
        moment = None if ready_at is None else to_microseconds(ready_at)
        is_released = await self._write(lambda tables: tables.release(encoded, moment))
        self._held.pop(record.id, None)
        return is_released

    async def claim(self, tools: Collection[str], limit: int, now: datetime) -> Sequence[StoredTask]:
        """Claim up to `limit` tasks of `tools` that are in the queue and ready by `now`. Checkpoints."""
        moment = to_microseconds(now)
        tasks = await self._write(lambda tables: claim(tables, tools, limit, moment))
        self._held.update((task.record.id, _state(task.record)) for task in tasks)
        return tasks

    async def wait_claimable(self, tools: Collection[str], now: datetime) -> None:
        """Wait until `claim` may return something, counted from `now`. Checkpoints."""
        seen, moment = self._times_queued, to_microseconds(now)
        ready = await self._read(lambda tables: next_ready(tables, tools, moment))
        if self._times_queued == seen and ready != moment:
            seconds = float("inf") if ready is None else (ready - moment) / 1e6
            with trio.move_on_after(seconds):
                await self._queued.park()

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        """Queue or fail the tasks of processes that had the file open before. Checkpoints."""
        moment = to_microseconds(now)
        return await self._write(lambda tables: recover(tables, moment))

    async def wait_sweep(self, now: datetime) -> None:
        """Wait until a task expires of those that are there, counted from `now`. Checkpoints."""
        moment = to_microseconds(now)
        expiry = await self._read(next_expiry)
        with trio.move_on_after(math.inf if expiry is None else max(expiry - moment, 0) / 1e6):
            await trio.sleep_forever()

    async def answer(self, task_id: str, answers: Mapping[str, Raw], now: datetime) -> None:
        """Keep answers to questions of a task that have none. Checkpoints."""
        moment = to_microseconds(now)
        await self._write(lambda tables: tables.answer(task_id, answers, moment))

    async def cancel(self, task_id: str, now: datetime) -> TaskRecord | None:
        """Move a task to "cancelled" and return its record; None if there is none. Checkpoints."""
        moment = to_microseconds(now)
        return await self._write(lambda tables: tables.cancel(task_id, moment))

    async def wait_changed(self) -> str:
        """Wait until cancelled: all changes are made by the process itself, which knows of them."""
        await trio.sleep_forever()
        raise AssertionError

    async def wait_lost(self) -> None:
        """Wait until cancelled: nobody else gets the file while it is open."""
        await trio.sleep_forever()

    async def list_page(self, owner: Owner | None, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        """Up to `limit` tasks that `owner` owns, newest first, but none expired by `now`. Checkpoints.

        None stands for everybody. A cursor marks a place between two tasks, and is good for as long as the
        file is kept. Raises CursorError for a cursor that was not given to this owner, ValueError for a
        limit smaller than 1.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit!r}")
        place = None if cursor is None else self._cursors.place(owner, cursor)
        name, moment = None if owner is None else _owner(owner), to_microseconds(now)
        records, last = await self._read(lambda tables: list_page(tables, name, place, limit, moment))
        return TaskPage(records, None if last is None else self._cursors.cursor(owner, last))

    async def read_reports(self, task_id: str, after: int, limit: int) -> Sequence[StoredReport]:
        """The oldest reports, up to `limit`, whose offset is larger than `after`. Checkpoints."""
        return await self._read(lambda tables: read_reports(tables, task_id, after, limit))

    async def delete(self, task_id: str) -> None:
        """Forget a task and end its subscriptions; does nothing if there is none. Checkpoints."""
        await self._write(lambda tables: tables.delete(task_id))

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        """Forget what has expired by `now`, end its subscriptions, and return the ids. Checkpoints.

        The ids include those that `create` forgot to make room. Costs what expires, not what is kept.
        """
        moment = to_microseconds(now)
        return await self._write(lambda tables: tables.delete_expired(moment))

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of the record's changes from now on; entering checkpoints.

        It holds one version: a newer one replaces one that was not read yet. It ends, behind that version,
        when the record is forgotten, and at once if there is none. A reader of a file that another process
        changes looks four times a second.
        """
        changes = LatestChannel[TaskRecord]()
        self._subscriptions.setdefault(task_id, set()).add(changes)
        try:
            version = await self._read(lambda tables: tables.read_version(task_id))
            if version is None:
                changes.close()
            if self.read_only and version is not None:
                async with open_unwrapping_nursery() as nursery:
                    nursery.start_soon(self._watch, task_id, version, changes)
                    yield changes.receive
                    nursery.cancel_scope.cancel()
            else:
                yield changes.receive
        finally:
            channels = self._subscriptions.get(task_id, set())
            channels.discard(changes)
            if not channels:
                self._subscriptions.pop(task_id, None)
            changes.close()
            changes.receive.close()

    async def _watch(self, task_id: str, version: int, changes: LatestChannel[TaskRecord]) -> None:
        """Tell of what another process changes of a task after `version`, until it is gone."""
        while (newest := await self._read(lambda tables: tables.read_version(task_id))) is not None:
            if newest > version and (task := await self.load(task_id)) is not None:
                changes.offer(task.record)
                version = task.record.version
            await trio.sleep(WATCH_INTERVAL)
        changes.close()

    def _show(self, told: Told) -> None:
        """Show what was committed to the subscribers, and to those who wait for tasks."""
        for record in told.records:
            if record.is_final:
                self._held.pop(record.id, None)
            elif record.id in self._held:
                self._held[record.id] = _state(record)
            for changes in self._subscriptions.get(record.id, ()):
                changes.offer(record)
        for task_id in told.gone:
            self._held.pop(task_id, None)
            for changes in self._subscriptions.pop(task_id, ()):
                changes.close()
        if told.is_queued:
            self._times_queued += 1
            self._queued.unpark_all()

    def _refusal(self, record: TaskRecord) -> TaskTooLarge | None:
        """Why a record is too large, as an error that is raised if it is not ignored."""
        try:
            require_size(record, self.max_record_bytes)
        except TaskTooLarge as error:
            return error
        return None

    async def _read(self, run: Callable[[Tables], T]) -> T:
        result: T = await self._do(Job(JobKind.READ, run))
        return result

    async def _write(self, run: Callable[[Tables], T]) -> T:
        result: T = await self._change(Job(JobKind.WRITE, run))
        return result

    async def _change(self, job: Job) -> Any:
        if self.read_only:
            raise TaskStoreError(f"task store {self.path}: it was opened with read_only=True")
        return await self._do(job)

    async def _do(self, job: Job) -> Any:
        if self._thread is None:
            raise TaskStoreError(f"task store {self.path}: it is not open")
        return await self._thread.run(job)


def _owner(owner: Owner) -> str:
    return f"{owner.kind}:{owner.name}"


def _state(record: TaskRecord) -> tuple[Any, ...]:
    """What of a record is more than progress."""
    return record.status, record.attempt, record.inputs, record.ttl
