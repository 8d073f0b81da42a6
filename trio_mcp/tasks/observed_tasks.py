"""The background tasks of a server that has instruments: what becomes of them is told to these.

Owns which moments of a task are told. A server without instruments has a `Supervisor` in its place, and does
not import this module.
"""

from __future__ import annotations

from typing import Any

import trio

from trio_mcp.instruments import Instruments, ObservedTask, current_call
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask, ReportSource
from trio_mcp.tasks.record import Outcome, TaskRecord
from trio_mcp.tasks.stored_task import TaskWork
from trio_mcp.tasks.supervisor import Describe, Supervisor, Work


class TaskWatch:
    """Follows one task, and tells of it until it has ended."""

    __slots__ = ("_instruments", "task")

    def __init__(self, live: LiveTask, instruments: Instruments) -> None:
        record = live.record
        self._instruments = instruments
        call = current_call.get()
        self.task = ObservedTask(id=live.id, tool=record.tool, status=record.status.value, call=call)
        if call is not None:
            call.task_id = live.id
        elif live.work is not None:
            self.task.trace = live.work.trace
        instruments.change_task(self.task)

    def follow(self, record: TaskRecord) -> None:
        """Tell of a change of status."""
        if record.status.value != self.task.status:
            self._move(record.status.value, record.status_message, is_final=record.is_final)

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Tell of a report."""
        if not self.task.is_final:
            self._instruments.report(self.task, *report[:3])

    def enter(self) -> None:
        """Tell that the handler runs from now on."""
        self._instruments.enter_task(self.task)

    def lose(self) -> None:
        """Tell that another process has the task now."""
        self._move("lost", None, is_final=True)

    def _move(self, status: str, message: str | None, *, is_final: bool) -> None:
        task = self.task
        if task.is_final:
            return
        task.previous, task.status, task.message, task.is_final = task.status, status, message, is_final
        if is_final:
            task.ended_at = trio.current_time()
        self._instruments.change_task(task)


class ObservedSupervisor(Supervisor):
    """A `Supervisor` that tells `instruments` of each task, from its record on.

    The record of a call that no client sees as a task is none.
    """

    def __init__(self, instruments: Instruments, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._instruments = instruments

    async def commit(
        self, live: LiveTask, *, key: str | None = None, work: TaskWork | None = None
    ) -> TaskRecord | None:
        """As that of the base class."""
        found = await super().commit(live, key=key, work=work)
        if found is None and (work is None or work.is_listed):
            watch = self._observe(live)
            watch.follow(live.record)  # a task that is faster than its store has ended already
        return found

    def start(self, live: LiveTask, work: Work, describe: Describe) -> None:
        """As that of the base class."""

        async def observed(live: LiveTask) -> Outcome:
            watch = _find_watch(live)
            if watch is not None:
                watch.enter()
            return await work(live)

        is_seen = live.is_committed and (live.work is None or live.work.is_listed)
        if is_seen and _find_watch(live) is None:  # it was taken over from the store
            self._observe(live)
        super().start(live, observed, describe)

    async def _run(self, live: LiveTask, work: Work, describe: Describe) -> None:
        try:
            await super()._run(live, work, describe)
        finally:
            watch = _find_watch(live)
            if watch is not None and live.state is LiveState.LOST:
                self.followers.remove(live.id, watch)
                watch.lose()

    def _observe(self, live: LiveTask) -> TaskWatch:
        watch = TaskWatch(live, self._instruments)
        live.add_follower(watch)
        return watch


def _find_watch(live: LiveTask) -> TaskWatch | None:
    return next((one for one in live.followers if isinstance(one, TaskWatch)), None)
