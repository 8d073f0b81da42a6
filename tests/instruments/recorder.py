"""An instrument that remembers what it was told."""

from __future__ import annotations

from typing import Any

import trio

from trio_mcp.instruments import (
    Instrument,
    ObservedCall,
    ObservedRefusal,
    ObservedSession,
    ObservedTask,
)


class Recorder(Instrument):
    """Keeps everything in order as tuples, the first of which is the hook."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.calls: list[ObservedCall] = []
        self.sessions: list[ObservedSession] = []
        self._changed = trio.lowlevel.ParkingLot()

    def _tell(self, *told: Any) -> None:
        self.told.append(told)
        self._changed.unpark_all()

    async def wait(self, hook: str) -> None:
        while not any(told[0] == hook for told in self.told):
            await self._changed.park()

    async def wait_call(self, target: str) -> None:
        while not any(call.target == target for call in self.calls):
            await self._changed.park()

    def of(self, *hooks: str, method: str = "tools/call") -> list[tuple[Any, ...]]:
        """What was told by these hooks, of calls only those of `method`."""
        other = [told for told in self.told if told[0].startswith("call_") and told[1] != method]
        return [told for told in self.told if told[0] in hooks and told not in other]

    def call_started(self, call: ObservedCall) -> None:
        self.calls.append(call)
        self._tell("call_started", call.method, call.target)

    def call_ended(self, call: ObservedCall) -> None:
        assert call.duration is not None
        self._tell("call_ended", call.method, call.outcome)

    def progress(
        self,
        source: ObservedCall | ObservedTask,
        progress: float | None,
        total: float | None,
        message: str | None,
    ) -> None:
        self._tell("progress", type(source).__name__, progress, total, message)

    def task_changed(self, task: ObservedTask) -> None:
        self._tell("task_changed", task.previous, task.status, task.is_final)

    def task_entered(self, task: ObservedTask) -> None:
        self._tell("task_entered", task.tool)

    def session_opened(self, session: ObservedSession) -> None:
        self.sessions.append(session)
        self._tell("session_opened", session.transport, session.protocol_version)

    def session_ended(self, session: ObservedSession) -> None:
        self._tell("session_ended", session.transport)

    def refused(self, refusal: ObservedRefusal) -> None:
        self._tell("refused", refusal.kind, refusal.code)
