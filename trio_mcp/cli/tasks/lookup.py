"""`trio-mcp tasks list`, `result` and `cancel`: looking at tasks that exist already.

Owns the layout of the list and the words for what became of a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from trio_mcp.cli.calling import print_result
from trio_mcp.cli.connecting import open_connection
from trio_mcp.cli.output import print_json, print_rich, print_text
from trio_mcp.cli.status import SUCCEEDED, TOOL_FAILED, CommandError
from trio_mcp.cli.tasks.bars import show_status, style_status
from trio_mcp.client.client import open_client
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.errors import NotSupportedByEra, TaskNotFound
from trio_mcp.handlers.meter import show_time
from trio_mcp.handlers.plain_text import one_line
from trio_mcp.handlers.sink import detailed

LISTING_PROTOCOL: Final = "2025-11-25"
"""The only revision in which tasks can be listed."""


async def list_tasks(command: list[str] | str, *, protocol: str, as_json: bool) -> int:
    """Connect, list and print; checkpoints.

    Raises CommandError where the protocol has no list, and what `open_client` and
    `Client.list_tasks` raise.
    """
    async with open_client(command, protocol=protocol) as client:
        try:
            tasks = await client.list_tasks()
        except NotSupportedByEra as error:
            raise CommandError(f"{error}; --protocol {LISTING_PROTOCOL} can") from None
    if as_json:
        print_json([as_object(task) for task in tasks])
    elif tasks:
        print_rich(make_table(tasks, datetime.now(UTC)))
    else:
        print_text("no tasks")
    return SUCCEEDED


async def print_task_result(
    command: list[str] | str, task_id: str, *, protocol: str, structured: bool, quiet: bool
) -> int:
    """Wait for a task with its progress on stderr, and print its result as `call` does; checkpoints.

    Raises CommandError for a task that does not exist, and what `open_client` and
    `Client.await_task` raise.
    """
    async with open_connection(command, protocol=protocol, quiet=quiet) as connection:
        async with connection.open_display(task_id) as display:
            with naming(task_id):
                result = await connection.client.await_task(
                    task_id,
                    progress_handler=None if quiet else detailed(display.receive),
                    raise_on_error=False,
                )
        return print_result(f"the task {task_id!r}", result, structured=structured)


async def cancel_task(command: list[str] | str, task_id: str, *, protocol: str) -> int:
    """Cancel a task and say what it is then; checkpoints. Raises as `print_task_result` does."""
    async with open_client(command, protocol=protocol) as client:
        with naming(task_id):
            await client.cancel_task(task_id)
            task = await client.fetch_task(task_id)
    if task.status == "cancelled":
        print_text(f"{task_id} is cancelled")
    elif task.is_final:
        print_text(f"{task_id} has ended: {task.status}")
        return TOOL_FAILED
    else:
        print_text(f"{task_id} is asked to end, and {show_status(task.status)} still")
    return SUCCEEDED


@contextmanager
def naming(task_id: str) -> Iterator[None]:
    """Raise CommandError with the task's id where the block raises TaskNotFound."""
    try:
        yield
    except TaskNotFound:
        raise CommandError(f"the server has no task {task_id!r}, or no longer") from None


def as_object(task: TaskSnapshot) -> dict[str, Any]:
    """A task as JSON: times in ISO 8601, lengths of time in seconds; absent values are left out."""
    values = {
        "id": task.id,
        "status": task.status,
        "statusMessage": task.status_message,
        "createdAt": task.created_at,
        "lastUpdatedAt": task.last_updated_at,
        "ttl": task.ttl,
        "pollInterval": task.poll_interval,
        "current": task.current,
        "total": task.total,
        "message": task.message,
        "rate": task.rate,
        "eta": task.eta,
    }
    return {key: value for key, value in values.items() if value is not None}


def make_table(tasks: list[TaskSnapshot], now: datetime) -> Table:
    """A row for each task: id, status, age and message."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Task", style="bold", overflow="fold")
    table.add_column("Status", no_wrap=True)
    table.add_column("Age", justify="right", no_wrap=True)
    table.add_column("Message", overflow="fold", ratio=1)
    for task in tasks:
        age = "" if task.created_at is None else show_time(max((now - task.created_at).total_seconds(), 0))
        table.add_row(
            Text(one_line(task.id)),
            style_status(task.status),
            age,
            Text(one_line(task.status_message or task.message or "")),
        )
    return table
