"""A store in memory that lists the tasks of everybody, as a durable store does."""

from __future__ import annotations

from datetime import datetime

from trio_mcp import MemoryTaskStore
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.store import TaskPage
from trio_mcp.tasks.stored_task import StoredTask, TaskWork


class ListedStore(MemoryTaskStore):
    """Until MemoryTaskStore lists them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    async def create(
        self,
        record: TaskRecord,
        work: TaskWork | None = None,
        *,
        key: str | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        self.ids.insert(0, record.id)
        return await super().create(record, work, key=key, is_queued=is_queued)

    async def list_page(self, owner: Owner | None, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        if owner is not None:
            return await super().list_page(owner, cursor, limit, now)
        start = int(cursor or 0)
        found = [await self.get(ident, now) for ident in self.ids[start : start + limit]]
        more = str(start + limit) if start + limit < len(self.ids) else None
        return TaskPage([record for record in found if record is not None], more)
