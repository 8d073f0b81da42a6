"""The queue of a call that somebody observes: it counts what a full buffer pushes out.

Owns that count. A call that nobody observes has a `CallQueue`, which counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UnsetType

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.policy import ProgressPolicy
from trio_mcp.wire.frames import ProgressToken


class ObservedQueue(CallQueue):
    """A `CallQueue` that knows how many reports it has `dropped`."""

    __slots__ = ("dropped",)

    def __init__(
        self,
        outbox: Outbox,
        token: ProgressToken | UnsetType,
        policy: ProgressPolicy,
        on_answered: Callable[[], None],
    ) -> None:
        super().__init__(outbox, token, policy, on_answered)
        self.dropped = 0

    def _drop_oldest(self) -> None:
        pending = self.reports
        super()._drop_oldest()
        self.dropped += pending - self.reports
