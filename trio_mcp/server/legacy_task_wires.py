"""The wires of a legacy task: by which connection its questions, its status and its progress leave.

Owns the choice of the wire, as connections come and go (MCP tasks 2025-11-25). A task of the
extension needs none of this: its clients subscribe, and answer questions with `tasks/update`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.session.connection import ServerConnection
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_task import ReportSource
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.rendering import legacy_change
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.tasks.task_feed import TaskFeed
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import Notification

Send = Callable[[ServerConnection], None]


class LegacyTaskWires:
    """The connections that one task can use; `home` is that of the client that made it.

    The others are those on which a client waits for the result of the task.
    """

    def __init__(self, home: ServerConnection) -> None:
        self._home = home
        self._connections: list[ServerConnection] = []
        self._status: LegacyStatus | None = None
        self._sends: list[Send] = []  # of the questions that are open

    def begin(self, status: LegacyStatus) -> None:
        """Use the home connection from now on, for `status` and for questions."""
        self._connections.append(self._home)
        self._status = status

    @contextmanager
    def relaying(self, send: Send) -> Iterator[None]:
        """While the block lasts, `send` is called with each connection that may answer a question."""
        self._sends.append(send)
        # One wire to each client: the latest at whose end somebody is, if there is one.
        by_client = {
            connection.session_id: connection
            for connection in sorted(self._connections, key=lambda connection: connection.is_heard)
        }
        for connection in by_client.values():
            send(connection)
        try:
            yield
        finally:
            self._sends.remove(send)

    @contextmanager
    def reachable_through(self, connection: ServerConnection) -> Iterator[None]:
        """While the block lasts, `connection` is one of the wires (tasks/result, 2025-11-25)."""
        session_id = connection.session_id
        is_new = not any(one.session_id == session_id and one.is_heard for one in self._connections)
        self._connections.append(connection)  # once for each request that waits on it
        if is_new:
            for send in self._sends:
                send(connection)
        if connection is not connection.home:
            connection.on_heard = self._move_status
        self._move_status()
        try:
            yield
        finally:
            if connection is not connection.home:
                connection.on_heard = None
            self._connections.remove(connection)
            # The last progress of a task that has ended stays where it is, in front of the result. On another
            # wire it could overtake what was sent before it. It moves only off a wire that is gone.
            status = self._status
            is_gone = not connection.is_heard and status is not None and status.leaves_by(connection.outbox)
            if is_gone or status is None or not status.has_ended:
                self._move_status()

    def _move_status(self) -> None:
        """Send status and progress by the latest wire of the task's maker that somebody hears."""
        if self._status is not None:
            mine = [one for one in self._connections if one.session_id == self._home.session_id]
            heard = [one for one in mine if one.is_heard]
            self._status.move_to((heard[-1] if heard else self._home).outbox)


class LegacyStatus:
    """Tells the client that made a task of its status (MCP tasks 2025-11-25, "Task Status Notification").

    Progress goes by the call's own token, which ends before the final status is sent.
    """

    def __init__(
        self, call_queue: CallQueue, outbox: Outbox, supervisor: Supervisor, record: TaskRecord
    ) -> None:
        self._call_queue = call_queue
        self._outbox = outbox
        self._limit = supervisor.settings.feed_buffer
        self._clock = supervisor.clock
        self._feed = self._make_feed(record)
        self._message: str | None = None
        self.has_ended = False

    def _make_feed(self, record: TaskRecord) -> TaskFeed:
        return TaskFeed(self._outbox, self._limit, self._clock, record, _status_notification)

    def leaves_by(self, outbox: Outbox) -> bool:
        """Whether status and progress are sent by `outbox`."""
        return outbox is self._outbox

    def move_to(self, outbox: Outbox) -> None:
        """Send by `outbox` from now on."""
        if outbox is not self._outbox:
            self._outbox = outbox
            self._call_queue.move_to(outbox)
            self._feed.move_to(outbox)

    def follow(self, record: TaskRecord) -> None:
        """Send the status, and end the progress if it is final."""
        self._message = None if record.progress is None else record.progress.message
        if record.is_final:
            self.has_ended = True
            self._call_queue.finish(None)
            # A feed of its own queues behind the last progress, wherever the other one stands.
            self._feed = self._make_feed(record)
        self._feed.follow(record)

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Send the status if the message is a new one."""
        message = report[2]
        if message != self._message:
            self._message = message
            self._feed.follow_report(task, report, replaced)


def _status_notification(record: TaskRecord, reports: Sequence[TaskReport]) -> Notification:
    return Notification("notifications/tasks/status", encode_value(legacy_change(record)))
