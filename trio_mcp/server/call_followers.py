"""Calls that are answered by a task which they do not run themselves: it is another call's, or a worker's.

Owns what such a call is told of the task, how long it waits for the end, and the answer that names the task.
Knows neither keys nor the queue. This module is imported at the first such call.
"""

from __future__ import annotations

import trio

from trio_mcp.errors import ProtocolError, TaskNotFound
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.report import Report
from trio_mcp.server.legacy_task_wires import LegacyStatus
from trio_mcp.server.task_choice import Choice
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_task import LiveTask, ReportSource
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.rendering import extension_created, legacy_task
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import Result
from trio_mcp.wire.tasks import LegacyCreateTaskResult


class CallFollower:
    """Follows a task for one call. Reports leave by `queue`, and the status by `status`, if these are given.

    `settled` is set when the call can be answered as its `choice` says: a question needs a task. The task
    `has_ended` if its last record was final.
    """

    def __init__(
        self, choice: Choice, queue: CallQueue | None = None, status: LegacyStatus | None = None
    ) -> None:
        self._choice = choice
        self._queue = queue
        self._status = status
        self.settled = trio.Event()
        self.has_ended = False

    def follow(self, record: TaskRecord) -> None:
        """Note whether the call can be answered now."""
        self.has_ended = record.is_final
        if record.is_final or (record.inputs and self._choice is not Choice.ANSWER):
            self.settled.set()
        if self._status is not None:
            self._status.follow(record)

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Send a report."""
        self._push(task, report[0], report[1], report[2])
        if self._status is not None:
            self._status.follow_report(task, report, replaced)

    def show(self, task: ReportSource) -> None:
        """Send the progress so far."""
        progress = task.record.progress
        if progress is not None:
            self._push(task, progress.current, progress.total, progress.message)

    def _push(
        self, task: ReportSource, current: float | None, total: float | None, message: str | None
    ) -> None:
        if self._queue is None or not self._queue.has_token:
            return
        if self._queue.stages is None and isinstance(task, LiveTask):
            self._queue.stages = task.stages
        self._queue.push(Report(0 if current is None else current, total, message))


async def wait_settled(
    supervisor: Supervisor,
    record: TaskRecord,
    follower: CallFollower,
    seconds: float,
    *,
    after: int | None = None,
) -> TaskRecord:
    """Follow a task that another process runs until the call can be answered, or for so many seconds.

    Returns its record then. The reports behind the offset `after` are told one by one, or those from now on
    if it is None. Checkpoints. Raises ProtocolError if the task is forgotten meanwhile, and TaskStoreError.
    """
    follower.follow(record)
    # The reports come by the same way as the end, and so in front of it.
    supervisor.followers.add(record, follower, wants_all=True, after=after, on_gone=follower.settled.set)
    try:
        with trio.move_on_after(seconds):
            await follower.settled.wait()
    finally:
        supervisor.followers.remove(record.id, follower)
    try:
        return await supervisor.access.fetch(record.id, None)
    except TaskNotFound:
        raise ProtocolError(INTERNAL_ERROR, "the task of this call has expired") from None


def name_task(supervisor: Supervisor, request: ServerRequest, record: TaskRecord) -> Result:
    """Answer a call with a task; in 2025-11-25 its progress goes on by the token of the call.

    Does not wait. `record` is the state of the task now.
    """
    if request.era.modern:
        return extension_created(record)
    outbox = request.connection.home.outbox
    queue = request.call_queue = request.call_queue.succeed(outbox, record.id)
    live = supervisor.find(record.id)
    if record.is_final:
        queue.finish(None)
    else:
        status = LegacyStatus(queue, outbox, supervisor, record)
        follower = CallFollower(Choice.TASK, queue, status)
        if live is not None:
            follower.show(live)
        after = 0 if record.progress is None else record.progress.offset
        supervisor.followers.add(record, follower, wants_all=True, after=after)
    return LegacyCreateTaskResult(task=legacy_task(record))
