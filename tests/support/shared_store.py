"""A task store that several servers of one test share, each through a view of its own, as processes do.

All state is that of a MemoryTaskStore. A view has its holder, and can lose its lease, be away and be slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar, TypeVarTuple

import trio
from msgspec import Raw

from trio_mcp import MemoryTaskStore, Owner, TaskPage, TaskRecord
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.recovery import recovered
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_task import StoredReport, StoredTask, TaskWork

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_acting: ContextVar[str] = ContextVar("_acting", default="nobody")


class SharedState(MemoryTaskStore):
    """What all views see. The tasks of `dead` holders can be recovered."""

    def __init__(self, **caps: int) -> None:
        super().__init__(**caps)
        self.views: list[SharedStore] = []
        self.dead: set[str] = set()

    @property
    def _holder(self) -> str:
        return _acting.get()

    @_holder.setter
    def _holder(self, value: str) -> None:
        pass

    def make_view(self, **options: Any) -> SharedStore:
        """The store as one more process has it."""
        view = SharedStore(self, f"process-{len(self.views) + 1}", **options)
        self.views.append(view)
        return view

    def holder_of(self, task_id: str) -> str | None:
        """Who holds a task."""
        entry = self._entries.get(task_id)
        return None if entry is None else entry.holder

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        await trio.lowlevel.checkpoint()
        records: list[TaskRecord] = []
        for entry in list(self._entries.values()):
            if entry.holder not in self.dead:
                continue
            task = recovered(entry.stored(), now)
            entry.holder = None
            if not task.record.is_final:
                self._queue.add(entry)
            self._replace(entry, task.record)
            records.append(task.record)
        return records


class SharedStore:
    """The view of one process; implements TaskStore.

    While it `is_away`, every call fails; each call takes `seconds` longer. `puts` are the changes that were
    put, by call, and `calls` counts the calls by name.
    """

    def __init__(
        self,
        state: SharedState,
        holder: str,
        *,
        write_behind: float | None = 0.1,
        sweep_interval: float | None = 5.0,
    ) -> None:
        self.state = state
        self.holder = holder
        self.write_behind = write_behind
        self.put_timeout: float | None = None
        self.sweep_interval = sweep_interval
        self.is_shared = True
        self.is_away = False
        self.seconds = 0.0
        self.puts: list[Sequence[TaskChange]] = []
        self.calls: Counter[str] = Counter()
        self._changed: dict[str, None] = {}
        self._was_changed = trio.lowlevel.ParkingLot()
        self._was_lost = trio.lowlevel.ParkingLot()
        self._losses = 0

    def lose_lease(self) -> None:
        """Be taken for dead, and go on as another holder."""
        self.die()
        self._losses += 1
        self.holder = f"{self.holder.partition('.')[0]}.{self._losses}"
        self._was_lost.unpark_all()

    def die(self) -> None:
        """Be taken for dead, and do not know it."""
        self.state.dead.add(self.holder)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        await self._act(trio.lowlevel.checkpoint)
        async with self.state.open():
            yield

    async def create(
        self,
        record: TaskRecord,
        work: TaskWork | None = None,
        *,
        key: str | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        async def create() -> StoredTask:
            return await self.state.create(record, work, key=key, is_queued=is_queued)

        return await self._act(create)

    async def get(self, task_id: str, now: datetime) -> TaskRecord | None:
        return await self._act(self.state.get, task_id, now)

    async def load(self, task_id: str) -> StoredTask | None:
        return await self._act(self.state.load, task_id)

    async def put(self, changes: Sequence[TaskChange]) -> Collection[str]:
        lost = await self._act(self.state.put, changes)
        self.puts.append(changes)
        return lost

    async def release(self, record: TaskRecord, claim: int, ready_at: datetime | None = None) -> bool:
        return await self._act(self.state.release, record, claim, ready_at)

    async def claim(self, tools: Collection[str], limit: int, now: datetime) -> Sequence[StoredTask]:
        return await self._act(self.state.claim, tools, limit, now)

    async def wait_claimable(self, tools: Collection[str], now: datetime) -> None:
        await self.state.wait_claimable(tools, now)

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        return await self._act(self.state.recover, now)

    async def wait_sweep(self, now: datetime) -> None:
        await self.state.wait_sweep(now)

    async def answer(self, task_id: str, answers: Mapping[str, Raw], now: datetime) -> None:
        with self._telling(task_id):
            await self._act(self.state.answer, task_id, answers, now)

    async def cancel(self, task_id: str, now: datetime) -> TaskRecord | None:
        with self._telling(task_id):
            return await self._act(self.state.cancel, task_id, now)

    async def delete(self, task_id: str) -> None:
        with self._telling(task_id):
            await self._act(self.state.delete, task_id)

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        return await self._act(self.state.delete_expired, now)

    async def list_page(self, owner: Owner, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        return await self._act(self.state.list_page, owner, cursor, limit, now)

    async def read_reports(self, task_id: str, after: int, limit: int) -> Sequence[StoredReport]:
        return await self._act(self.state.read_reports, task_id, after, limit)

    def subscribe(self, task_id: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[TaskRecord]]:
        return self.state.subscribe(task_id)

    async def wait_changed(self) -> str:
        while not self._changed:
            await self._was_changed.park()
        return self._changed.popitem()[0]

    async def wait_lost(self) -> None:
        await self._was_lost.park()

    def note_changed(self, task_id: str) -> None:
        """Name a task in `wait_changed`."""
        self._changed[task_id] = None
        self._was_changed.unpark_all()

    def _telling(self, task_id: str) -> Any:
        return _Telling(self, task_id)

    async def _act(self, call: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        self.calls[getattr(call, "__name__", "?")] += 1
        if self.seconds:
            await trio.sleep(self.seconds)
        if self.is_away:
            await trio.lowlevel.checkpoint()
            raise TaskStoreError("the task store at test:// is away; start it again")
        token = _acting.set(self.holder)
        try:
            return await call(*args)
        finally:
            _acting.reset(token)


class _Telling:
    """When the block ends, tell the holder that a task had before of the change, if that is another."""

    def __init__(self, view: SharedStore, task_id: str) -> None:
        self._view = view
        self._id = task_id

    def __enter__(self) -> None:
        self._holder = self._view.state.holder_of(self._id)

    def __exit__(self, *error: object) -> None:
        for view in self._view.state.views:
            if view is not self._view and view.holder == self._holder:
                view.note_changed(self._id)
