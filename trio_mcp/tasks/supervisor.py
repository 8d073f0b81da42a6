"""The supervised nursery, in which tasks run outside all sessions.

Owns the tasks that run in this process, their ends and their expiry. A handler's
failure becomes its task's outcome and touches nothing else. Knows neither tools nor
sessions: it is given what to run. How many tasks there may be is counted in `places.py`
and `kept_records.py`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import trio
from msgspec import Raw

from trio_mcp.concurrency.failures import split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskNotFound, TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.expiries import Expiries
from trio_mcp.tasks.history import EndedHistories, TaskReport
from trio_mcp.tasks.kept_records import KeptRecords
from trio_mcp.tasks.live_task import LiveState, LiveTask
from trio_mcp.tasks.places import TaskPlaces
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord, TaskStatus, new_task_id
from trio_mcp.tasks.recovery import INTERRUPTED
from trio_mcp.tasks.settings import TaskSettings
from trio_mcp.tasks.store import STORE_SECONDS, TaskChange, TaskPage, TaskStore
from trio_mcp.tasks.stored_task import StoredTask, TaskWork
from trio_mcp.wire.codec import UNENCODABLE, encode_value
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.frames import ErrorObject

if TYPE_CHECKING:  # few tasks are begun more than once
    from trio_mcp.tasks.question_replay import QuestionReplay

logger = logging.getLogger("trio_mcp")

_UNANSWERABLE: Final = "cancelled: the server ended while the task waited for an answer of its client"

_ENDS: Final = {
    "result": TaskStatus.COMPLETED,
    "tool_error": TaskStatus.COMPLETED,
    "protocol_error": TaskStatus.FAILED,
    "cancelled": TaskStatus.CANCELLED,
}

Work: TypeAlias = Callable[[LiveTask], Awaitable[Outcome]]
Describe: TypeAlias = Callable[[BaseException], Outcome]


@attrs.frozen
class SupervisorStatistics:
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
    """All tasks of one running server; made by `open_supervisor`."""

    def __init__(self, nursery: trio.Nursery, store: TaskStore, settings: TaskSettings) -> None:
        self._nursery = nursery
        self._store = store
        self.settings = settings
        self.clock = TaskClock()
        self._live: dict[str, LiveTask] = {}
        self._histories = EndedHistories(settings.history_reports)
        self._started: set[LiveTask] = set()
        self._places = TaskPlaces(settings)
        self._kept = KeptRecords(store, settings.max_kept_per_owner, self._histories.take)
        self._is_finishing = False
        self.runs_tasks = True
        """Whether tasks run in this process; otherwise they are only put into the queue of the store."""
        self.interrupts = False
        """Whether tasks that the end of the process cuts off fail as interrupted, and are not cancelled."""
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
            live=len(self._live),
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
        Raises TaskOverload if there is no room, although tasks that have ended give way.
        """
        stored = await self._kept.create(live.record, live.payer, key=key, work=work)
        if stored.record.id != live.id:
            return stored.record
        live.work = work
        self._live[live.id] = live
        live.note_committed()
        expires_at = live.record.expires_at
        if expires_at is not None:
            self._expiries.add(live.id, expires_at)
        if live.checkpoint is not None:
            await self.keep_checkpoint(live, live.checkpoint)
        if live.outcome is not None:  # it was faster than its store
            await self._end(live, live.outcome)
        return None

    async def enqueue(self, live: LiveTask, work: TaskWork | None) -> TaskRecord:
        """Store a task for whoever claims it, and return its record. Checkpoints.

        Raises TaskOverload if there is no room, and TaskStoreError.
        """
        record = attrs.evolve(live.record, attempt=0)
        await self._kept.create(record, live.payer, work=work, is_queued=True)
        if record.expires_at is not None:
            self._expiries.add(record.id, record.expires_at)
        return record

    def subscribe(self, task_id: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[TaskRecord]]:
        """A channel of the changes of a task that another process runs; see `TaskStore.subscribe`."""
        return self._store.subscribe(task_id)

    def adopt(self, task: StoredTask, *, keeps_history: bool) -> LiveTask:
        """Make a task of one that this process has claimed; it has a place, and is to be started."""
        record, work = task.record, task.work
        live = LiveTask(record, self.clock, self.settings.feed_buffer if keeps_history else 0)
        live.hold_under(task.claim)
        live.stored_version = record.version
        live.work, live.checkpoint = work, task.checkpoint
        live.payer = record.owner if work is None or work.payer is None else work.payer
        live.share = self._places.adopt(live.payer)
        self._live[live.id] = live
        live.note_committed()
        if record.expires_at is not None:
            self._expiries.add(live.id, record.expires_at)
        return live

    @property
    def keeps_work(self) -> bool:
        """Whether tasks outlive this process, so that another may run them."""
        return self._store.sweep_interval is not None

    @property
    def free_turns(self) -> int:
        """How many more tasks could run now."""
        return self._places.free_turns

    async def wait_free_turn(self) -> None:
        """Wait until one more task could run; checkpoints."""
        await self._places.wait_free_turn()

    async def forget(self, task_id: str) -> None:
        """Forget a task that has ended, of which no client knows. Checkpoints."""
        self._kept.discard(task_id)
        self._histories.take(task_id)
        await self._store.delete(task_id)

    def find(self, task_id: str) -> LiveTask | None:
        """The task, if it runs in this process."""
        return self._live.get(task_id)

    def take_history(self, task_id: str) -> Sequence[TaskReport] | None:
        """The reports of a task that no follower has taken yet; None if a follower takes them already."""
        live = self._live.get(task_id)
        return self._histories.take(task_id) if live is None else live.take_history()

    def give_back_history(self, record: TaskRecord, reports: Sequence[TaskReport]) -> None:
        """Keep `reports`, which were taken but not sent, and later ones, for the next follower."""
        live = self._live.get(record.id)
        if live is not None:
            live.keep_history(reports)
        elif record.expires_at is None or record.expires_at > self.clock.now():
            self._histories.keep(record.id, tuple(reports))

    async def fetch(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """The record of a task that `asker` may see; None may see all. Checkpoints. Raises TaskNotFound."""
        live = self._live.get(task_id)
        if live is None:
            record = await self._store.get(task_id, self.clock.now())
        else:
            await trio.lowlevel.checkpoint()
            record = live.record
        if record is None or not (asker is None or record.owner.admits(asker)):
            raise TaskNotFound("no such task")
        return record

    async def wait_ended(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """Wait until a task has ended; checkpoints. Raises TaskNotFound, also if it expires first."""
        record = await self.fetch(task_id, asker)
        live = self._live.get(task_id)
        if live is not None:
            await live.wait_ended()
            record = await self.fetch(task_id, asker)
        if record.is_final:
            return record
        async with self._store.subscribe(task_id) as changes:  # it runs in another process
            record = await self.fetch(task_id, asker)
            while not record.is_final:
                try:
                    record = await changes.receive()
                except trio.EndOfChannel:
                    raise TaskNotFound("no such task") from None
        return record

    async def cancel(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """Cancel a task and return its record, which does not change if it has ended. Checkpoints.

        The record says "cancelled" when this returns; the handler ends at its next
        checkpoint. Raises TaskNotFound.
        """
        record = await self.fetch(task_id, asker)
        live = self._live.get(task_id)
        if live is None and not self.runs_tasks:
            return await self._store.cancel(task_id, self.clock.now()) or record
        if live is None or record.is_final:
            return record
        live.scope.cancel()
        await self._end(live, Outcome("cancelled"))
        return live.record

    async def list_page(self, owner: Owner, cursor: str | None) -> TaskPage:
        """The tasks of `owner`, newest first; checkpoints. Raises CursorError."""
        page = await self._store.list_page(owner, cursor, self.settings.page_size, self.clock.now())
        records = [self._live[r.id].record if r.id in self._live else r for r in page.records]
        return TaskPage(records, page.next_cursor)

    async def update(self, live: LiveTask) -> None:
        """Store a change of status, then notify the followers; checkpoints."""
        if live.is_ending:
            await trio.lowlevel.checkpoint()
            return  # `_end` notifies them
        if live.is_committed:
            await self._put(live.record, live.claim)
        else:
            await trio.lowlevel.checkpoint()
        live.tell()
        if self._is_finishing:
            await self._end_unanswerable(live)

    async def keep_checkpoint(self, live: LiveTask, checkpoint: Raw) -> None:
        """Keep a checkpoint of the handler, also in the store if the task is there. Checkpoints.

        Raises what the store raises, which is TaskStoreError.
        """
        live.checkpoint = checkpoint
        if not live.is_committed or live.is_ending or self._store.sweep_interval is None:
            await trio.lowlevel.checkpoint()
            return
        record = live.move(live.record.status)  # a store takes only what is newer
        await self._store.put([TaskChange(record, live.claim, checkpoint=checkpoint)])

    async def keep_answer(self, live: LiveTask, replay: QuestionReplay, key: str, answer: Any) -> None:
        """Keep the answer to a question for later attempts, also in the store. Checkpoints."""
        try:
            raw = encode_value(answer)
        except UNENCODABLE:  # an error, which is to be asked again
            await trio.lowlevel.checkpoint()
            return
        replay.answers[key] = answer
        if self._store.sweep_interval is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._store.answer(live.id, {key: raw}, self.clock.now())
        except TaskStoreError as error:
            logger.error("an answer of task %s could not be stored", live.id, exc_info=error)

    async def _end_unanswerable(self, live: LiveTask) -> None:
        """Cancel a task that waits for an answer, because its clients are gone and the server ends."""
        # A worker has no clients of its own that could be gone.
        if live.inputs and not live.is_ending and (self._may_give_back(live) or not self.interrupts):
            live.scope.cancel()
            if not self._may_give_back(live):
                await self._end(live, Outcome("cancelled"), _UNANSWERABLE)

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
            if outcome.kind == "cancelled" and self._may_give_back(live):
                await self._give_back(live, has_begun=has_begun)
            elif outcome.kind == "cancelled" and self.interrupts and live.state is LiveState.COMMITTED:
                interrupted = Outcome("protocol_error", error=ErrorObject(INTERNAL_ERROR, INTERRUPTED))
                await self._end(live, interrupted, INTERRUPTED)
            else:
                await self._end(live, outcome)
        if passing is not None:
            raise passing

    def _may_give_back(self, live: LiveTask) -> bool:
        """Whether a task that the end of the server has cancelled is to be run again by another."""
        # A task that somebody has cancelled is ending, and one that has expired is in another state.
        is_asked_for = live.work is not None and live.work.recover == "restart"
        return is_asked_for and self.keeps_work and live.state is LiveState.COMMITTED

    async def _give_back(self, live: LiveTask, *, has_begun: bool) -> None:
        """Put a task into the queue of the store, with its questions, because this server ends."""
        record = live.record
        inputs = live.inputs if live.replay is None else {**live.inputs, **live.replay.dropped}
        record = record.moved(
            TaskStatus.INPUT_REQUIRED if inputs else TaskStatus.WORKING,
            self.clock.now(),
            inputs=inputs,
            status_message=None,
            attempt=record.attempt if has_begun else record.attempt - 1,
        )
        try:
            # Shielded as the end of a task is.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                await self._store.release(record, live.claim)
        except TaskStoreError as error:  # it is recovered as the task of a dead process
            logger.error("task %s could not be given back", live.id, exc_info=error)
        finally:
            self._live.pop(live.id, None)
            live.expire()  # those who wait for its end look into the store

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

    async def _end(self, live: LiveTask, outcome: Outcome, reason: str | None = None) -> None:
        """Move the task to its end, once; the record is stored before a follower is notified.

        `reason` is its status message, if it has one.

        In this order: nobody else ends it (`begin_end`), the record is put into the store, it is final
        here (`settle`), the followers are notified (`tell`), and those who wait for the end wake up.
        """
        if live.is_ending:
            await live.wait_ended()
            return
        live.begin_end()
        is_stored = False
        record = live.record.moved(
            _ENDS[outcome.kind], self.clock.now(), outcome=outcome, inputs={}, status_message=reason
        )
        try:
            # Shielded so that no task stays "working" when the server is cancelled.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                refusal = await self._put(record, live.claim)
                if refusal is not None:
                    error = ErrorObject(INTERNAL_ERROR, f"the result could not be kept: {refusal}")
                    record = live.record.moved(
                        TaskStatus.FAILED,
                        self.clock.now(),
                        outcome=Outcome("protocol_error", error=error),
                        inputs={},
                        progress=None,
                    )
                    refusal = await self._put(record, live.claim)
                is_stored = refusal is None
        finally:
            live.settle(record)
            # If the end is not stored, the task stays, because only its live record shows the end. If it
            # has expired, it is not there any more, and leaves no history.
            if is_stored and self._live.pop(live.id, None) is not None:
                self._histories.keep(live.id, live.take_history() or ())
                self._kept.note_end(live.id)
            live.tell()
            live.note_ended()

    async def _put(self, record: TaskRecord, claim: int) -> str | None:
        """Put a record; if the store fails, the reason is logged and returned. Checkpoints."""
        try:
            await self._store.put([TaskChange(record, claim)])
        except Exception as error:  # foreign code: a store that fails must not end the server
            logger.error("task %s could not be stored", record.id, exc_info=error)
            return str(error)
        return None

    async def serve_upkeep(self) -> None:
        """Forget what expires, and put progress into a store that lags behind; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            if self._store.write_behind is not None:
                nursery.start_soon(self._write_behind, self._store.write_behind)

    async def _sweep(self) -> None:
        """Forget every task when it expires."""
        while True:
            task_id = await self._expiries.wait_next()
            try:
                await self._store.delete_expired(self.clock.now())
            except Exception:  # foreign code: a store that fails must not end the server
                logger.exception("the task store could not forget what has expired")
            self._histories.take(task_id)
            self._kept.discard(task_id)
            live = self._live.pop(task_id, None)
            if live is not None:
                live.expire()

    async def _write_behind(self, interval: float) -> None:
        """Put the progress of running tasks every `interval` seconds."""
        while True:
            await trio.sleep(interval)
            for live in list(self._live.values()):
                record = live.record
                if record.version > live.stored_version and not live.is_ending:
                    live.stored_version = record.version
                    await self._put(record, live.claim)

    async def finish(self) -> None:
        """Give running tasks `shutdown_grace` seconds, then cancel those that still run; checkpoints.

        A task that waits for an answer, now or later, is cancelled at once: nobody is left to answer.
        """
        self._is_finishing = True
        with trio.move_on_after(self.settings.shutdown_grace):
            await trio.lowlevel.checkpoint()
            for live in list(self._live.values()):
                await self._end_unanswerable(live)
            for live in list(self._live.values()):
                await live.wait_ended()
        for live in list(self._started):
            live.scope.cancel()


def _described(describe: Describe, failure: BaseException) -> Outcome:
    try:
        return describe(failure)
    except Exception:  # foreign code: an exception whose text cannot be made must not end the server
        logger.exception("the failure of a task cannot be described")
        return Outcome("protocol_error", error=ErrorObject(INTERNAL_ERROR, "the task failed"))


@asynccontextmanager
async def open_supervisor(store: TaskStore, settings: TaskSettings) -> AsyncIterator[Supervisor]:
    """Run tasks until the block ends; checkpoints.

    When the block ends, running tasks get `shutdown_grace` seconds and are then
    cancelled and recorded as such. When it is cancelled, they are cancelled at once.
    """
    async with store.open(), open_unwrapping_nursery() as nursery:
        supervisor = Supervisor(nursery, store, settings)
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
