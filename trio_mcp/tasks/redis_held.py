"""What this process knows of the tasks that it holds in a Redis or Valkey server.

Owns the ids, those that another process has changed, and what is in doubt because an answer of the server was
lost. Sends nothing.
"""

from __future__ import annotations

from typing import Final

import trio

_MAX_CREATED: Final = 10_000
"""Tasks that may have been created without an answer; beyond, the sweeper ends them with this process."""


class HeldIds:
    """Ids of tasks; all of it is bounded by what is held, but for a bounded number in doubt."""

    def __init__(self) -> None:
        self.maybe_created: dict[str, None] = {}
        """Tasks of calls of `create` that had no answer: nobody knows them, so nobody runs them."""
        self.are_in_doubt = False
        """Whether tasks may be held here of which this process does not know, or which it gave up."""
        self._ids: set[str] = set()
        self._changed: dict[str, None] = {}
        self._waiting = trio.lowlevel.ParkingLot()

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def is_empty(self) -> bool:
        """Whether this process neither holds a task nor may do so without knowing it."""
        return not (self._ids or self.maybe_created or self.are_in_doubt)

    def add(self, task_id: str) -> None:
        """This process holds a task, or will if the server agrees."""
        self._ids.add(task_id)

    def discard(self, task_id: str) -> None:
        """It does not hold it."""
        self._ids.discard(task_id)
        self._changed.pop(task_id, None)

    def doubt_creation(self, task_id: str) -> None:
        """A task may have been created here."""
        self.discard(task_id)
        if len(self.maybe_created) < _MAX_CREATED:
            self.maybe_created[task_id] = None

    def clear(self) -> None:
        """Nothing is held: the lease is lost."""
        self._ids.clear()
        self._changed.clear()
        self.maybe_created.clear()
        self.are_in_doubt = False

    def note_changed(self, task_id: str | None) -> None:
        """Another process has changed a task; None if that may be said of each."""
        if task_id is None:
            self._changed.update(dict.fromkeys(self._ids))
        elif task_id in self._ids:
            self._changed[task_id] = None
        self._waiting.unpark_all()

    async def wait_changed(self) -> str:
        """Wait for the id of a task that another process has changed. Checkpoints."""
        await trio.lowlevel.checkpoint()
        while not self._changed:
            await self._waiting.park()
        task_id = next(iter(self._changed))
        del self._changed[task_id]
        return task_id
