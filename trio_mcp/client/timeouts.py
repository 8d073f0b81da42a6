"""The times of a call: the timeouts that may be asked for, and the deadline that its server is told.

Owns their validation and defaults, and what becomes of the answer that a server
gives when the deadline has passed.
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
"""Without a `max_timeout`, a call may take this many times its `idle_timeout`."""


def read_timeouts(idle: float | None, longest: float | None) -> tuple[float, float]:
    """Both timeouts in seconds, infinite where there is none; raises ValueError for what is no time."""
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
    """When a call is given up at the latest, on Trio's clock; infinity for never.

    That is when the caller's scopes end, or `longest` seconds after it has `started`. An idle
    timeout is none, because progress moves it.
    """

    started: float
    longest: float
    moment: float

    @classmethod
    def find(cls, longest: float) -> CallDeadline:
        """That of a call that begins now."""
        effective = trio.current_effective_deadline()
        if effective == longest == math.inf:
            return _NEVER
        now = trio.current_time()
        return cls(now, longest, min(effective, now + longest))

    def add_to(self, meta: dict[str, Any]) -> dict[str, Any]:
        """`meta` with what tells the server of it: the seconds left, for it has another clock."""
        if self is _NEVER:
            return meta
        left = self.moment - self.started
        # Where nothing is left, the call ends before it could be answered.
        return {**meta, META_DEADLINE: left} if 0 < left < math.inf else meta

    def was_met_by(self, error: ProtocolError) -> bool:
        """Whether `error` says that the server has stopped working because of this deadline."""
        marked = isinstance(error.data, Mapping) and META_DEADLINE in error.data
        return marked and error.code == DEADLINE_PASSED and self.moment < math.inf

    async def wait(self) -> NoReturn:
        """Wait for the deadline, after the server has given up; checkpoints.

        Where it is that of the caller's own scope, this ends as the scope says, as if nobody had
        answered. Raises CallTimeout where it is not: after `longest` seconds, or where the scope's
        was moved meanwhile, which the server cannot know.
        """
        await trio.sleep_until(self.moment)
        if self.moment == self.started + self.longest:
            raise CallTimeout(f"tools/call took longer than {self.longest:g} seconds")
        raise CallTimeout("the server has ended the call at the deadline that it had at first")


_NEVER: Final = CallDeadline(0.0, math.inf, math.inf)
