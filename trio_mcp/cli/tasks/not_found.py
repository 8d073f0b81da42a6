"""The message about a task that the server or the store does not have.

Owns its words, which are the same for every command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trio_mcp.cli.status import CommandError
from trio_mcp.errors import TaskNotFound


@contextmanager
def explaining_not_found(task_id: str, noun: str) -> Iterator[None]:
    """Raise CommandError if the block raises TaskNotFound; `noun` is what does not have the task."""
    try:
        yield
    except TaskNotFound:
        raise CommandError(f"the {noun} has no task {task_id!r}, or no longer") from None
