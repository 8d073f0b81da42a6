"""The times of a call: its timeouts, and the deadline that is sent to its server.

Owns their validation and defaults, the one scope that they cancel, and what happens if the server ends the
call because of the deadline. Refuses to know requests.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar

import attrs
import trio

from trio_mcp.client.settings import ClientSettings
from trio_mcp.errors import CallTimeout, MCPError, ProtocolError
from trio_mcp.handlers.sink import Handler
from trio_mcp.outgoing.policy import Lossless
from trio_mcp.validators import describe_seconds, require_seconds
from trio_mcp.wire.errors import DEADLINE_PASSED
from trio_mcp.wire.messages import META_DEADLINE

T = TypeVar("T")

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


class CallTimer:
    """What ends one call before its answer: its two timeouts, and a failure that cannot wait.

    A call makes one, and all that it does happens in `scope`: its requests, the questions that it
    answers, the wait for its task. `what` is what messages call it. `outer` is the deadline of the
    scopes around it, on Trio's clock, and `latest` the time at which the call has lasted too long. If it
    `pauses`, both timeouts stand still while a person is asked something (`pause`).
    """

    __slots__ = (
        "_deadline",
        "_failure",
        "_idle",
        "_longest",
        "_pauses",
        "_questions",
        "_since",
        "_what",
        "latest",
        "outer",
        "scope",
    )

    def __init__(self, what: str, idle: float, longest: float, *, pauses: bool = True) -> None:
        self._what = what
        self._pauses = pauses
        self._questions = 0  # how many are open; while there is one, `latest` and `_deadline` do not count
        self._since = self._deadline = math.inf
        self._idle, self._longest = idle, longest
        self._failure: MCPError | None = None
        self.outer = trio.current_effective_deadline()
        self.latest = math.inf if longest == math.inf else trio.current_time() + longest
        self.scope = trio.CancelScope()
        self.resume()

    @property
    def has_idle(self) -> bool:
        """Whether the call may end for want of progress."""
        return self._idle is not math.inf

    def resume(self) -> None:
        """Count the idle timeout from now: the call has made progress, or begins something new."""
        latest = self.latest
        if self._idle is not math.inf:
            now = self._since if self._questions else trio.current_time()
            latest = min(now + self._idle, latest)
        self._end_at(latest)

    def keep_total(self) -> None:
        """Count only the total timeout, until `resume`: it is not for want of progress that nothing comes."""
        self._end_at(self.latest)

    def suspend(self) -> None:
        """Let neither timeout end the call, until `resume`: there is an answer."""
        self._end_at(math.inf)

    def pause(self) -> None:
        """Let both timeouts stand still until `go_on`, once for each question."""
        if not self._pauses:
            return
        self._questions += 1
        if self._questions == 1:
            self._since, self._deadline = trio.current_time(), self.scope.deadline
            self.scope.deadline = math.inf

    def go_on(self) -> None:
        """Let them go on, after the last question that was open."""
        if not self._pauses:
            return
        self._questions -= 1
        if not self._questions:
            asked = trio.current_time() - self._since
            self.latest += asked
            self.scope.deadline = self._deadline + asked

    def find_latest(self) -> float:
        """The time at which the call has lasted too long if no question is open from now on."""
        return self.latest + trio.current_time() - self._since if self._questions else self.latest

    def _end_at(self, deadline: float) -> None:
        if self._questions:
            self._deadline = deadline
        else:
            self.scope.deadline = deadline

    def fail(self, error: MCPError) -> None:
        """End the call with `error`, whatever it is doing."""
        self._failure = error
        self.scope.cancel()

    def explain(self) -> MCPError:
        """Return the error to raise if `scope` has caught its own cancellation."""
        if self._failure is not None:
            return self._failure
        if trio.current_time() >= self.latest:
            return CallTimeout(f"{self._what} took longer than {describe_seconds(self._longest)}")
        return CallTimeout(f"{self._what} made no progress for {describe_seconds(self._idle)}")


@contextmanager
def paused(timer: CallTimer | None) -> Iterator[None]:
    """While the block lasts, a person is asked something, so the timeouts of a call stand still."""
    if timer is not None:
        timer.pause()
    try:
        yield
    finally:
        if timer is not None:
            timer.go_on()


async def run_within(
    work: Callable[[Handler | None, CallTimer | None], Awaitable[T]],
    handler: Handler | None,
    settings: ClientSettings,
    what: str,
    idle: float,
    longest: float,
) -> T:
    """Do all `work` of a call that begins now within its timeouts in seconds; checkpoints if `work` does.

    The timer is None if nothing but its caller ends the call early. `what` is what messages call it. Raises
    what `work` raises, CallTimeout, and ProgressOverflow under the lossless policy.
    """
    # A lossless call may overflow.
    may_overflow = handler is not None and isinstance(settings.progress, Lossless)
    if idle is math.inf and longest is math.inf and not may_overflow:
        return await work(handler, None)
    timer = CallTimer(what, idle, longest, pauses=settings.pause_while_asking)
    with timer.scope:
        return await work(handler, timer)
    raise timer.explain()


@attrs.frozen
class CallDeadline:
    """The latest time at which a call is cancelled, on Trio's clock; infinity for never.

    That is when the caller's scopes end, or the call's total timeout. An idle timeout is not part of
    it, because progress moves it. `started` is when the request was made that it is sent with. `timer` is
    that of the call, whose total timeout moves on while a person is asked something.
    """

    started: float
    moment: float
    timer: CallTimer | None = None

    @classmethod
    def find(cls, timer: CallTimer | None) -> CallDeadline:
        """Return the deadline for a request that is made now."""
        moment = trio.current_effective_deadline() if timer is None else min(timer.outer, timer.find_latest())
        return _NEVER if moment == math.inf else cls(trio.current_time(), moment, timer)

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

        The scope that has this deadline, the caller's or the call's, cancels this wait, as if the server
        had not answered. Raises CallTimeout if that was moved meanwhile, which the server cannot know.
        """
        timer = self.timer
        moment = self.moment if timer is None else min(timer.outer, timer.find_latest())
        await trio.sleep_until(max(moment, self.moment))
        raise CallTimeout("the server has ended the call at the deadline that it had at first")


_NEVER: Final = CallDeadline(0.0, math.inf)
