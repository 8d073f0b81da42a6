"""The records that one process keeps in its store: for whom each counts, and which gives way.

Owns the count of each payer, the order in which tasks ended, and how a new record gets room. Knows
neither what runs nor when a record expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

import trio

from trio_mcp.errors import TaskOverload, TaskTooLarge
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.store import STORE_SECONDS, TaskStore
from trio_mcp.tasks.store_calls import StoreCalls
from trio_mcp.tasks.stored_task import StoredTask, TaskWork

ROOM_TRIES: Final = 3
"""How often a full store is asked again after a record gave way, since another task may take its room."""

LOOKED_AT: Final = 10
"""How many tasks that others run are looked at when there is no room: a refused call costs no more."""


class KeptRecords:
    """The records of this process that its store keeps. Each costs one entry, and two if it has ended or
    is run by another process.

    At most `cap` are kept for each payer. `on_gone` is called with the id of each that gives way.
    """

    __slots__ = (
        "_calls",
        "_cap",
        "_counts",
        "_ended",
        "_ended_of",
        "_on_gone",
        "_payers",
        "_queued_of",
        "_store",
    )

    def __init__(
        self, store: TaskStore, calls: StoreCalls, cap: int, on_gone: Callable[[str], object]
    ) -> None:
        self._store = store
        self._calls = calls
        self._cap = cap
        self._on_gone = on_gone
        self._payers: dict[str, Owner] = {}
        self._counts: Counter[Owner] = Counter()
        self._ended: dict[str, None] = {}  # in the order of their ends
        self._ended_of: dict[Owner, dict[str, None]] = {}  # the same of each payer, never an empty dict
        self._queued_of: dict[Owner, dict[str, None]] = {}  # run by others, who do not tell when they end

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._payers

    def __len__(self) -> int:
        return len(self._payers)

    async def create(
        self,
        record: TaskRecord,
        payer: Owner,
        *,
        key: str | None = None,
        work: TaskWork | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        """Store a new record, which counts for `payer`. Checkpoints. Raises TaskOverload, TaskStoreError.

        Ended tasks give way first: the oldest of the same payer, then, if the store is full, of all.
        If a task has the `key` already, that one is returned, and nothing is stored.
        """
        while self._counts[payer] >= self._cap:  # noqa: ASYNC913  # each turn forgets a record or raises
            if not (await self._give_way(payer) or await self._find_ended(payer)):
                raise TaskOverload(
                    f"overloaded: max_kept_per_owner is {self._cap}, and so many tasks of this client are "
                    "kept"
                )
        self._payers[record.id] = payer  # before the store is asked, or more than the cap could get here
        self._counts[payer] += 1
        if is_queued:
            self._queued_of.setdefault(payer, {})[record.id] = None
        try:
            for _ in range(ROOM_TRIES):
                try:
                    return await self._store_new(record, key, work, is_queued=is_queued)
                except TaskTooLarge:
                    raise  # no room would be enough
                except TaskOverload as error:
                    refusal = error
                if not (await self._give_way(payer) or await self._give_way(None)):
                    raise refusal
            return await self._store_new(record, key, work, is_queued=is_queued)
        except BaseException:
            self.discard(record.id)
            raise

    async def _store_new(
        self, record: TaskRecord, key: str | None, work: TaskWork | None, *, is_queued: bool
    ) -> StoredTask:
        create = partial(self._store.create, key=key, is_queued=is_queued)
        stored = await self._calls.run(create, record, work)
        if stored.record.id != record.id:
            self.discard(record.id)
        return stored

    def note_end(self, task_id: str) -> None:
        """Note that a task has ended, so that its record may give way; one that is not kept is ignored."""
        payer = self._payers.get(task_id)
        if payer is not None:
            self._ended[task_id] = None
            self._ended_of.setdefault(payer, {})[task_id] = None
            _remove(self._queued_of, payer, task_id)

    def discard(self, task_id: str) -> None:
        """Count a record no longer; one that is not kept is ignored."""
        payer = self._payers.pop(task_id, None)
        if payer is None:
            return
        self._counts[payer] -= 1
        if not self._counts[payer]:
            del self._counts[payer]
        if task_id in self._ended:
            del self._ended[task_id]
            _remove(self._ended_of, payer, task_id)
        _remove(self._queued_of, payer, task_id)

    async def _give_way(self, payer: Owner | None) -> bool:
        """Forget the task that ended first, of `payer` or of all; False if none can be forgotten."""
        task_id = next(iter(self._ended if payer is None else self._ended_of.get(payer, ())), None)
        if task_id is None:
            return False
        self.discard(task_id)
        self._on_gone(task_id)
        # Shielded, since nobody would forget the record before it expires.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
            await self._calls.run(self._store.delete, task_id)
        return True

    async def _find_ended(self, payer: Owner) -> bool:
        """Look whether the oldest tasks of `payer` that others run have ended; False if none has."""
        found = False
        for task_id in list(islice(self._queued_of.get(payer, ()), LOOKED_AT)):
            stored = await self._calls.run(self._store.load, task_id)
            if stored is None:
                self.discard(task_id)
            elif stored.record.is_final:
                self.note_end(task_id)
            found = found or stored is None or stored.record.is_final
        return found


def _remove(ids_of: dict[Owner, dict[str, None]], payer: Owner, task_id: str) -> None:
    """Remove an id, if it is there, and keep no empty dict."""
    ids = ids_of.get(payer)
    if ids is not None:
        ids.pop(task_id, None)
        if not ids:
            del ids_of[payer]
