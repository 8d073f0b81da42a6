"""Which calls of a client stand still while a question of its server is open.

Owns the tie between a question and the timers of calls. A trio_mcp server says for which request it asks, and
any server for which task; a question that says nothing may belong to each call in flight, so it stops all.
Questions of the modern era need none of this: whoever made the call answers them itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.wire.frames import ProgressToken, RequestId


class CallPauses:
    """The timers of one client's calls; `calls` are those in flight, by their id."""

    def __init__(self, calls: Mapping[ProgressToken, PendingCall]) -> None:
        self._calls = calls
        self._waiting: dict[str, list[CallTimer]] = {}  # by the task that is waited for
        # What each open question about a task has stopped. The keys are the lists' own ids: two questions
        # may have stopped the same timers, and equal lists must not be taken for each other.
        self._open: dict[str, dict[int, list[CallTimer]]] = {}
        self._handshake: CallTimer | None = None

    @contextmanager
    def pausing(self, call: RequestId | None, task_id: str | None) -> Iterator[None]:
        """While the block lasts, a question is open, for a call or for a task if it says so."""
        stopped = self._find(call, task_id)
        for timer in stopped:
            timer.pause()
        if task_id is not None:
            self._open.setdefault(task_id, {})[id(stopped)] = stopped
        try:
            yield
        finally:
            if task_id is not None:
                del self._open[task_id][id(stopped)]
                if not self._open[task_id]:
                    del self._open[task_id]
            for timer in stopped:
                timer.go_on()

    @contextmanager
    def shaking_hands(self, timer: CallTimer) -> Iterator[None]:
        """While the block lasts, the timer of the handshake counts as that of a call."""
        self._handshake = timer
        try:
            yield
        finally:
            self._handshake = None

    @contextmanager
    def waiting(self, task_id: str, timer: CallTimer | None) -> Iterator[None]:
        """While the block lasts, a call waits for a task, of which a question may be open already."""
        if timer is None:
            yield
            return
        self._waiting.setdefault(task_id, []).append(timer)
        for stopped in self._open.get(task_id, {}).values():
            timer.pause()
            stopped.append(timer)
        try:
            yield
        finally:
            self._waiting[task_id].remove(timer)
            if not self._waiting[task_id]:
                del self._waiting[task_id]
            for stopped in self._open.get(task_id, {}).values():
                if timer in stopped:
                    stopped.remove(timer)
                    timer.go_on()

    def _find(self, call: RequestId | None, task_id: str | None) -> list[CallTimer]:
        if task_id is not None:
            return list(self._waiting.get(task_id, ()))
        calls = self._calls.values() if call is None else [self._calls[call]] if call in self._calls else ()
        timers: dict[CallTimer, None] = {}
        if call is None and self._handshake is not None:
            timers[self._handshake] = None
        for pending in calls:
            if pending.timer is not None:
                timers[pending.timer] = None
        return list(timers)
