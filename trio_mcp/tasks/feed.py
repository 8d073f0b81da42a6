"""What a client that follows a task has pending: the changes it has not been sent.

Owns the cap on reports that wait, and the order. A change of status is never
dropped; of the reports the oldest give way to the newest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from trio_mcp.runtime.outbox import Outbox
from trio_mcp.runtime.source import Source
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.wire.codec import UNENCODABLE
from trio_mcp.wire.frames import OutFrame

logger = logging.getLogger("trio_mcp")


class TaskFeed(Source):
    """Sends a task's changes to one client, each as the frame that `render` makes of it.

    A task has few changes of status, because every question that it asks waits for
    an answer, and what is replayed to a late follower was capped when it was kept; so
    only reports need a cap, `limit`.
    """

    __slots__ = ("_limit", "_pending", "_queued", "_render", "_reports", "_stopped")

    def __init__(self, outbox: Outbox, limit: int, render: Callable[[TaskRecord], OutFrame]) -> None:
        self.outbox = outbox
        self._limit = limit
        self._render = render
        self._pending: deque[tuple[TaskRecord, bool]] = deque()
        self._reports = 0
        self._queued = False
        self._stopped = False

    @property
    def pending(self) -> int:
        """How many reports are pending."""
        return self._reports

    @property
    def is_refilled(self) -> bool:
        """Never said of a feed: it fits into one write, and its changes keep their place."""
        return False

    def follow(self, record: TaskRecord, *, is_report: bool) -> None:
        """Append a change; never waits. Only what `is_report` says of it may be dropped."""
        if self._stopped:
            return
        if is_report and self._reports >= self._limit:
            self._drop_oldest()
        self._pending.append((record, is_report))
        self._reports += is_report
        if not is_report:
            self.outbox.hurry = True
        if not self._queued:
            self._queued = True
            if not self.outbox.enqueue(self):
                self.discard()

    def rehome(self, outbox: Outbox) -> None:
        """Leave by `outbox` from now on, with all that is pending."""
        if self._queued:
            self.outbox.release(self)
        self.outbox = outbox
        if outbox.readmit(self):
            self._queued = True
        elif self._queued and not outbox.enqueue(self):
            self.discard()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._pending.clear()
        self._reports = 0

    def discard(self) -> None:
        """Drop all that is pending, because the wire is gone."""
        self._pending.clear()
        self._reports = 0
        self._queued = False

    def drain(self, room: int) -> tuple[list[OutFrame], int, bool]:
        """Take up to `room` changes: their frames, how many, whether all is taken."""
        frames: list[OutFrame] = []
        used = 0
        while self._pending and used < room:
            record, is_report = self._pending.popleft()
            used += 1
            self._reports -= is_report
            try:
                frames.append(self._render(record))
            except UNENCODABLE as error:  # it must not end the writer, nor anybody else's messages
                logger.error("a change of task %s cannot be sent", record.id, exc_info=error)
        if self._pending:
            return frames, used, False
        self._queued = False
        return frames, used, True

    def _drop_oldest(self) -> None:
        for index, (_, is_report) in enumerate(self._pending):
            if is_report:
                del self._pending[index]
                self._reports -= 1
                return
