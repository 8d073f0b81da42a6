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
        self.seen = offset
        """The offset of the newest report that has come, delivered or not."""
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
        self.seen = self._delivered
        return has_dropped

    def note_queued(self, offsets: list[int]) -> None:
        """Note the offsets of updates that were just queued for the handler, if there is one."""
        if self._waiter is not None and self._waiter.queued:  # otherwise there is no handler
            self._queued += offsets
            if len(self._queued) > self._waiter.queued + SLACK:
                self.find_offset()

    def find_offset(self) -> int:
        """The offset of the newest report that the handler was given."""
        if self._waiter is not None:
            queued, left = self._queued, self._waiter.queued
            if queued and not left:  # as most often when this is asked
                self._delivered = max(self._delivered, *queued)  # they grow; 0 is none
                queued.clear()
            for _ in range(len(queued) - left):
                self._delivered = queued.popleft() or self._delivered
        return self._delivered
