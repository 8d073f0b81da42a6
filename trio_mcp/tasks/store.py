"""The protocol of a task store, which keeps the records of tasks.

Owns what a store must do, and keeps no record itself. Knows no wire. A record is a value: one that a
store returned never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol

import attrs
import trio

from trio_mcp.tasks.record import Owner, TaskRecord

STORE_SECONDS: Final = 5.0
"""How long a shielded call of a store may take while the server is being cancelled."""


@attrs.frozen
class TaskPage:
    """One page of tasks, newest first; `next_cursor` is None on the last one."""

    records: Sequence[TaskRecord]
    next_cursor: str | None


class TaskStore(Protocol):
    """Keeps task records. Every method checkpoints.

    `write_behind` is how many seconds progress may wait before it is put, or None
    if `put` is so cheap that nothing waits. A change of status is always put at once.

    A store may also have `async def delete(self, task_id: str) -> None`, which forgets one record and ends
    its subscriptions, and does nothing if there is none. Without it no ended task gives way to a new one.
    """

    write_behind: float | None

    async def create(self, record: TaskRecord) -> None:
        """Keep a new record; when this returns, `get` finds it.

        Raises TaskOverload if a cap is reached, which is TaskTooLarge if no room would be enough;
        ValueError if the id exists.
        """

    async def get(self, task_id: str, now: datetime) -> TaskRecord | None:
        """The record, or None if there is none or it has expired by `now`."""

    async def put(self, record: TaskRecord) -> None:
        """Keep `record` in place of its older version; does nothing if it is not newer, or there is none.

        Raises TaskTooLarge if it is larger than the cap on size.
        """

    async def list_page(self, owner: Owner, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        """The tasks that `owner` owns, newest first.

        Raises CursorError for a cursor that was not given to this owner.
        """

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        """Forget what has expired by `now`, and return the ids."""

    def subscribe(self, task_id: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of the record's changes from now on, which ends when the record is forgotten.

        The newest version is always delivered; older ones may be skipped if the reader is slow.
        """
