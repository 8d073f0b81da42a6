"""The state of a background task at one moment, as a client reads it.

Owns the reading of tasks from the wire of either era. Refuses to know how they were asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from trio_mcp.errors import RemoteProtocolError
from trio_mcp.wire.frames import ErrorObject, Number, StageState, Update
from trio_mcp.wire.messages import META_OFFSET, META_REPORTS
from trio_mcp.wire.progress_codec import PROGRESS_META, STAGES_META
from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly

Status: TypeAlias = Literal["working", "input_required", "completed", "failed", "cancelled"]

FINAL: Final = frozenset({"completed", "failed", "cancelled"})
MILLISECONDS: Final = 1000
MAX_MILLISECONDS: Final = 10**15
"""Some thirty thousand years; longer times of a server are ignored."""


class SnapshotReport(msgspec.Struct, array_like=True, frozen=True):
    """One report: `at` is in microseconds since 1970; `offset` is its number, 0 if the server has none."""

    at: int
    current: Number | None
    total: Number | None
    message: str | None
    offset: int = 0


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class TaskSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a task at one moment. `ttl` and `poll_interval` are in seconds, times are aware.

    `current`, `total`, `message` and `reported_at` belong to the last report, as
    far as the server sends them; `status_message` is a text for people. `rate` is the progress
    per second and `eta` the seconds that were left at that report, if a trio_mcp server knows them;
    `stages` are the stages that were open then, as in `Progress`, or None if the server says nothing
    about stages. A result with a tool error has the status "failed" in 2025-11-25 and "completed"
    in the tasks extension.
    """

    id: str
    status: Status
    status_message: str | None = None
    created_at: datetime | None = None
    last_updated_at: datetime | None = None
    ttl: float | None = None
    poll_interval: float | None = None
    current: float | None = None
    total: float | None = None
    message: str | None = None
    reported_at: datetime | None = None
    rate: float | None = None
    eta: float | None = None
    stages: tuple[StageState, ...] | None = None
    _result: msgspec.Raw | None = None
    _error: ErrorObject | None = None
    _questions: Mapping[str, Any] = {}

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self.status in FINAL

    @property
    def has_progress(self) -> bool:
        """Whether the task has reported, and the server sends the report."""
        return self.reported_at is not None


class TaskNews(msgspec.Struct, frozen=True, eq=False):
    """What one message says about a task: the public snapshot, and what only the client itself uses.

    `reports` are the reports since the previous message, if the server sends them. `offset` is that of the
    newest report that the snapshot includes, 0 if the server has none.
    """

    snapshot: TaskSnapshot
    reports: Sequence[SnapshotReport] = ()
    offset: int = 0

    @property
    def result(self) -> msgspec.Raw | None:
        """The encoded result of the tool, or None."""
        return self.snapshot._result

    @property
    def error(self) -> ErrorObject | None:
        """The error with which the task has ended, or None."""
        return self.snapshot._error

    @property
    def questions(self) -> Mapping[str, Any]:
        """The open questions of the task, by their keys."""
        return self.snapshot._questions

    @property
    def all_reports(self) -> Sequence[SnapshotReport]:
        """The reports, with the newest of the snapshot behind them, which may be the last of them again."""
        new = self.snapshot
        if not new.has_progress:
            return self.reports
        # Of the newest nobody asks for the time.
        return [*self.reports, SnapshotReport(0, new.current, new.total, new.message, self.offset)]

    def without_reports_before(self, old: TaskSnapshot) -> TaskNews:
        """Return the news without the reports that `old`, the result of a poll, has included already."""
        if not self.reports or old.reported_at is None:
            return self
        at = (old.reported_at - _EPOCH) // _MICROSECOND
        known = (old.current, old.total, old.message)
        newer = [report for report in self.reports if report.at >= at]
        for index, report in enumerate(newer):  # within one tick of the clock
            if report.at == at and (report.current, report.total, report.message) == known:
                newer = newer[index + 1 :]
                break
        return TaskNews(self.snapshot, newer, self.offset)

    def raised_to(self, floor: float) -> TaskNews:
        """Return the news with no progress below `floor`, of which the task has told already.

        Another process may have begun the task again, from what was stored of its progress.
        """
        first = self.reports[0].current if self.reports else None
        current = self.snapshot.current
        if (first is None or first >= floor) and (current is None or current >= floor):
            return self
        snapshot = self.snapshot if current is None else replace(self.snapshot, current=max(current, floor))
        reports = [
            report if report.current is None or report.current >= floor else replace(report, current=floor)
            for report in self.reports
        ]
        return TaskNews(snapshot, reports, self.offset)


class _Progress(msgspec.Struct, rename="camel"):
    current: Number | None = None
    total: Number | None = None
    message: str | None = None
    reported_at: datetime | None = None
    rate: Number | None = None
    eta: Number | None = None


class _Meta(msgspec.Struct):
    progress: _Progress | None = msgspec.field(name=PROGRESS_META, default=None)
    reports: list[SnapshotReport] = msgspec.field(name=META_REPORTS, default_factory=list)
    stages: tuple[StageState, ...] | None = msgspec.field(name=STAGES_META, default=None)
    offset: int = msgspec.field(name=META_OFFSET, default=0)


class _Task(msgspec.Struct, rename="camel"):
    task_id: str
    status: Status
    status_message: str | None = None
    created_at: datetime | None = None
    last_updated_at: datetime | None = None
    ttl: int | float | None = None
    ttl_ms: int | float | None = None
    poll_interval: int | float | None = None
    poll_interval_ms: int | float | None = None
    result: msgspec.Raw | UnsetType = UNSET
    error: ErrorObject | None = None
    input_requests: dict[str, Any] | None = None
    meta: _Meta | None = msgspec.field(name="_meta", default=None)


_task_decoder: Final = msgspec.json.Decoder(_Task)


def read_snapshot(raw: msgspec.Raw | bytes) -> TaskSnapshot:
    """Read a task, of either era; raises RemoteProtocolError if it is malformed."""
    return read_task(raw).snapshot


def read_task(raw: msgspec.Raw | bytes) -> TaskNews:
    """Read a task, of either era, with its reports; raises RemoteProtocolError if it is malformed."""
    try:
        task = _task_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        task = _read_flawed(raw)
    return _make_news(task)


def _read_flawed(raw: msgspec.Raw | bytes) -> _Task:
    """Read what is readable of a task: its times and its progress are for display."""
    try:
        task: _Task = read_tolerantly(raw, _Task, "the server's task")
        return task
    except UNREADABLE as error:
        raise RemoteProtocolError(f"the server sent a malformed task: {error}") from None


def _make_news(task: _Task) -> TaskNews:
    meta = _Meta() if task.meta is None else task.meta
    progress = meta.progress or _Progress()
    snapshot = TaskSnapshot(
        id=task.task_id,
        status=task.status,
        status_message=task.status_message,
        created_at=_aware(task.created_at),
        last_updated_at=_aware(task.last_updated_at),
        ttl=_seconds(task.ttl, task.ttl_ms),
        poll_interval=_seconds(task.poll_interval, task.poll_interval_ms),
        current=progress.current,
        total=progress.total,
        message=progress.message,
        reported_at=_aware(progress.reported_at),
        rate=progress.rate,
        eta=progress.eta,
        stages=meta.stages,
        _result=None if isinstance(task.result, UnsetType) else task.result,
        _error=task.error,
        _questions=task.input_requests or {},
    )
    return TaskNews(snapshot, meta.reports, meta.offset)


class _WithProgress(msgspec.Struct):
    meta: _Meta | None = msgspec.field(name="_meta", default=None)


def read_last_progress(raw: msgspec.Raw) -> Update | None:
    """Return the last progress of a task, if its result contains it; None if that is malformed."""
    try:
        meta = msgspec.json.decode(raw, type=_WithProgress).meta
    except (msgspec.MsgspecError, RecursionError):
        return None
    progress = None if meta is None else meta.progress
    if progress is None or progress.current is None:
        return None
    return progress.current, progress.total, progress.message, None


class TaskPage(msgspec.Struct, rename="camel"):
    """A page of tasks/list."""

    tasks: list[msgspec.Raw]
    next_cursor: str | None = None


def read_task_page(raw: msgspec.Raw) -> TaskPage:
    """Read a page of tasks; raises RemoteProtocolError if it is malformed."""
    try:
        return msgspec.json.decode(raw, type=TaskPage)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RemoteProtocolError(f"the server sent a malformed list of tasks: {error}") from None


def _seconds(legacy: float | None, modern: float | None) -> float | None:
    milliseconds = legacy if modern is None else modern
    if milliseconds is None or not abs(milliseconds) < MAX_MILLISECONDS:
        return None
    return milliseconds / MILLISECONDS


def _aware(moment: datetime | None) -> datetime | None:
    """Give a time without a zone the zone UTC, so that all times can be compared."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
