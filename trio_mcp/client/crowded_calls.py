"""The lossless calls that hold more updates than they may: whoever reads from the wire waits for them.

Owns for how long it waits. What a call holds is the business of `PendingCall`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Final

from trio_mcp.client.pending_call import PendingCall

STILL_SECONDS: Final = 0.1
"""A progress handler that takes no update for so long stands still; other calls of its wire cannot wait."""


class CrowdedCalls:
    """The crowded calls of one session; `calls` are those since somebody last waited for them."""

    def __init__(self) -> None:
        self.calls: list[PendingCall] = []
        self.note = self.calls.append

    def wait_taken(self, *, is_shared: bool) -> Awaitable[None] | None:
        """Return what to wait for before more is read on a stream, if a handler is behind.

        A stream that belongs to one call waits for its handler. One that is shared waits for as long as the
        handler takes updates; then the call fails, for the others' sake.
        """
        if not self.calls:
            return None
        crowded = self.calls.copy()
        self.calls.clear()
        return _wait_for_handlers(crowded, STILL_SECONDS if is_shared else math.inf)


async def _wait_for_handlers(calls: list[PendingCall], patience: float) -> None:
    for call in calls:
        if not await call.wait_taken(patience):
            call.overflow()
