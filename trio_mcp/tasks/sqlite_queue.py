"""The queue in the tables of a `SQLiteTaskStore`, and what becomes of the tasks of dead processes.

Owns how tasks are claimed and recovered. Each function is a part of a transaction that others begin and end.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter

from msgspec.structs import replace

from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.recovery import recovered
from trio_mcp.tasks.sqlite_tables import ALIVE, Tables
from trio_mcp.tasks.stored_codec import from_microseconds
from trio_mcp.tasks.stored_task import StoredTask


def claim(tables: Tables, tools: Collection[str], limit: int, now: int) -> list[StoredTask]:
    """Claim tasks that are ready by `now`, in the order in which they were queued.

    Costs what is returned, and the tasks of other tools that stand before it.
    """
    tables.db.execute("UPDATE tasks SET ready_at = NULL WHERE ready_at <= ?", (now,))
    moment = from_microseconds(now)
    claimed: list[StoredTask] = []
    for seq, task in tables.find_all(
        f"t.queued IS NOT NULL AND t.ready_at IS NULL AND {ALIVE} AND {_of(tools)} ORDER BY t.queued LIMIT ?",
        *(now, *tools, limit),
    ):
        record = task.record.changed(moment, attempt=task.record.attempt + 1)
        tables.replace(record)
        tables.db.execute(
            "UPDATE tasks SET holder = ?, claim = claim + 1, queued = NULL WHERE seq = ?",
            (tables.holder, seq),
        )
        claimed.append(replace(task, record=record, holder=tables.holder, claim=task.claim + 1))
    return claimed


def next_ready(tables: Tables, tools: Collection[str], now: int) -> int | None:
    """When a task of `tools` that is queued may be claimed, `now` for at once; None if there is none."""
    of_tools, parameters = f"{ALIVE} AND {_of(tools)}", (now, *tools)
    if tables.db.execute(
        f"SELECT 1 FROM tasks t WHERE t.queued IS NOT NULL AND t.ready_at IS NULL AND {of_tools} LIMIT 1",
        parameters,
    ).fetchone():
        return now
    row = tables.db.execute(
        f"SELECT t.ready_at FROM tasks t WHERE t.ready_at IS NOT NULL AND {of_tools}"
        " ORDER BY t.ready_at LIMIT 1",
        parameters,
    ).fetchone()
    return None if row is None else int(row[0])


def next_expiry(tables: Tables) -> int | None:
    """When the next task expires."""
    row = tables.db.execute(
        "SELECT expires_at FROM tasks WHERE expires_at IS NOT NULL ORDER BY expires_at LIMIT 1"
    ).fetchone()
    return None if row is None else int(row[0])


def recover(tables: Tables, now: int) -> list[TaskRecord]:
    """Queue or fail the tasks of those who had the file before, and return their records."""
    moment = from_microseconds(now)
    records: list[TaskRecord] = []
    tasks = tables.find_all(f"t.holder IS NOT NULL AND t.holder <> ? AND {ALIVE}", tables.holder, now)
    for _, task in sorted(tasks, key=itemgetter(0)):
        record = recovered(task, moment).record
        tables.replace(record)
        if not record.is_final:
            tables.enqueue(record.id)
        records.append(record)
    return records


def _of(tools: Collection[str]) -> str:
    """The condition that a task is of one of `tools`."""
    return f"t.tool IN ({','.join('?' * len(tools))})"
