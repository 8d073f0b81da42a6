"""The reports of tasks that no follower has taken yet, kept for one that comes late.

Owns the caps: one for each task that runs, and one for all tasks that have ended.
Knows no wire and no follower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from msgspec.structs import replace

from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.record import TaskProgress, TaskRecord, TaskStatus
from trio_mcp.wire.frames import StageState

TaskReport: TypeAlias = tuple[float | None, float | None, str | None, float, int]
"""Current, total and message, the time on Trio's clock, and the offset: its number within the task."""

Estimate: TypeAlias = tuple[float | None, float | None]
"""The progress per second, and the seconds that are left."""


class History:
    """The reports of one running task: the first, and the newest up to `limit` in all."""

    __slots__ = ("_first", "_rest")

    def __init__(self, limit: int, reports: Iterable[TaskReport] = ()) -> None:
        self._first: TaskReport | None = None
        self._rest: deque[TaskReport] = deque(maxlen=limit - 1)
        for report in reports:
            self.add(report)

    def add(self, report: TaskReport, replaced: TaskReport | None = None) -> None:
        """Keep a report; if there is no room, the oldest but the first is dropped.

        If `replaced` is the newest that is kept, the report takes its place.
        """
        if replaced is not None and self._rest and self._rest[-1] is replaced:
            self._rest[-1] = report
        elif self._first is None or (self._first is replaced and not self._rest):
            self._first = report
        else:
            self._rest.append(report)

    @property
    def reports(self) -> tuple[TaskReport, ...]:
        """The reports that are kept, in order."""
        return () if self._first is None else (self._first, *self._rest)


class EndedHistories:
    """The histories of ended tasks; past `limit` reports in all, that of the earliest end is dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[str, tuple[TaskReport, ...]] = {}  # in the order in which the tasks ended
        self._count = 0

    @property
    def count(self) -> int:
        """How many reports are kept in all."""
        return self._count

    def keep(self, task_id: str, reports: tuple[TaskReport, ...]) -> None:
        """Keep the reports of a task that has ended, behind those that are kept of it already."""
        reports = (*self.take(task_id), *reports)
        if reports:
            self._kept[task_id] = reports
            self._count += len(reports)
        while self._count > self._limit:
            self.take(next(iter(self._kept)))

    def take(self, task_id: str) -> tuple[TaskReport, ...]:
        """Return the reports of a task, and keep them no longer."""
        reports = self._kept.pop(task_id, ())
        self._count -= len(reports)
        return reports


def as_reported(
    record: TaskRecord,
    report: TaskReport,
    clock: TaskClock,
    estimate: Estimate = (None, None),
    stages: tuple[StageState, ...] | None = None,
) -> TaskRecord:
    """`record` as it was after `report`, with the same version, because it is only shown."""
    current, total, message, seconds, offset = report
    moment = clock.at(seconds)
    progress = TaskProgress(current, total, message, moment, *estimate, stages, offset)
    return replace(record, last_updated_at=moment, progress=progress)


def as_working(record: TaskRecord) -> TaskRecord:
    """`record` as it was while its task worked, without the progress of that time."""
    return replace(record, status=TaskStatus.WORKING, status_message=None, outcome=None, inputs={})
