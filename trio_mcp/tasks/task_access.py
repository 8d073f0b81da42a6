"""What may be asked of a task, wherever it runs: to read it, to wait for it, to answer and to cancel it.

Owns the choice between the live task and the store. Knows no wire, and runs no handler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from trio_mcp.errors import TaskNotFound, TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.held_tasks import HeldTasks
from trio_mcp.tasks.history import EndedHistories, TaskReport
from trio_mcp.tasks.kept_records import KeptRecords
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord
from trio_mcp.tasks.store import TaskPage, TaskStore
from trio_mcp.tasks.store_calls import StoreCalls
from trio_mcp.tasks.stored_reports import read_newest
from trio_mcp.tasks.stored_task import StoredReport
from trio_mcp.wire.codec import encode_value


class TaskAccess:
    """The tasks that one process can reach; made by its `Supervisor`. `page_size` is that of a list."""

    def __init__(
        self,
        store: TaskStore,
        calls: StoreCalls,
        clock: TaskClock,
        held: HeldTasks,
        kept: KeptRecords,
        histories: EndedHistories,
        page_size: int,
    ) -> None:
        self._store = store
        self._calls = calls
        self._clock = clock
        self._held = held
        self._kept = kept
        self._histories = histories
        self._page_size = page_size

    def __repr__(self) -> str:
        return f"<TaskAccess: {self._held!r}>"

    async def fetch(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """The record of a task that `asker` may see; None may see all. Checkpoints.

        It is no newer than what the other processes see that share the store, and may be a moment older.
        Raises TaskNotFound, TaskStoreError.
        """
        live = self._held.find(task_id)
        if live is None:
            record = await self._calls.run(self._store.get, task_id, self._clock.now())
        else:
            await trio.lowlevel.checkpoint()
            record = live.stored if self._store.is_shared else live.shown
        return _admit(record, asker)

    async def fetch_newest(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """The same, but no older than what any process has seen that shares the store. Checkpoints."""
        if not self._store.is_shared:
            return await self.fetch(task_id, asker)
        # The answer to a put may come later here than what was put is seen elsewhere.
        return _admit(await self._calls.run(self._store.get, task_id, self._clock.now()), asker)

    async def wait_ended(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """Wait until a task has ended, wherever it runs; checkpoints.

        Raises TaskNotFound, also if it expires first, and TaskStoreError.
        """
        record = await self.fetch(task_id, asker)
        live = self._held.find(task_id)
        if live is not None:
            await live.wait_ended()
            record = await self.fetch(task_id, asker)
        if record.is_final:
            return record
        async with self._store.subscribe(task_id) as changes:  # it runs in another process
            record = await self.fetch(task_id, asker)
            while not record.is_final:
                try:
                    record = await changes.receive()
                except trio.EndOfChannel:
                    raise TaskNotFound("no such task") from None
        return record

    async def cancel(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """Cancel a task and return its record, which does not change if it has ended. Checkpoints.

        The record says "cancelled" when this returns; the handler ends at its next
        checkpoint, wherever it runs. Raises TaskNotFound; TaskStoreError if it could not be stored, although
        a handler that runs here is cancelled then, too.
        """
        record = await self.fetch(task_id, asker)
        live = self._held.find(task_id)
        if record.is_final:
            return record
        if live is not None:
            live.scope.cancel()
            await self._held.end(live, Outcome("cancelled"))
            if live.is_final:
                return live.record
            if live.state is LiveState.ENDING:
                raise TaskStoreError("the task is being cancelled, but the task store does not take that now")
        cancelled = await self._calls.run(self._store.cancel, task_id, self._clock.now())
        if cancelled is None:
            raise TaskNotFound("no such task")
        return cancelled

    async def answer(self, record: TaskRecord, answers: Mapping[str, Any]) -> None:
        """Give answers, as JSON, to a task's questions, wherever it runs. Checkpoints. Raises TaskStoreError.

        When this returns, they are stored, if tasks outlive this process. An answer that nobody waits for is
        ignored (SEP-2663). Of several answers to one question, the first that is stored counts.
        """
        live = self._held.find(record.id)
        if live is not None and not self._held.outlive:
            for key, answer in answers.items():
                live.answer(key, answer)
            await trio.lowlevel.checkpoint()
            return
        raw = {key: encode_value(answer) for key, answer in answers.items()}
        await self._calls.run(self._store.answer, record.id, raw, self._clock.now())
        if live is not None:
            await self._held.look(record.id)

    async def list_page(self, owner: Owner, cursor: str | None) -> TaskPage:
        """The tasks of `owner`, newest first; checkpoints. Raises CursorError."""
        page = await self._store.list_page(owner, cursor, self._page_size, self._clock.now())
        if self._store.is_shared:
            return page
        found = [(record, self._held.find(record.id)) for record in page.records]
        return TaskPage([record if live is None else live.shown for record, live in found], page.next_cursor)

    async def forget(self, task_id: str) -> None:
        """Forget a task that has ended, of which no client knows. Checkpoints."""
        self._kept.discard(task_id)
        self._histories.take(task_id)
        await self._calls.run(self._store.delete, task_id)

    def take_history(self, task_id: str) -> Sequence[TaskReport] | None:
        """The reports of a task that no follower has taken yet; None if a follower takes them already."""
        live = self._held.find(task_id)
        return self._histories.take(task_id) if live is None else live.take_history()

    async def read_reports(self, task_id: str, after: int) -> Sequence[StoredReport]:
        """The reports of a task behind the offset `after` that the store keeps, oldest first. Checkpoints.

        They include all that have been reported here until now. Raises TaskStoreError.
        """
        live = self._held.find(task_id)
        if live is not None:
            await self._held.flush(live)
        return await read_newest(self._store, self._calls, task_id, after)

    def give_back_history(self, record: TaskRecord, reports: Sequence[TaskReport]) -> None:
        """Keep `reports`, which were taken but not sent, and later ones, for the next follower."""
        live = self._held.find(record.id)
        if live is not None:
            live.keep_history(reports)
        elif record.expires_at is None or record.expires_at > self._clock.now():
            self._histories.keep(record.id, tuple(reports))


def _admit(record: TaskRecord | None, asker: Owner | None) -> TaskRecord:
    if record is None or not (asker is None or record.owner.admits(asker)):
        raise TaskNotFound("no such task")
    return record
