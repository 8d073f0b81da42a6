"""How far the reports of a task have come: to this client, and to its progress handler.

Owns the offsets of the reports that wait for the handler. Refuses to know what they say.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trio_mcp.client.pending_call import PendingCall

SLACK: Final = 256
"""So many offsets of delivered reports may wait to be looked at together."""


class ReportDelivery:
    """The offsets of one task's reports; those up to `offset` were delivered before."""

    def __init__(self, offset: int) -> None:
        self._delivered = offset
        self._seen = offset  # of what has come, delivered or not
        self._waiter: PendingCall | None = None
        self._queued: deque[int] = deque()  # those of the updates that `_waiter` has queued, and older ones

    def begin(self, waiter: PendingCall) -> None:
        """Note that what comes from now on is queued in `waiter`."""
        self._waiter = waiter

    def end(self) -> bool:
        """Note that what is queued now is dropped; return whether there is any."""
        self.find_offset()
        has_dropped = bool(self._queued)
        self._queued.clear()
        self._waiter = None
        self._seen = self._delivered
        return has_dropped

    def is_new(self, offset: int) -> bool:
        """Whether the report with `offset`, 0 if it has none, has not come before; it has come now."""
        if not offset:
            return True
        if offset <= self._seen:
            return False
        self._seen = offset
        return True

    def note_queued(self, offsets: list[int]) -> None:
        """Note the offsets of updates that were just queued for the handler, if there is one."""
        if self._waiter is not None and self._waiter.queued:  # otherwise there is no handler
            self._queued += offsets
            if len(self._queued) > self._waiter.queued + SLACK:
                self.find_offset()

    def find_offset(self) -> int:
        """The offset of the newest report that the handler was given."""
        if self._waiter is not None:
            for _ in range(len(self._queued) - self._waiter.queued):
                self._delivered = self._queued.popleft() or self._delivered  # they grow; 0 is none
        return self._delivered
