"""What every store refuses.

Owns these checks and their messages. Knows no store.
"""

from __future__ import annotations

from trio_mcp.errors import TaskOverload, TaskTooLarge
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.record_size import record_size
from trio_mcp.wire.errors import LocalProtocolError


def require_size(record: TaskRecord, max_record_bytes: int) -> None:
    """Raise TaskTooLarge if `record` is larger than `max_record_bytes`."""
    size = record_size(record)
    if size > max_record_bytes:
        raise TaskTooLarge(f"max_record_bytes is {max_record_bytes}, and task {record.id} would take {size}")


def require_same_task(before: TaskRecord, after: TaskRecord) -> None:
    """Raise LocalProtocolError if what never changes of a task is another in a newer record."""
    if after.tool != before.tool:
        name = "tool"
    elif after.owner != before.owner:
        name = "owner"
    elif after.created_at != before.created_at:
        name = "created_at"
    else:
        return
    raise LocalProtocolError(f"{name} of task {after.id} is another now; it must never change")


def full_store(max_records: int) -> TaskOverload:
    """The error of a store that keeps `max_records` tasks."""
    return TaskOverload(
        f"max_records is {max_records}, and so many tasks are kept; another fits when one of them has expired"
    )
