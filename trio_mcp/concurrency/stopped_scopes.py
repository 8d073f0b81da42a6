"""Cancel scopes whose deadlines stand still while something else is waited for.

Owns the arithmetic of deadlines that move. Refuses to know what is waited for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio
from msgspec import Struct


class _Stopped(Struct):
    """A scope that stands still since `since`, for so many reasons; its deadline was `deadline`."""

    deadline: float
    since: float
    reasons: int = 0


class StoppedScopes:
    """The scopes of one piece of work that stand still; several waits at once count as one."""

    __slots__ = ("_stopped",)

    def __init__(self) -> None:
        self._stopped: dict[trio.CancelScope, _Stopped] = {}

    def __repr__(self) -> str:
        return f"<StoppedScopes: {len(self._stopped)} stopped>"

    @contextmanager
    def stopping(self, scopes: Sequence[trio.CancelScope]) -> Iterator[None]:
        """While the block lasts, the deadlines of `scopes` do not come nearer."""
        for scope in scopes:
            if scope not in self._stopped:
                self._stopped[scope] = _Stopped(scope.deadline, trio.current_time())
                scope.deadline = math.inf
            self._stopped[scope].reasons += 1
        try:
            yield
        finally:
            for scope in scopes:
                stopped = self._stopped[scope]
                stopped.reasons -= 1
                if not stopped.reasons:
                    del self._stopped[scope]
                    scope.deadline = stopped.deadline + trio.current_time() - stopped.since

    def find_deadline(self, scope: trio.CancelScope) -> float:
        """The deadline that `scope` has if it goes on now; infinity for none."""
        stopped = self._stopped.get(scope)
        if stopped is None:
            return scope.deadline
        return stopped.deadline + trio.current_time() - stopped.since
