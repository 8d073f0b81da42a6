"""The protocol of a task store, which keeps the records of tasks.

Owns what a store must do, and keeps no record itself. Knows no wire. A record is a value: one that a
store returned never changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol

import trio
from msgspec import Raw, Struct

from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.stored_task import StoredReport, StoredTask, TaskWork

STORE_SECONDS: Final = 5.0
"""How long a shielded call of a store may take while the server is being cancelled."""

EXPIRY_SECONDS: Final = 60.0
"""How long after a task has expired a process that did not run it looks for it, if a store is shared."""


class TaskPage(Struct, frozen=True):
    """One page of tasks, newest first; `next_cursor` is None on the last one."""

    records: Sequence[TaskRecord]
    next_cursor: str | None


class TaskChange(Struct, frozen=True):
    """A newer version of a task's record, under the claim by which this process holds the task.

    `reports` are those since the change before, oldest first; the store appends them to what it keeps of
    them. `checkpoint` is a new value of the handler's, as JSON; None leaves the old one.
    """

    record: TaskRecord
    claim: int = 1
    reports: Sequence[StoredReport] = ()
    checkpoint: Raw | None = None


class TaskStore(Protocol):
    """Keeps tasks. Every method checkpoints. None but `open` may be called outside of `open`.

    A task is held by the process that runs it, under a claim: a number that grows each time the task is
    claimed. What comes under an older claim, or from a process that does not hold the task, changes nothing.
    A method that a store cannot carry out, because what it stands on fails, raises TaskStoreError.

    `write_behind` is how many seconds progress may wait for the next before both are put, or None
    if `put` is so cheap that nothing waits. A change of status is always put at once.
    `sweep_interval` is how many seconds lie at least between two calls of `recover` and `delete_expired`, or
    None if only this process makes tasks here, and tasks do not outlive it.
    `put_timeout` is how many seconds a `put` may take before it is cancelled and counts as failed; None if
    the store sees to that itself. `is_shared` says whether other processes may change tasks at the same time.
    """

    write_behind: float | None
    put_timeout: float | None
    sweep_interval: float | None
    is_shared: bool

    def open(self) -> AbstractAsyncContextManager[None]:
        """Connect to what keeps the tasks, for as long as the block lasts.

        Entering raises TaskStoreError if that cannot be done: the message says why. When the block ends, the
        tasks that are held count as those of a process that has died.
        """

    async def create(
        self,
        record: TaskRecord,
        work: TaskWork | None = None,
        *,
        key: str | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        """Keep a new task; when this returns, `get` finds it.

        This process holds it under claim 1, unless it `is_queued` for whoever claims it. If a task that
        has not expired was created with the same `key`, that one is returned and nothing is kept.

        Raises TaskOverload if a cap is reached, which is TaskTooLarge if no room would be enough;
        ValueError if the id exists.
        """

    async def get(self, task_id: str, now: datetime) -> TaskRecord | None:
        """The record, or None if there is none or it has expired by `now`."""

    async def load(self, task_id: str) -> StoredTask | None:
        """All that is kept of a task, or None if there is none."""

    async def put(self, changes: Sequence[TaskChange]) -> Collection[str]:
        """Keep each record in place of its older version; returns the ids of tasks that are lost.

        A task is lost if it is not held under the claim of the change, is final already, or is not there.
        A change whose record is not newer changes nothing. If a record is final, the task is held by
        nobody any more, and its work, checkpoint and answers are forgotten.

        If a record is larger than the cap on size, none is kept, and TaskTooLarge is raised.
        """

    async def release(self, record: TaskRecord, claim: int, ready_at: datetime | None = None) -> bool:
        """Put a task that is held under `claim` back into the queue; False if it is lost.

        It is claimed again at `ready_at` or later.
        """

    async def claim(self, tools: Collection[str], limit: int, now: datetime) -> Sequence[StoredTask]:
        """Claim up to `limit` tasks of `tools` that are in the queue and ready by `now`, oldest first.

        The claim and the attempt of each are one higher than before.
        """

    async def wait_claimable(self, tools: Collection[str], now: datetime) -> None:
        """Wait until `claim` may return something, counted from `now`; may return too early."""

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        """Take the tasks of processes that have died, and return their records as they are then.

        Each is put back into the queue or fails, as `recovery.py` says.
        """

    async def wait_sweep(self, now: datetime) -> None:
        """Wait until `recover` or `delete_expired` may find something, counted from `now`.

        May return too early: a store that cannot tell returns at once, and is swept at each `sweep_interval`.
        What this process has created or claimed may be left out, since it forgets that when it expires.
        """

    async def answer(self, task_id: str, answers: Mapping[str, Raw], now: datetime) -> None:
        """Keep answers to questions of a task, whoever holds it.

        An answer to no question of the record, or to one that has an answer, is ignored.
        """

    async def cancel(self, task_id: str, now: datetime) -> TaskRecord | None:
        """Move a task to "cancelled", whoever holds it, and return its record; None if there is none.

        One that has ended stays as it is.
        """

    async def wait_changed(self) -> str:
        """Wait until a task that is held here was changed by another; returns its id.

        Changed are tasks that were cancelled, answered, deleted or claimed by another process. A store that
        may have missed a change names each task that is held.
        """

    async def wait_lost(self) -> None:
        """Wait until this process holds none of its tasks any more, because others take it for dead.

        Returns before others can claim them. What is created and claimed afterwards is held anew.
        """

    async def list_page(self, owner: Owner | None, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        """The tasks that `owner` owns, newest first, without those whose work says that it is not listed.

        None stands for everybody, for those who administer the store. Raises CursorError for a cursor that
        was not given to this owner.
        """

    async def read_reports(self, task_id: str, after: int, limit: int) -> Sequence[StoredReport]:
        """The oldest reports, up to `limit`, that are kept of a task behind the offset `after`."""

    async def delete(self, task_id: str) -> None:
        """Forget a task and end its subscriptions; does nothing if there is none."""

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        """Forget what has expired by `now`, and return the ids."""

    def subscribe(self, task_id: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of the record's changes from now on, which ends when the record is forgotten.

        The newest version is always delivered; older ones may be skipped if the reader is slow.
        """
