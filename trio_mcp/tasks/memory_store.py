"""Task records in the memory of one process: the default store.

Owns the order of each owner's tasks, the order of expiry, and subscriptions. Reads no clock, starts no task,
and keeps nothing when the process ends. What is kept of a task, and the queue, are in `memory_queue.py`.
"""

from __future__ import annotations

import heapq
import secrets
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import trio
from msgspec import Raw

from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.tasks.cursors import Cursors, Place
from trio_mcp.tasks.memory_queue import NO_ANSWERS, Entry, MemoryQueue
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord, TaskStatus
from trio_mcp.tasks.store import TaskChange, TaskPage
from trio_mcp.tasks.store_checks import full_store, require_same_task, require_size
from trio_mcp.tasks.stored_task import StoredReport, StoredTask, TaskWork
from trio_mcp.validators import require_count

DEFAULT_RECORDS: Final = 10_000
"""Tasks kept at once: a few MiB without their results, and an end to what clients can start."""

DEFAULT_RECORD_BYTES: Final = 16 * 1024 * 1024
"""One record: room for a result with some images; it is kept until it expires, so less than a frame."""


class MemoryTaskStore:
    """Keeps task records until they expire or the process ends; implements TaskStore.

    `max_records` is the number of records kept at once, ended ones included;
    `max_record_bytes` the size of what a handler makes of one record: the outcome, the
    messages of status and progress, the texts of its stages, and the inputs. Both are integers
    larger than 0, else ValueError. A call that is cancelled changes nothing.
    """

    __slots__ = (
        "_created",
        "_cursors",
        "_entries",
        "_expiries",
        "_forgotten",
        "_holder",
        "_keys",
        "_opened",
        "_owned",
        "_queue",
        "is_shared",
        "max_record_bytes",
        "max_records",
        "put_timeout",
        "sweep_interval",
        "write_behind",
    )

    def __init__(
        self, *, max_records: int = DEFAULT_RECORDS, max_record_bytes: int = DEFAULT_RECORD_BYTES
    ) -> None:
        require_count("max_records", max_records)
        require_count("max_record_bytes", max_record_bytes)
        self.max_records = max_records
        self.max_record_bytes = max_record_bytes
        self.write_behind: float | None = None
        self.put_timeout: float | None = None
        self.sweep_interval: float | None = None
        self.is_shared = False
        self._opened = 0
        self._created = 0
        self._holder = secrets.token_hex(8)
        self._keys: dict[str, str] = {}
        self._queue = MemoryQueue()
        self._entries: dict[str, Entry] = {}  # at most max_records
        self._owned: dict[Owner, list[tuple[datetime, int, str]]] = {}  # oldest first, never an empty list
        self._expiries: list[tuple[datetime, str]] = []  # a heap; one that a change of ttl made wrong stays
        # The ids that `create` forgot to make room, which `delete_expired` returns. Whoever lets a full
        # store's worth of them pass never calls it.
        self._forgotten: deque[str] = deque(maxlen=max_records)
        self._cursors = Cursors(secrets.token_bytes(32))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Use the store for as long as the block lasts; several blocks may use it at once. Checkpoints.

        When the last of them has ended, the tasks that are held count as those of a process that has died.
        """
        await trio.lowlevel.checkpoint()
        self._opened += 1
        try:
            yield
        finally:
            self._opened -= 1
            if not self._opened:
                self._holder = secrets.token_hex(8)

    async def create(
        self,
        record: TaskRecord,
        work: TaskWork | None = None,
        *,
        key: str | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        """Keep a new task; when this returns, `get` finds it. Checkpoints.

        A task that has not expired and was created with the same `key` is returned instead. A full store
        first forgets what had expired when `record` was created, and nothing
        else. Raises TaskOverload if the store is full, TaskTooLarge if `record` is larger than
        `max_record_bytes`, ValueError if the id exists.
        """
        await trio.lowlevel.checkpoint()
        known = None if key is None else self._entries.get(self._keys.get(key, ""))
        if known is not None:
            if not known.record.has_expired(record.created_at):
                return known.stored()
            self._forget(known)
            self._forgotten.append(known.record.id)
        if record.id in self._entries:
            raise ValueError(f"task {record.id} exists already")
        require_size(record, self.max_record_bytes)
        if len(self._entries) >= self.max_records:
            self._forgotten.extend(self._forget_expired(record.created_at))
        if len(self._entries) >= self.max_records:
            raise full_store(self.max_records)
        self._note_expiry(record)
        places = self._owned.get(record.owner, [])
        at = bisect_right(places, record.created_at, key=_created_at)
        # A number among those of the same moment only: one that counts all tasks would tell how many.
        number = places[at - 1][1] + 1 if at and places[at - 1][0] == record.created_at else 0
        places.insert(at, (record.created_at, number, record.id))
        self._owned[record.owner] = places
        self._created += 1
        entry = Entry(record, (record.created_at, number), self._created, work, key)
        self._entries[record.id] = entry
        if key is not None:
            self._keys[key] = record.id
        if is_queued:
            self._queue.add(entry)
        elif not record.is_final:
            entry.holder, entry.claim = self._holder, 1
        return entry.stored()

    async def get(self, task_id: str, now: datetime) -> TaskRecord | None:
        """The record, or None if there is none or it has expired by `now`. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        return None if entry is None or entry.record.has_expired(now) else entry.record

    async def load(self, task_id: str) -> StoredTask | None:
        """All that is kept of a task, or None if there is none. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        return None if entry is None else entry.stored()

    async def put(self, changes: Sequence[TaskChange]) -> Collection[str]:
        """Keep each record in place of its older version, and show it to the subscribers. Checkpoints.

        Returns the ids of tasks that are final, held by another or under another claim, or not there. Raises
        TaskTooLarge if a record is larger than `max_record_bytes`, LocalProtocolError
        if its tool, its owner or its time of creation is another; then nothing changes.
        """
        await trio.lowlevel.checkpoint()
        for change in changes:
            entry = self._held(change.record.id, change.claim)
            if entry is not None and change.record.version > entry.record.version:
                require_same_task(entry.record, change.record)
                require_size(change.record, self.max_record_bytes)
        lost: list[str] = []
        for change in changes:
            entry = self._held(change.record.id, change.claim)
            if entry is None:
                lost.append(change.record.id)
            # Versions between the two may never have been put, and a status that is not final may move to
            # every other. The only move that can be wrong is one of a final record.
            elif change.record.version > entry.record.version:
                if change.checkpoint is not None:
                    entry.checkpoint = change.checkpoint
                if change.reports:
                    entry.keep_reports(change.reports)
                self._replace(entry, change.record)
        return lost

    async def release(self, record: TaskRecord, claim: int, ready_at: datetime | None = None) -> bool:
        """Put a task that is held under `claim` back into the queue; False if it is lost. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._held(record.id, claim)
        if entry is None:
            return False
        require_size(record, self.max_record_bytes)
        entry.holder, entry.ready_at = None, ready_at
        self._queue.add(entry)
        if record.version > entry.record.version:
            self._replace(entry, record)
        return True

    async def claim(self, tools: Collection[str], limit: int, now: datetime) -> Sequence[StoredTask]:
        """Claim up to `limit` tasks of `tools` that are in the queue and ready by `now`. Checkpoints."""
        await trio.lowlevel.checkpoint()
        claimed = self._queue.take(tools, limit, now)
        for entry in claimed:
            entry.holder, entry.ready_at = self._holder, None
            entry.claim += 1
            self._replace(entry, entry.record.changed(now, attempt=entry.record.attempt + 1))
        return [entry.stored() for entry in claimed]

    async def wait_claimable(self, tools: Collection[str], now: datetime) -> None:
        """Wait until `claim` may return something, counted from `now`. Checkpoints."""
        await trio.lowlevel.checkpoint()
        await self._queue.wait_ready(tools, now)

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        """Queue or fail the tasks that were held when the store was closed last. Checkpoints."""
        # Imported here: a server whose tasks do not outlive its process starts sooner without that module.
        from trio_mcp.tasks.recovery import recovered

        await trio.lowlevel.checkpoint()
        records: list[TaskRecord] = []
        for entry in list(self._entries.values()):
            if entry.holder in (None, self._holder) or entry.record.has_expired(now):
                continue
            task = recovered(entry.stored(), now)
            entry.holder = None
            if not task.record.is_final:
                self._queue.add(entry)
            self._replace(entry, task.record)
            records.append(task.record)
        return records

    async def wait_sweep(self, now: datetime) -> None:
        """Return: a look costs next to nothing here. Checkpoints."""
        await trio.lowlevel.checkpoint()

    async def answer(self, task_id: str, answers: Mapping[str, Raw], now: datetime) -> None:
        """Keep answers to questions of a task that have none. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        if entry is None or entry.record.is_final or entry.record.has_expired(now):
            return
        asked = entry.record.inputs
        new = {key: value for key, value in answers.items() if key in asked}
        entry.answers = {**new, **entry.answers}

    async def cancel(self, task_id: str, now: datetime) -> TaskRecord | None:
        """Move a task to "cancelled" and return its record; None if there is none. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        if entry is None or entry.record.has_expired(now):
            return None
        if not entry.record.is_final:
            outcome = Outcome("cancelled")
            self._replace(entry, entry.record.moved(TaskStatus.CANCELLED, now, outcome=outcome, inputs={}))
        return entry.record

    async def wait_changed(self) -> str:
        """Wait until cancelled: all changes are made by the process itself, which knows of them."""
        await trio.sleep_forever()
        raise AssertionError

    async def wait_lost(self) -> None:
        """Wait until cancelled: nobody else takes this process for dead."""
        await trio.sleep_forever()

    async def read_reports(self, task_id: str, after: int, limit: int) -> Sequence[StoredReport]:
        """The oldest reports, up to `limit`, whose offset is larger than `after`. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        reports = () if entry is None or entry.reports is None else entry.reports
        return [report for report in reports if report.offset > after][:limit]

    async def list_page(self, owner: Owner | None, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        """Up to `limit` tasks that `owner` owns, newest first, but none expired by `now`. Checkpoints.

        None stands for everybody; such a page costs what is kept. A cursor marks a place between two tasks.
        Tasks that are created or forgotten between two pages therefore make no other task appear twice or
        never. Raises CursorError for a cursor that this store did not give to this owner, ValueError for a
        limit smaller than 1.
        """
        # Imported here: a server of which nobody asks for lists starts sooner without that module.
        from trio_mcp.tasks.memory_listing import read_page

        await trio.lowlevel.checkpoint()
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit!r}")
        places = None if owner is None else self._owned.get(owner, [])
        return read_page(self._entries, places, self._cursors, owner, cursor, limit, now)

    async def delete(self, task_id: str) -> None:
        """Forget a record and end its subscriptions; does nothing if there is none. Checkpoints."""
        await trio.lowlevel.checkpoint()
        entry = self._entries.get(task_id)
        if entry is not None:
            self._forget(entry)

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        """Forget what has expired by `now`, end its subscriptions, and return the ids. Checkpoints.

        The ids include those that `create` forgot to make room. Costs what expires, not what is kept.
        """
        await trio.lowlevel.checkpoint()
        ids = [*self._forgotten, *self._forget_expired(now)]
        self._forgotten.clear()
        return ids

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of the record's changes from now on; entering checkpoints.

        It holds one version: a newer one replaces one that was not read yet. It
        ends, behind that version, when the record is forgotten, and at once if there is none.
        """
        await trio.lowlevel.checkpoint()
        changes = LatestChannel[TaskRecord]()
        entry = self._entries.get(task_id)
        if entry is None:
            changes.close()
        else:
            if entry.subscriptions is None:
                entry.subscriptions = set()
            entry.subscriptions.add(changes)
        try:
            yield changes.receive
        finally:
            if entry is not None and entry.subscriptions is not None:
                entry.subscriptions.discard(changes)
            changes.close()
            changes.receive.close()

    def _held(self, task_id: str, claim: int) -> Entry | None:
        """The task, if this process holds it under `claim`."""
        entry = self._entries.get(task_id)
        if entry is None or entry.holder != self._holder or entry.claim != claim:
            return None
        return entry

    def _replace(self, entry: Entry, record: TaskRecord) -> None:
        """Keep a record in place of the older one, and show it to the subscribers."""
        moved = record.ttl != entry.record.ttl or record.created_at != entry.record.created_at
        entry.record = record
        if record.is_final:
            entry.holder = entry.checkpoint = entry.ready_at = None
            # Of the work is kept what a list must know.
            entry.work = None if entry.work is None or entry.work.is_listed else TaskWork(is_listed=False)
            entry.answers = NO_ANSWERS
            self._queue.discard(record.id)
        if moved:
            self._note_expiry(record)
        for changes in entry.subscriptions or ():
            changes.offer(record)

    def _note_expiry(self, record: TaskRecord) -> None:
        expires_at = record.expires_at
        if expires_at is None:
            return
        if len(self._expiries) >= 2 * self.max_records:  # at least half are out of date, so this is rare
            kept = [(entry.record.expires_at, entry.record.id) for entry in self._entries.values()]
            self._expiries = [(when, task_id) for when, task_id in kept if when is not None]
            heapq.heapify(self._expiries)
        heapq.heappush(self._expiries, (expires_at, record.id))

    def _forget_expired(self, now: datetime) -> list[str]:
        ids: list[str] = []
        while self._expiries and self._expiries[0][0] <= now:
            _, task_id = heapq.heappop(self._expiries)
            entry = self._entries.get(task_id)
            if entry is not None and entry.record.has_expired(now):
                self._forget(entry)
                ids.append(task_id)
        return ids

    def _forget(self, entry: Entry) -> None:
        record = entry.record
        del self._entries[record.id]
        self._queue.discard(record.id)
        if entry.key is not None:
            del self._keys[entry.key]
        places = self._owned[record.owner]
        del places[bisect_left(places, entry.place, key=_place)]
        if not places:
            del self._owned[record.owner]
        for changes in entry.subscriptions or ():
            changes.close()


def _created_at(place: tuple[datetime, int, str]) -> datetime:
    return place[0]


def _place(place: tuple[datetime, int, str]) -> Place:
    return place[:2]
