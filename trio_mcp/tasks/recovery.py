"""What becomes of a task whose process has died.

Owns the one rule of all stores: the task is run again if its tool allows that and attempts are left, or if it
was claimed and never begun; it fails otherwise. Knows no store.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from trio_mcp.tasks.record import Outcome, TaskStatus
from trio_mcp.tasks.stored_task import StoredTask
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.frames import ErrorObject

INTERRUPTED: Final = "interrupted: the process that ran the task has ended"

MAX_CLAIMS: Final = 10
"""A task that has been claimed so often without being begun ends its processes by itself, somehow."""


def recovered(task: StoredTask, now: datetime) -> StoredTask:
    """The task as it is once its holder is known to be dead: in the queue, or failed.

    Progress and, in the queue, questions and answers are kept. A task whose work is not known fails. One that
    was claimed, and whose process died before the attempt was counted, was not begun, so that it may be begun
    whatever its tool allows.
    """
    record, work = task.record, task.work
    if work is not None and (
        (work.recover == "restart" and record.attempt < work.attempts)
        or (record.attempt == 0 and task.claim < MAX_CLAIMS)
    ):
        return replace(task, record=record.changed(now), holder=None, ready_at=None)
    tries = (
        f" (attempt {record.attempt} of {work.attempts})" if work is not None and work.attempts > 1 else ""
    )
    error = ErrorObject(INTERNAL_ERROR, INTERRUPTED + tries)
    failed = record.moved(
        TaskStatus.FAILED,
        now,
        outcome=Outcome("protocol_error", error=error),
        inputs={},
        status_message=error.message,
    )
    return replace(task, record=failed, work=None, holder=None, ready_at=None, checkpoint=None, answers={})
