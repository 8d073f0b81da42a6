"""A place where one task sleeps until another wakes it.

Owns the sleep. Refuses to know the condition: a task that wakes up checks it itself.
A `trio.lowlevel.ParkingLot` does this for many tasks, and for one it takes longer: a call in memory
spends a tenth of its time on the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio


class Wakeup:
    """A place for one task to sleep in; waking it does not wait."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def park(self) -> None:
        """Sleep until `unpark` is called; checkpoints. A second task must not sleep here."""
        assert self._task is None, "one task at a time"
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def unpark(self) -> None:
        """Wake the task that sleeps here, if one does."""
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def _abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
