"""The reports of a task behind an offset, for a client that comes back with it.

Owns how what is stored, what is kept for a late follower, and what is reported meanwhile become one sequence
without a gap or a double. Knows no wire.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from trio_mcp.errors import TaskOverload, TaskStoreError
from trio_mcp.tasks.history import History, TaskReport
from trio_mcp.tasks.live_task import LiveTask, ReportSource
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.stored_reports import as_told, newest_report
from trio_mcp.tasks.supervisor import Supervisor

logger = logging.getLogger("trio_mcp.tasks")


class ReportCollector:
    """Follows a task, and keeps its reports until the follower that will send them has begun."""

    def __init__(self, limit: int) -> None:
        self._history = History(limit)

    @property
    def reports(self) -> Sequence[TaskReport]:
        """What was reported since it has begun."""
        return self._history.reports

    def follow(self, record: TaskRecord) -> None:
        """A change of status is on the record, which is sent behind the reports."""

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Keep a report."""
        self._history.add(report, replaced)


async def find_missed(
    supervisor: Supervisor, record: TaskRecord, live: LiveTask | None, after: int
) -> tuple[Sequence[TaskReport], bool]:
    """The reports behind the offset `after`, and whether those that were kept for a follower were taken.

    Checkpoints, but not after it has looked at the task for the last time: whoever follows the task at once
    misses nothing.
    """
    collector = ReportCollector(supervisor.settings.feed_buffer)
    if live is not None:
        live.add_follower(collector)
    try:
        stored = await supervisor.access.read_reports(record.id, after)
    except (TaskStoreError, TaskOverload) as error:
        logger.error("stored reports of task %s cannot be read: %s", record.id, error)
        stored = ()
    finally:
        if live is not None:
            live.remove_follower(collector)
    kept = supervisor.access.take_history(record.id)
    clock = supervisor.clock
    newest = newest_report(record if live is None else live.record, clock)
    known = [as_told(report, clock) for report in stored]
    return _join(
        after, known, kept or (), collector.reports, () if newest is None else (newest,)
    ), kept is not None


def _join(after: int, *sources: Iterable[TaskReport]) -> Sequence[TaskReport]:
    found = {report[4]: report for reports in sources for report in reports if report[4] > after}
    return [found[offset] for offset in sorted(found)]
