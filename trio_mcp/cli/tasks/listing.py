"""`trio-mcp tasks list`: the tasks that a server has for this connection, as a table or as JSON.

Owns the layout of both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from trio_mcp.cli.connection import open_plain_client
from trio_mcp.cli.output import print_json, print_rich, print_text
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.cli.tasks.rows import style_status
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.errors import NotSupportedByEra
from trio_mcp.handlers.meter import show_time
from trio_mcp.printable import one_line

LISTING_PROTOCOL: Final = "2025-11-25"
"""The only revision in which tasks can be listed."""


async def list_tasks(command: CommandTarget, *, protocol: str, as_json: bool) -> int:
    """Connect, list and print; checkpoints.

    Raises CommandError if the protocol cannot list tasks, and what `open_client` and
    `Client.list_tasks` raise.
    """
    async with open_plain_client(command, protocol=protocol) as client:
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
