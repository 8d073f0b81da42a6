"""How long requests take, by what they ask for.

Owns the numbers of each kind of request; where they are shown is decided by the program.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from threading import Lock
from typing import Final, TypeVar

import msgspec
import trio

from trio_mcp.middleware.subjects import find_subject
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.validators import require_count, require_positive

C = TypeVar("C", bound=RequestFacts)
R = TypeVar("R")

MAX_NAMES: Final = 512
"""Kinds of requests that are remembered; clients choose names, so the one used longest ago gives way."""

logger = logging.getLogger("trio_mcp.requests")


class Times(msgspec.Struct):
    """The times of one kind of request, in seconds; those that `failed` count as well."""

    count: int = 0
    failed: int = 0
    total: float = 0.0
    shortest: float = math.inf
    longest: float = 0.0

    @property
    def mean(self) -> float:
        """The arithmetic mean; 0 if there was none."""
        return self.total / self.count if self.count else 0.0


class TimingMiddleware:
    """Keeps how long requests, or runs of tools, resources and prompts, take.

    `times` are by the name of what ran, such as "tools/call echo" or "tool echo". One that takes longer than
    `slow` seconds is logged as a warning. At most `max_names` names are kept.
    """

    def __init__(self, *, slow: float | None = None, max_names: int = MAX_NAMES) -> None:
        if slow is not None:
            require_positive("slow", slow)
        require_count("max_names", max_names)
        self._slow = math.inf if slow is None else slow
        self._max_names = max_names
        self._times: OrderedDict[str, Times] = OrderedDict()
        self._lock = Lock()  # one server may run in several threads at once

    def __repr__(self) -> str:
        return f"<TimingMiddleware: {len(self._times)} names>"

    @property
    def times(self) -> Mapping[str, Times]:
        """A copy of all times so far, by name."""
        with self._lock:
            return {name: msgspec.structs.replace(times) for name, times in self._times.items()}

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Measure `call_next`; raises what it raises."""
        begun = trio.current_time()
        has_failed = True
        try:
            result = await call_next(ctx)
            has_failed = bool(getattr(result, "is_error", False))
        finally:
            self._note(str(find_subject(ctx)), trio.current_time() - begun, has_failed=has_failed)
        return result

    def _note(self, name: str, seconds: float, *, has_failed: bool) -> None:
        with self._lock:
            times = self._times.get(name)
            if times is None:
                times = self._times[name] = Times()
                if len(self._times) > self._max_names:
                    self._times.popitem(last=False)
            self._times.move_to_end(name)
            times.count += 1
            times.failed += has_failed
            times.total += seconds
            times.shortest = min(times.shortest, seconds)
            times.longest = max(times.longest, seconds)
        if seconds > self._slow:
            logger.warning("%s took %.3f seconds", name, seconds)
