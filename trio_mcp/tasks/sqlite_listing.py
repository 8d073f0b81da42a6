"""What is listed of the tables of a `SQLiteTaskStore`: pages of tasks, and the reports of one.

Owns the order of both. Each function is a part of a transaction that others begin and end.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from trio_mcp.tasks.cursors import Place
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.sqlite_tables import ALIVE, Tables
from trio_mcp.tasks.stored_codec import decode_record, decode_report, from_microseconds, to_microseconds
from trio_mcp.tasks.stored_task import StoredReport


def list_page(
    tables: Tables, owner: str | None, before: Place | None, limit: int, now: int
) -> tuple[list[TaskRecord], Place | None]:
    """Up to `limit` records, newest first, before a place; and the last one's place if there are more."""
    number = "t.seq" if owner is None else "t.number"
    where = ["t.is_listed", ALIVE]
    parameters: list[Any] = [now]
    if owner is not None:
        where.append("t.owner = ?")
        parameters.append(owner)
    if before is not None:
        where.append(f"(t.created_at, {number}) < (?, ?)")
        parameters += [to_microseconds(before[0]), min(before[1], 2**63 - 1)]
    rows = tables.db.execute(
        f"SELECT t.created_at, {number}, t.record FROM tasks t WHERE {' AND '.join(where)}"
        f" ORDER BY t.created_at DESC, {number} DESC LIMIT ?",
        (*parameters, limit + 1),
    ).fetchall()
    records = [tables.decode(decode_record, record) for _, _, record in rows[:limit]]
    if len(rows) <= limit:
        return records, None
    created_at, last, _ = rows[limit - 1]
    return records, (from_microseconds(created_at), last)


def read_reports(tables: Tables, task_id: str, after: int, limit: int) -> list[StoredReport]:
    """Up to `limit` reports behind `after`."""
    rows = tables.db.execute(
        "SELECT r.data FROM tasks t CROSS JOIN reports r ON r.task = t.seq"
        " WHERE t.id = ? AND r.last > ? ORDER BY r.until LIMIT ?",
        (task_id, after, limit),
    ).fetchall()
    reports = [report for (data,) in rows for report in tables.decode(_decode_reports, data)]
    return [report for report in reports if report.offset > after][:limit]


def _decode_reports(data: bytes) -> list[StoredReport]:
    return [decode_report(raw) for raw in msgspec.json.decode(data, type=list[Raw])]
