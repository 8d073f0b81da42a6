"""What `SQLiteTaskStore` asks of its thread.

Owns the kinds of jobs, and what a transaction has changed. Knows no SQL.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import outcome
import trio

from trio_mcp.errors import TaskTooLarge
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.sqlite_schema import REPORTS
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_codec import encode_record, encode_report, to_microseconds


class JobKind(enum.Enum):
    """What a job needs: nothing but a look, a commit at once, or one that may wait for others."""

    READ = "read"
    WRITE = "write"
    PROGRESS = "progress"


@attrs.define(eq=False)
class Job:
    """One call of the store. `run` is what the thread does with its tables, `result` what came of it."""

    kind: JobKind
    run: Callable[[Any], Any]
    task: trio.lowlevel.Task | None = None
    result: outcome.Outcome[Any] | None = None


@attrs.define(eq=False)
class NewTask:
    """A task to be created: the values of its row, and its work as bytes."""

    record: TaskRecord
    row: tuple[Any, ...]
    work: bytes | None
    key: str | None
    is_queued: bool
    refusal: TaskTooLarge | None


@attrs.define(eq=False)
class EncodedChange:
    """A change of a task, and its record and reports as bytes; `count` says how many reports it had."""

    change: TaskChange
    record: bytes
    expires_at: int | None
    reports: bytes | None
    count: int
    last: int
    refusal: TaskTooLarge | None = None

    @classmethod
    def of(cls, change: TaskChange, refusal: TaskTooLarge | None = None) -> EncodedChange:
        """The change with its bytes."""
        record, reports = change.record, change.reports[-REPORTS:]
        return cls(
            change=change,
            record=encode_record(record),
            expires_at=None if record.expires_at is None else to_microseconds(record.expires_at),
            reports=b"[" + b",".join(map(encode_report, reports)) + b"]" if reports else None,
            count=len(reports),
            last=reports[-1].offset if reports else 0,
            refusal=refusal,
        )


@attrs.define(eq=False)
class CreateJob(Job):
    """Keep a new task; several are done by one statement."""

    new: NewTask = attrs.field(kw_only=True)


@attrs.define(eq=False)
class PutJob(Job):
    """Keep changes; those of several jobs are done by the same statements."""

    changes: Sequence[EncodedChange] = attrs.field(kw_only=True)


@attrs.define
class Told:
    """What a transaction has changed, in order: records, ids that are gone, and whether tasks were queued."""

    records: list[TaskRecord] = attrs.field(factory=list)
    gone: list[str] = attrs.field(factory=list)
    is_queued: bool = False

    def add(self, other: Told) -> None:
        """Add what a later transaction has changed."""
        self.records += other.records
        self.gone += other.gone
        self.is_queued = self.is_queued or other.is_queued
