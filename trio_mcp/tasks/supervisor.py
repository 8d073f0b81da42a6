"""The supervised nursery, in which tasks run outside all sessions.

Owns the handlers that run in this process. A handler's failure becomes its task's outcome and touches nothing
else. Knows neither tools nor sessions: it is given what to run. How many tasks there may be is counted in
`places.py` and `kept_records.py`; how they change in the store, `held_tasks.py` knows; what is asked of them,
`task_access.py`; and how they come from other processes and go there, `handing_over.py`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

import trio
from msgspec import Struct

from trio_mcp.concurrency.failures import log_failure, split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.expiries import Expiries
from trio_mcp.tasks.followers import Followers
from trio_mcp.tasks.held_tasks import HeldTasks
from trio_mcp.tasks.history import EndedHistories
from trio_mcp.tasks.kept_records import KeptRecords
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.places import TaskPlaces
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord, new_task_id
from trio_mcp.tasks.settings import TaskSettings
from trio_mcp.tasks.store import TaskStore
from trio_mcp.tasks.store_calls import StoreCalls
from trio_mcp.tasks.stored_task import TaskWork
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.frames import ErrorObject

if TYPE_CHECKING:  # a server whose tasks all run in this process starts without it
    from trio_mcp.tasks.elsewhere import Elsewhere
    from trio_mcp.tasks.handing_over import Handover
    from trio_mcp.tasks.task_access import TaskAccess

logger = logging.getLogger("trio_mcp.tasks")

_UNANSWERABLE: Final = "cancelled: the server ended while the task waited for an answer of its client"

Work: TypeAlias = Callable[[LiveTask], Awaitable[Outcome]]
Describe: TypeAlias = Callable[[BaseException], Outcome]


class SupervisorStatistics(Struct, frozen=True):
    """The state of a supervisor at one moment.

    `running` tasks run their handlers, and `queued` ones wait for a place or are being prepared. `live`
    tasks have been stored and have not ended. `kept_reports` of ended tasks wait for a follower.
    `free_places` more tasks may be prepared now.
    """

    running: int
    queued: int
    live: int
    kept_reports: int
    free_places: int


class Supervisor:
    """All tasks of one running server; made by `open_supervisor`.

    It `runs_tasks`, unless they are only put into the queue of the store. If it `interrupts`, as a worker
    does, tasks that the end of the process cuts off fail as interrupted, and are not cancelled.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        store: TaskStore,
        settings: TaskSettings,
        *,
        runs_tasks: bool = True,
        interrupts: bool = False,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self.settings = settings
        self.clock = TaskClock()
        self.store_calls = StoreCalls()
        """How its store is called."""
        self._histories = EndedHistories(settings.history_reports)
        self._started: set[LiveTask] = set()
        self._places = TaskPlaces(settings)
        self._kept = KeptRecords(store, self.store_calls, settings.max_kept_per_owner, self._histories.take)
        self.followers = Followers(
            self.find, lambda task_id, asker: self.access.fetch(task_id, asker), self._make_elsewhere
        )
        """Those who follow tasks, wherever these run."""
        take_over = self.followers.take_over
        self._held = HeldTasks(
            nursery, store, self.store_calls, self.clock, settings, self._kept, self._histories, take_over
        )
        self._is_finishing = False
        self.runs_tasks: Final = runs_tasks
        self._interrupts = interrupts
        self._expiries = Expiries(self.clock, self._kept)

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Supervisor: {now.running} running, {now.queued} queued, {now.kept_reports} reports kept>"

    def statistics(self) -> SupervisorStatistics:
        """The state now."""
        places = self._places
        return SupervisorStatistics(
            running=places.running,
            queued=places.taken - places.running,
            live=len(self._held),
            kept_reports=self._histories.count,
            free_places=places.free,
        )

    def prepare(
        self,
        tool: str,
        owner: Owner,
        *,
        ttl: float | None,
        poll_interval: float | None,
        keeps_history: bool = False,
        payer: Owner | None = None,
        reserves: bool = True,
    ) -> LiveTask:
        """Make a task that cannot be found yet, and reserve its place; `start` and `commit` do the rest.

        With `keeps_history`, its reports from `commit` on are kept for the first follower
        that takes them.
        The place counts for `payer`, `owner` by default. Without `reserves` there is none, because the
        call is answered directly.
        Raises TaskOverload if `payer` has too many places, or if `max_running` tasks run and
        `max_queued` wait. If the task is not started, its place must be given up with `release`.
        """
        payer = owner if payer is None else payer
        share = self._places.reserve(payer) if reserves else None
        now = self.clock.now()
        record = TaskRecord(
            id=new_task_id(),
            tool=tool,
            owner=owner,
            created_at=now,
            last_updated_at=now,
            ttl=min(self.settings.ttl if ttl is None else ttl, self.settings.max_ttl),
            poll_interval=self.settings.poll_interval if poll_interval is None else poll_interval,
        )
        live = LiveTask(record, self.clock, self.settings.feed_buffer if keeps_history else 0)
        live.payer, live.share = payer, share
        return live

    def reserve(self, live: LiveTask) -> None:
        """Take a place for a task that has none; raises TaskOverload as `prepare` does."""
        live.share = self._places.reserve(live.payer)

    def start(self, live: LiveTask, work: Work, describe: Describe) -> None:
        """Run `work` in the supervised nursery as soon as it is the turn of the task, which has a place.

        If the scope of the task is cancelled before, `work` is never called.
        `describe` makes the outcome of an exception that `work` raises.
        """
        self._started.add(live)
        self._nursery.start_soon(self._run, live, work, describe, name=live.task_name)

    def release(self, live: LiveTask) -> None:
        """Give up the place of a task that is done, or will not be started; it may have none."""
        share, live.share = live.share, None
        if share is not None:
            self._places.release(share)

    async def commit(
        self, live: LiveTask, *, key: str | None = None, work: TaskWork | None = None
    ) -> TaskRecord | None:
        """Store the record: from now on the task can be found. Checkpoints.

        If a task has the `key` already, its record is returned, and nothing is stored.
        Raises TaskOverload if there is no room, although tasks that have ended give way; TaskStoreError.
        """
        stored = await self._held.create(live.record, live.payer, key=key, work=work)
        if stored.record.id != live.id:
            return stored.record
        live.work = work
        self._held.add(live, stored)
        self._expiries.add(live.record)
        if live.checkpoint is not None:
            await self.handover.keep_checkpoint(live, live.checkpoint)
        if live.outcome is not None:  # it was faster than its store
            await self._held.end(live, live.outcome)
        return None

    @property
    def keeps_work(self) -> bool:
        """Whether tasks outlive this process, so that another may run them."""
        return self._held.outlive

    @property
    def free_turns(self) -> int:
        """How many more tasks could run now."""
        return self._places.free_turns

    async def wait_free_turn(self) -> None:
        """Wait until one more task could run; checkpoints."""
        await self._places.wait_free_turn()

    @cached_property
    def access(self) -> TaskAccess:
        """What may be asked of tasks, wherever they run."""
        # Imported here: a server of which no client has a task starts sooner without that module.
        from trio_mcp.tasks.task_access import TaskAccess

        return TaskAccess(
            self._store,
            self.store_calls,
            self.clock,
            self._held,
            self._kept,
            self._histories,
            self.settings.page_size,
        )

    @cached_property
    def handover(self) -> Handover:
        """How tasks come from other processes, and go there."""
        # Imported here: a server whose tasks all run in this process starts sooner without that module.
        from trio_mcp.tasks.handing_over import Handover

        return Handover(
            self._nursery,
            self._store,
            self.store_calls,
            self.clock,
            self._held,
            self._places,
            self._expiries,
            self.settings.feed_buffer,
        )

    def find(self, task_id: str) -> LiveTask | None:
        """The task, if it runs in this process."""
        return self._held.find(task_id)

    def _make_elsewhere(self) -> Elsewhere:
        # Imported here: a server whose tasks all run in this process starts sooner without that module.
        from trio_mcp.tasks.elsewhere import Elsewhere

        return Elsewhere(self._nursery, self._store, self.store_calls, self.clock, self.settings.feed_buffer)

    async def update(self, live: LiveTask) -> None:
        """Store a change of status, then notify the followers; checkpoints."""
        if live.is_committed:
            await self._held.update(live)
        else:
            await trio.lowlevel.checkpoint()
            live.tell()
        if self._is_finishing:
            await self._end_unanswerable(live)

    def may_give_back(self, live: LiveTask) -> bool:
        """Whether a task that the end of the server cancels is to be run again by another process."""
        return self._held.outlive and self.handover.may_give_back(live)

    async def _end_unanswerable(self, live: LiveTask) -> None:
        """Cancel a task that waits for an answer, because its clients are gone and the server ends."""
        # A worker has no clients of its own that could be gone.
        if live.inputs and not live.is_ending and (self.may_give_back(live) or not self._interrupts):
            live.scope.cancel()
            if self.may_give_back(live):
                return
            await self._held.end(live, Outcome("cancelled"), _UNANSWERABLE)

    async def _run(self, live: LiveTask, work: Work, describe: Describe) -> None:
        """Run one handler; the failure boundary outside its scope makes every failure the outcome."""
        outcome = Outcome("cancelled")
        passing: BaseException | None = None
        has_begun = False
        try:
            with live.scope:
                await self._take_turn(live)
                try:
                    if not live.scope.cancel_called:
                        has_begun = True
                        outcome = await work(live)
                finally:
                    self._give_turn(live)
        except BaseException as error:  # noqa: ASYNC103  # the boundary of tasks; cancellation is raised again below
            passing, failure = split_failure(error)
            if failure is not None:
                outcome = _described(describe, failure)
        self.release(live)
        self._started.discard(live)
        live.note_done(outcome)
        if live.is_committed:
            if outcome.kind == "cancelled" and self.may_give_back(live):
                await self.handover.give_back(live, has_begun=has_begun)
            elif outcome.kind == "cancelled" and self._interrupts and live.state is LiveState.COMMITTED:
                from trio_mcp.tasks.recovery import INTERRUPTED  # only workers need it

                interrupted = Outcome("protocol_error", error=ErrorObject(INTERNAL_ERROR, INTERRUPTED))
                await self._held.end(live, interrupted, INTERRUPTED)
            else:
                await self._held.end(live, outcome)
        if passing is not None:
            raise passing

    async def rest(self, live: LiveTask, seconds: float) -> None:
        """Let others run in the place of a task for so many seconds, then wait for its turn; checkpoints."""
        self._give_turn(live)
        await trio.sleep(seconds)
        await self._take_turn(live)

    async def _take_turn(self, live: LiveTask) -> None:
        assert live.share is not None, "only a task with a place runs"
        await self._places.wait_running(live.share)
        live.has_turn = True

    def _give_turn(self, live: LiveTask) -> None:
        if live.has_turn and live.share is not None:
            live.has_turn = False
            self._places.stop_running(live.share)

    async def serve_upkeep(self) -> None:
        """Forget what expires, put progress, and hear of what others change; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            if self._held.flusher is not None:
                nursery.start_soon(self._held.flusher.run)
            if self._store.is_shared or self._store.sweep_interval is not None:
                from trio_mcp.tasks.outside_changes import OutsideChanges

                nursery.start_soon(
                    OutsideChanges(self._store, self.store_calls, self._held, self.clock).serve
                )

    async def _sweep(self) -> None:
        """Forget every task when it expires."""
        while True:
            task_id = await self._expiries.wait_next()
            with suppress(TaskStoreError):  # which was logged
                await self.store_calls.run(self._store.delete_expired, self.clock.now())
            self._held.expire(task_id)

    async def finish(self) -> None:
        """Give running tasks `shutdown_grace` seconds, then cancel those that still run; checkpoints.

        A task that waits for an answer, now or later, is cancelled at once: nobody is left to answer.
        """
        self._is_finishing = True
        with trio.move_on_after(self.settings.shutdown_grace):
            await trio.lowlevel.checkpoint()
            for live in self._held:
                await self._end_unanswerable(live)
            for live in self._held:
                await live.wait_ended()
        self._held.stop_retries()
        for live in list(self._started):
            live.scope.cancel()

    def close(self) -> None:
        """Follow nothing any more, because the server ends."""
        self._held.stop_retries()
        self.followers.close()


def _described(describe: Describe, failure: BaseException) -> Outcome:
    try:
        return describe(failure)
    except Exception as error:  # foreign code: an exception without a text must not end the server
        log_failure(error, "the description of a task's failure", logger)
        return Outcome("protocol_error", error=ErrorObject(INTERNAL_ERROR, "the task failed"))


@asynccontextmanager
async def open_supervisor(
    store: TaskStore,
    settings: TaskSettings,
    *,
    runs_tasks: bool = True,
    interrupts: bool = False,
    make_supervisor: Callable[..., Supervisor] = Supervisor,
) -> AsyncIterator[Supervisor]:
    """Run tasks until the block ends; checkpoints. The flags are those of the Supervisor.

    When the block ends, running tasks get `shutdown_grace` seconds and are then
    cancelled and recorded as such. When it is cancelled, they are cancelled at once.
    """
    async with store.open(), open_unwrapping_nursery() as nursery:
        supervisor = make_supervisor(nursery, store, settings, runs_tasks=runs_tasks, interrupts=interrupts)
        upkeep = trio.CancelScope()

        async def keep_up() -> None:
            with upkeep:
                await supervisor.serve_upkeep()

        nursery.start_soon(keep_up)
        try:
            yield supervisor
            await supervisor.finish()
        finally:
            upkeep.cancel()
            supervisor.close()
