"""The message about a task that the server does not have.

Owns its words, which are the same for every command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trio_mcp.cli.status import CommandError
from trio_mcp.errors import TaskNotFound


@contextmanager
def explaining_not_found(task_id: str) -> Iterator[None]:
    """Raise CommandError with the task's id if the block raises TaskNotFound."""
    try:
        yield
    except TaskNotFound:
        raise CommandError(f"the server has no task {task_id!r}, or no longer") from None
