"""Calls of a task store that may fail.

Owns that a store which fails raises TaskStoreError, whatever its own error is, and that an outage is logged
once, not once for each call. Knows no task.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, TypeVarTuple

from trio_mcp.errors import TaskOverload, TaskStoreError

logger = logging.getLogger("trio_mcp.tasks")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FIRST_PAUSE: Final = 0.1
"""Seconds before a store that has failed is called again; doubled from failure to failure."""

MOST_PAUSE: Final = 5.0
"""The longest such pause: a lease of 15 s is still renewed in time when the store is back."""


class StoreCalls:
    """Makes the calls of one store."""

    __slots__ = ("_is_failing",)

    def __init__(self) -> None:
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<StoreCalls: the store {'fails' if self._is_failing else 'works'}>"

    async def run(self, call: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Return what `call(*args)` returns; checkpoints.

        Raises TaskOverload if the store has no room, and TaskStoreError for every other error.
        """
        try:
            result = await call(*args)
        except TaskOverload:
            raise
        except Exception as error:  # foreign code: a store that fails must not end the server
            self.note_failure(error)
            if isinstance(error, TaskStoreError):
                raise
            raise TaskStoreError(f"the task store failed: {error}") from error
        if self._is_failing:
            self._is_failing = False
            logger.warning("the task store works again")
        return result

    def note_failure(self, error: Exception) -> None:
        """Log an error of the store, unless it is failing already."""
        if self._is_failing:
            return
        self._is_failing = True
        # What a store says by itself is clear without its traceback.
        traceback = None if isinstance(error, TaskStoreError) else error
        logger.error("the task store fails: %s", error, exc_info=traceback)


def longer(pause: float) -> float:
    """The pause after the next failure."""
    return min(2 * pause, MOST_PAUSE)
