"""`trio-mcp tasks list`: the tasks of a connection, or of a store, as a table or as JSON.

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
from trio_mcp.cli.tasks.rows import style_status
from trio_mcp.cli.tasks.source import ServerPlace, StorePlace, open_store
from trio_mcp.cli.tasks.store_tasks import StoredSnapshot
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.errors import NotSupportedByEra
from trio_mcp.handlers.meter import show_time
from trio_mcp.printable import one_line
from trio_mcp.tasks.record import Owner, OwnerKind

LISTING_PROTOCOL: Final = "2025-11-25"
"""The only revision in which tasks can be listed."""


SESSION_CHARACTERS: Final = 8

OWNER_KINDS: Final[dict[str, OwnerKind]] = {"principal": "principal", "session": "session"}


async def list_tasks(place: ServerPlace, *, as_json: bool) -> int:
    """Connect, list and print; checkpoints.

    Raises CommandError if the protocol cannot list tasks, and what `open_client` and
    `Client.list_tasks` raise.
    """
    async with open_plain_client(place.command, protocol=place.protocol) as client:
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


async def list_stored(place: StorePlace, *, owner: str | None, as_json: bool) -> int:
    """List the tasks of a store, and print; checkpoints.

    `owner` is as `read_owner` takes it; without one the tasks are those of everybody. Raises
    CommandError for an owner that there cannot be, and TaskStoreError.
    """
    whose = None if owner is None else read_owner(owner)
    async with open_store(place.url, read_only=True) as store:
        tasks = await store.list_tasks(whose)
    if as_json:
        print_json([as_stored_object(task) for task in tasks])
    elif tasks:
        print_rich(make_stored_table(tasks, datetime.now(UTC)))
    else:
        print_text("no tasks")
    return SUCCEEDED


def read_owner(text: str) -> Owner:
    """Read the name of a principal, or `session:ID`, or `anybody` for tasks that whoever has the id may see.

    `principal:NAME` is for a principal whose name looks otherwise. Raises CommandError.
    """
    kind, colon, name = text.partition(":")
    if text == "anybody":
        return Owner("bearer")
    if not colon or kind not in OWNER_KINDS:
        kind, name = "principal", text
    if not name:
        raise CommandError(f"{text!r} is no owner: say NAME, session:ID or anybody")
    return Owner(OWNER_KINDS[kind], name)


def show_owner(owner: Owner) -> str:
    """An owner in a table, as `read_owner` reads it; of the id of a session only the beginning."""
    if owner.kind == "bearer":
        return "anybody"
    if owner.kind == "session":
        return f"session:{owner.name[:SESSION_CHARACTERS]}"
    looks_otherwise = owner.name == "anybody" or owner.name.partition(":")[0] in OWNER_KINDS
    return f"principal:{owner.name}" if looks_otherwise else owner.name


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


def as_stored_object(task: StoredSnapshot) -> dict[str, Any]:
    """The same for a task of a store, with its tool, its owner and how often it was begun."""
    owner = {"kind": task.owner.kind, "name": task.owner.name}
    return {**as_object(task.snapshot), "tool": task.tool, "owner": owner, "attempt": task.attempt}


def make_table(tasks: list[TaskSnapshot], now: datetime) -> Table:
    """A row for each task: id, status, age and message."""
    table = _start_table()
    table.add_column("Message", overflow="fold", ratio=1)
    for task in tasks:
        table.add_row(Text(one_line(task.id)), style_status(task.status), _age(task, now), _message(task))
    return table


def make_stored_table(tasks: list[StoredSnapshot], now: datetime) -> Table:
    """A row for each task: id, status, age, tool, owner and message."""
    table = _start_table()
    table.add_column("Tool", overflow="fold")
    table.add_column("Owner", overflow="fold")
    table.add_column("Message", overflow="fold", ratio=1)
    for stored in tasks:
        task = stored.snapshot
        table.add_row(
            Text(one_line(task.id)),
            style_status(task.status),
            _age(task, now),
            Text(one_line(stored.tool)),
            Text(one_line(show_owner(stored.owner))),
            _message(task),
        )
    return table


def _start_table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Task", style="bold", overflow="fold")
    table.add_column("Status", no_wrap=True)
    table.add_column("Age", justify="right", no_wrap=True)
    return table


def _age(task: TaskSnapshot, now: datetime) -> str:
    return "" if task.created_at is None else show_time(max((now - task.created_at).total_seconds(), 0))


def _message(task: TaskSnapshot) -> Text:
    return Text(one_line(task.status_message or task.message or ""))
