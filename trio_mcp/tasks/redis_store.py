"""Task records in a Redis or Valkey server, for any number of processes.

Owns the calls of a TaskStore. The rules are in `redis_scripts.py`, the queue is in `redis_queue.py`, and what
one opening is made of in `redis_session.py`. Needs coredis, which the extra `redis` installs.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import trio
from msgspec import Raw

from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks import redis_scripts as scripts
from trio_mcp.tasks.memory_store import DEFAULT_RECORD_BYTES
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord, TaskStatus
from trio_mcp.tasks.record_size import record_size
from trio_mcp.tasks.redis_address import read_address
from trio_mcp.tasks.redis_lease import Clock, lease_clock
from trio_mcp.tasks.redis_link import ServerAwayError
from trio_mcp.tasks.redis_listing import read_page
from trio_mcp.tasks.redis_queue import RedisQueue, replace
from trio_mcp.tasks.redis_session import RedisSession, SessionSettings, open_session
from trio_mcp.tasks.redis_values import create_arguments, key_bytes, put_arguments, read_report
from trio_mcp.tasks.store import TaskChange, TaskPage
from trio_mcp.tasks.store_checks import full_store, require_size
from trio_mcp.tasks.stored_codec import to_microseconds
from trio_mcp.tasks.stored_task import DEFAULT_REPORTS, StoredReport, StoredTask, TaskWork
from trio_mcp.validators import require_count, require_positive
from trio_mcp.wire.errors import LocalProtocolError

DEFAULT_RECORDS: Final = 1_000_000
"""Tasks kept at once by all processes: a few GiB, and an end to what clients can start."""

_EXPIRED_AT_ONCE: Final = 500  # so that no script keeps the server from others for long
_TRIES: Final = 100  # of changes that others may overtake


class RedisTaskStore:
    """Keeps tasks in a Redis (7 or newer) or Valkey (8 or newer) server; implements TaskStore.

    `url` is redis://user:password@host:6379/0, or rediss:// for TLS; valkey:// and valkeys:// mean the same.
    Any number of processes may use one server: all tasks whose keys begin with `prefix` are shared.

    `lease` is how many seconds after its last sign of life a process counts as dead, so that others take
    over its tasks. `write_behind` is how many seconds progress may wait before it is put, `timeout` how
    many the server may take to answer. `max_records` is the number of tasks kept at once by all processes,
    `max_record_bytes` the size of one record as MemoryTaskStore counts it, and `max_reports` how many
    reports are kept of each task. `clock` returns the seconds by which the lease is counted.

    A call that has changed something is finished before it is cancelled, within `timeout`.

    Raises TaskStoreError for a URL that means nothing, ValueError for the other values.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "trio_mcp",
        lease: float = 15.0,
        write_behind: float = 0.2,
        timeout: float = 5.0,
        max_records: int = DEFAULT_RECORDS,
        max_record_bytes: int = DEFAULT_RECORD_BYTES,
        max_reports: int = DEFAULT_REPORTS,
        clock: Clock = lease_clock,
    ) -> None:
        for name, value in (("lease", lease), ("write_behind", write_behind), ("timeout", timeout)):
            require_positive(name, value)
        for name, count in (
            ("max_records", max_records),
            ("max_record_bytes", max_record_bytes),
            ("max_reports", max_reports),
        ):
            require_count(name, count)
        if not prefix or set(prefix) & set("{}"):
            raise ValueError(f"prefix must be a text without braces, not {prefix!r}")
        self.max_records = max_records
        self.max_record_bytes = max_record_bytes
        self.max_reports = max_reports
        self.write_behind: float | None = write_behind
        self.put_timeout: float | None = None  # a call ends within `timeout` by itself
        # Not the same for all, so that they do not sweep at the same moments.
        self.sweep_interval: float | None = lease / 3 * random.uniform(0.8, 1.2)
        self.is_shared = True
        # In braces, so that all keys are in one slot of a cluster.
        root = b"{%s}:" % prefix.encode()
        self._settings = SessionSettings(read_address(url), root, lease, timeout, clock)
        self._opened: tuple[RedisSession, RedisQueue] | None = None
        self._forgotten: deque[str] = deque(maxlen=10_000)  # what `create` has deleted to make room

    def __repr__(self) -> str:
        return f"<RedisTaskStore {self._settings.address} {'open' if self._opened else 'closed'}>"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect, and hold a lease for as long as the block lasts. Checkpoints.

        Raises TaskStoreError if the server cannot be reached or used, or the store is open already.
        """
        if self._opened is not None:
            raise TaskStoreError(f"the store at {self._settings.address} is open already; make another one")
        async with open_session(self._settings) as session:
            self._opened = session, RedisQueue(session, self.put)
            try:
                yield
            finally:
                self._opened = None

    @property
    def _session(self) -> RedisSession:
        return self._require_open()[0]

    @property
    def _queue(self) -> RedisQueue:
        return self._require_open()[1]

    def _require_open(self) -> tuple[RedisSession, RedisQueue]:
        if self._opened is None:
            raise LocalProtocolError("a RedisTaskStore must be opened before it is used")
        return self._opened

    async def create(
        self,
        record: TaskRecord,
        work: TaskWork | None = None,
        *,
        key: str | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        """Keep a new task, as TaskStore.create says. Checkpoints.

        A full store first forgets what had expired when `record` was created. If the answer
        of the server is lost, the task is removed when the server is back.
        """
        require_size(record, self.max_record_bytes)
        has_swept = False
        for _ in range(_TRIES):
            holder = await self._session.hold()
            answer, *known = await self._create_once(record, work, key, is_queued, holder)
            match answer:
                case b"new":
                    is_held = not is_queued and not record.is_final
                    return StoredTask(
                        record=record, work=work, holder=holder if is_held else None, claim=int(is_held)
                    )
                case b"known":
                    task = await self.load(known[0].decode(errors="surrogatepass"))
                    if task is not None:
                        return task
                case b"exists":
                    raise ValueError(f"task {record.id} exists already")
                case b"full" if has_swept:
                    raise full_store(self.max_records)
                case b"full":
                    self._forgotten.extend(await self._delete_expired(record.created_at))
                    has_swept = True
                case _:
                    self._session.note_dead(holder)
        raise TaskStoreError(f"task {record.id} could not be created: others are always faster")

    async def _create_once(
        self, record: TaskRecord, work: TaskWork | None, key: str | None, is_queued: bool, holder: str
    ) -> list[bytes]:
        session = self._session
        arguments = create_arguments(record, work, key, holder, is_queued, self.max_records)
        # Before the answer: another process may change the task at once, and tell of it.
        is_known = record.id in session.held
        session.held.add(record.id)
        answer: list[bytes] | None = None
        try:
            answer = await session.change(scripts.CREATE, *arguments)
        except ServerAwayError as error:
            if error.was_sent:
                session.held.doubt_creation(record.id)
            raise
        finally:
            if (answer is None or answer[0] != b"new" or is_queued or record.is_final) and not is_known:
                session.held.discard(record.id)
        return answer

    async def get(self, task_id: str, now: datetime) -> TaskRecord | None:
        """The record, or None if there is none or it has expired by `now`. Checkpoints."""
        (record,) = await self._session.read_records([task_id])
        return None if record is None or record.has_expired(now) else record

    async def load(self, task_id: str) -> StoredTask | None:
        """All that is kept of a task, or None if there is none. Checkpoints."""
        task = (await self._session.load_all([task_id]))[0]
        if task is None or task.record.is_final:  # as another process may have left it
            self._session.held.discard(task_id)
        return task

    async def put(self, changes: Sequence[TaskChange]) -> Collection[str]:
        """Keep each record in place of its older version; returns the ids of lost tasks. Checkpoints.

        All are sent in one go. Raises TaskTooLarge if a record is larger than `max_record_bytes`; then
        nothing changes. If the server fails meanwhile, some may have been kept; they may be put again.
        """
        await trio.lowlevel.checkpoint()
        await self._check_changes(changes)
        self._session.lease.check()
        holder = self._session.lease.holder
        answers = await self._session.link.run_scripts(
            scripts.PUT,
            self._session.root,
            [put_arguments(change, holder, self.max_reports) for change in changes],
        )
        lost = []
        for change, answer in zip(changes, answers, strict=True):
            if answer == b"lost":
                lost.append(change.record.id)
            if answer == b"lost" or (answer == b"kept" and change.record.is_final):
                self._session.held.discard(change.record.id)
        return lost

    async def _check_changes(self, changes: Sequence[TaskChange]) -> None:
        """Raise if a record that would be kept is too large."""
        large = [change for change in changes if record_size(change.record) > self.max_record_bytes]
        if large:
            tasks = await self._session.load_all([change.record.id for change in large])
            for change, task in zip(large, tasks, strict=True):
                if task is None or (task.holder, task.claim) != (self._session.lease.holder, change.claim):
                    continue
                if change.record.version > task.record.version:
                    require_size(change.record, self.max_record_bytes)

    async def release(self, record: TaskRecord, claim: int, ready_at: datetime | None = None) -> bool:
        """Put a task that is held under `claim` back into the queue; False if it is lost. Checkpoints.

        If the server is away, it is put back when the server is back, as it is stored.
        """
        require_size(record, self.max_record_bytes)
        return await self._queue.release(record, claim, ready_at)

    async def claim(self, tools: Collection[str], limit: int, now: datetime) -> Sequence[StoredTask]:
        """Claim up to `limit` tasks of `tools` that are in the queue and ready by `now`. Checkpoints."""
        return await self._queue.claim(tools, limit, now)

    async def wait_claimable(self, tools: Collection[str], now: datetime) -> None:
        """Wait until `claim` may return something, counted from `now`; also while the server is away.

        Checkpoints.
        """
        await self._queue.wait_claimable(tools, now)

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        """Queue or fail the tasks of processes whose lease has ended. Checkpoints.

        If several processes do this at once, each of those tasks is taken by one of them.
        """
        return await self._queue.recover(now)

    async def wait_sweep(self, now: datetime) -> None:
        """Wait until a process may be dead or a task has expired long ago, counted from `now`. Checkpoints.

        Its own process forgets a task on time, so others look for it a minute later.
        """
        await self._queue.wait_sweep(now)

    async def answer(self, task_id: str, answers: Mapping[str, Raw], now: datetime) -> None:
        """Keep answers to questions of a task that have none. Checkpoints."""
        pairs = [part for key, value in answers.items() for part in (key_bytes(key), bytes(value))]
        await self._session.run(
            scripts.ANSWER, key_bytes(task_id), self._session.lease.holder, to_microseconds(now), *pairs
        )

    async def cancel(self, task_id: str, now: datetime) -> TaskRecord | None:
        """Move a task to "cancelled" and return its record; None if there is none. Checkpoints."""
        for _ in range(_TRIES):
            record = await self.get(task_id, now)
            if record is None or record.is_final:
                return record
            outcome = Outcome("cancelled")
            newer = record.moved(TaskStatus.CANCELLED, now, outcome=outcome, inputs={})
            if await replace(self._session, record, newer, "") == b"kept":
                self._session.held.discard(task_id)
                return newer
        raise TaskStoreError(f"task {task_id} could not be cancelled: its record changes all the time")

    async def wait_changed(self) -> str:
        """Wait until a task that is held here was changed by another process; returns its id. Checkpoints."""
        return await self._session.held.wait_changed()

    async def wait_lost(self) -> None:
        """Wait until the lease was lost: all that was held is lost. Checkpoints."""
        await self._session.lease.wait_lost()

    async def list_page(self, owner: Owner | None, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        """Up to `limit` tasks that `owner` owns, newest first, but none expired by `now`. Checkpoints.

        None stands for everybody. Raises CursorError for a cursor that was not given to this owner,
        ValueError for a limit smaller than 1.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit!r}")
        return await read_page(self._session, owner, cursor, limit, now)

    async def read_reports(self, task_id: str, after: int, limit: int) -> Sequence[StoredReport]:
        """The oldest reports, up to `limit`, whose offset is larger than `after`. Checkpoints."""
        stream, start = self._session.root + b"t:" + key_bytes(task_id) + b":r", b"(%d-0" % max(after, 0)
        entries = await self._session.link.ask(b"XRANGE", stream, start, b"+", b"COUNT", limit)
        return [read_report(entry) for entry in entries or ()]

    async def delete(self, task_id: str) -> None:
        """Forget a task and end its subscriptions; does nothing if there is none. Checkpoints."""
        await self._session.run(scripts.DELETE, key_bytes(task_id), self._session.lease.holder)
        self._session.held.discard(task_id)

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        """Forget what has expired by `now`, and return the ids, with those that `create` forgot.

        Checkpoints.
        """
        ids = [*await self._delete_expired(now), *self._forgotten]
        self._forgotten.clear()
        return ids

    async def _delete_expired(self, now: datetime) -> list[str]:
        ids: list[str] = []
        while True:
            some = await self._session.run(
                scripts.EXPIRE, self._session.lease.holder, to_microseconds(now), _EXPIRED_AT_ONCE
            )
            ids += (one.decode(errors="surrogatepass") for one in some)
            if len(some) < _EXPIRED_AT_ONCE:
                for task_id in ids:
                    self._session.held.discard(task_id)
                return ids

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of the record's changes from now on; entering checkpoints, and waits for the server.

        It holds one version: a newer one replaces one that was not read yet. It ends,
        behind that version, when the record is forgotten, and at once if there is none.
        """
        changes = LatestChannel[TaskRecord]()
        try:
            async with self._session.watching.follow(task_id, changes):
                yield changes.receive
        finally:
            changes.close()
            changes.receive.close()
