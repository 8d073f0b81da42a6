"""The reports that a store keeps of a task, as followers are told of them.

Owns the way from one form to the other, and how all that are kept are read. Knows neither followers nor a
certain store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.store import TaskStore
from trio_mcp.tasks.store_calls import StoreCalls
from trio_mcp.tasks.stored_task import DEFAULT_REPORTS, StoredReport


async def read_newest(
    store: TaskStore, calls: StoreCalls, task_id: str, after: int, limit: int | None = None
) -> Sequence[StoredReport]:
    """The newest reports behind the offset `after`, up to `limit` (None for all), oldest first. Checkpoints.

    Raises TaskStoreError.
    """
    found: deque[StoredReport] = deque(maxlen=limit)
    while True:  # noqa: ASYNC913  # each turn calls the store, which checkpoints
        page = await calls.run(store.read_reports, task_id, after, DEFAULT_REPORTS)
        found.extend(page)
        if len(page) < DEFAULT_REPORTS:
            return found
        after = page[-1].offset


def as_told(report: StoredReport, clock: TaskClock) -> TaskReport:
    """A report as followers get it."""
    offset, current, total, message, reported_at = report
    return current, total, message, clock.seconds_at_microseconds(reported_at), offset


def as_stored(report: TaskReport, clock: TaskClock) -> StoredReport:
    """A report as a store keeps it."""
    current, total, message, seconds, offset = report
    return StoredReport(offset, current, total, message, clock.microseconds_at(seconds))


def newest_report(record: TaskRecord, clock: TaskClock) -> TaskReport | None:
    """The newest report, which is on the record; None if there is none."""
    progress = record.progress
    if progress is None:
        return None
    moment = clock.seconds_at(progress.reported_at)
    return progress.current, progress.total, progress.message, moment, progress.offset
