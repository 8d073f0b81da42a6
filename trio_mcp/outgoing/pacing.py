"""The least time between two notifications of one call, or of one task.

Owns the report that is held meanwhile, never more than one, and decides whether its time has come.
Sets no timer: the outbox's writer does.
"""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from typing import Any

import trio


class Pace:
    """Keeps the notifications of one call `interval` seconds of Trio's clock apart.

    The items of type `kind` are reports; everything else leaves at once.
    """

    __slots__ = ("_held", "_interval", "_kind", "due")

    def __init__(self, interval: float, kind: type) -> None:
        self._interval = interval
        self._kind = kind
        self._held: Any = None
        self.due = -math.inf
        """When the next notification may leave."""

    @property
    def is_holding(self) -> bool:
        """Whether a report is held until its time."""
        return self._held is not None

    def begin_interval(self) -> None:
        """Let the next notification leave an interval from now, because one leaves now."""
        self.due = trio.current_time() + self._interval

    def replace_held(self, items: MutableSequence[Any]) -> bool:
        """Hold the only item instead of the report that is held; False if the items must be queued."""
        if self._held is None or len(items) != 1 or type(items[0]) is not self._kind:
            return False
        self._held = items.pop()
        return True

    def put_back(self, items: MutableSequence[Any]) -> bool:
        """Append the report that is held, and hold none; False without one, or if `items` has a newer one."""
        held, self._held = self._held, None
        if held is None or any(type(item) is self._kind for item in items):
            return False
        items.append(held)
        return True

    def keep_newest(self, items: MutableSequence[Any], *, has_begun: bool, has_ended: bool) -> int:
        """Take out of `items` the reports that may not leave now, and return how many stay.

        The first report of the call stays, and at its end the last. In between the newest stays if its
        time has come, and is held until then if not. Older ones are dropped.
        """
        reports = [item for item in items if type(item) is self._kind]
        if not reports:
            return 0
        newest = reports[-1]
        now = trio.current_time()
        staying = [] if has_begun else [reports[0]]
        if not has_ended and (staying or now < self.due):
            self._held = None if staying and staying[0] is newest else newest
        else:
            self._held = None
            if not staying or staying[0] is not newest:
                staying.append(newest)
        if staying:
            self.due = now + self._interval
        frames = [
            item for item in items if type(item) is not self._kind or any(item is stay for stay in staying)
        ]
        items.clear()
        items.extend(frames)
        return len(staying)
