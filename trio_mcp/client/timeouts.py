"""The times of a call: its timeouts, and the deadline that is sent to its server.

Owns their validation and defaults, and what happens if the server ends the call because of the
deadline. Refuses to know requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import attrs
import trio

from trio_mcp.errors import CallTimeout, ProtocolError
from trio_mcp.validators import require_seconds
from trio_mcp.wire.errors import DEADLINE_PASSED
from trio_mcp.wire.messages import META_DEADLINE

MAX_TIMEOUT_FACTOR: Final = 10
"""A call without a `max_timeout` may take this many times its `idle_timeout`."""


def read_timeouts(idle: float | None, longest: float | None) -> tuple[float, float]:
    """Return both timeouts in seconds, infinity for none; raises ValueError for what is not a time."""
    if idle is None and longest is None:
        return math.inf, math.inf
    for name, value in (("idle_timeout", idle), ("max_timeout", longest)):
        if value is not None:
            require_seconds(name, value)
    if longest is None:
        longest = math.inf if idle is None else idle * MAX_TIMEOUT_FACTOR
    return math.inf if idle is None else idle, longest


@attrs.frozen
class CallDeadline:
    """The latest time at which a call is cancelled, on Trio's clock; infinity for never.

    That is when the caller's scopes end, or `longest` seconds after it has `started`. An idle
    timeout is not part of it, because progress moves it.
    """

    started: float
    longest: float
    moment: float

    @classmethod
    def find(cls, longest: float) -> CallDeadline:
        """Return the deadline of a call that begins now."""
        effective = trio.current_effective_deadline()
        if effective == longest == math.inf:
            return _NEVER
        now = trio.current_time()
        return cls(now, longest, min(effective, now + longest))

    def add_to(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Return `meta` with the seconds that are left, since the server has another clock."""
        if self is _NEVER:
            return meta
        left = self.moment - self.started
        # If nothing is left, the call ends before it could be answered.
        return {**meta, META_DEADLINE: left} if 0 < left < math.inf else meta

    def was_met_by(self, error: ProtocolError) -> bool:
        """Whether `error` says that the server has stopped working because of this deadline."""
        marked = isinstance(error.data, Mapping) and META_DEADLINE in error.data
        return marked and error.code == DEADLINE_PASSED and self.moment < math.inf

    async def wait(self) -> NoReturn:
        """Wait for the deadline, after the server has given up; checkpoints.

        If the caller's own scope has this deadline, it cancels this wait, as if the server had not
        answered. Otherwise raises CallTimeout: after `longest` seconds, or because the scope's
        deadline was moved meanwhile, which the server cannot know.
        """
        await trio.sleep_until(self.moment)
        if self.moment == self.started + self.longest:
            raise CallTimeout(f"tools/call took longer than {self.longest:g} seconds")
        raise CallTimeout("the server has ended the call at the deadline that it had at first")


_NEVER: Final = CallDeadline(0.0, math.inf, math.inf)
