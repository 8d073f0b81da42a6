"""The supervised nursery, in which tasks run outside all sessions.

Owns the handlers that run in this process, and what is asked of tasks. A handler's failure becomes its
task's outcome and touches nothing else. Knows neither tools nor sessions: it is given what to run. How many
tasks there may be is counted in `places.py` and `kept_records.py`; how they change in the store,
`held_tasks.py` knows.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import trio
from msgspec import Raw

from trio_mcp.concurrency.failures import split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskNotFound, TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.expiries import Expiries
from trio_mcp.tasks.followers import Followers
from trio_mcp.tasks.held_tasks import HeldTasks
from trio_mcp.tasks.history import EndedHistories, TaskReport
from trio_mcp.tasks.kept_records import KeptRecords
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.places import TaskPlaces
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord, TaskStatus, new_task_id
from trio_mcp.tasks.recovery import INTERRUPTED
from trio_mcp.tasks.settings import TaskSettings
from trio_mcp.tasks.store import STORE_SECONDS, TaskPage, TaskStore
from trio_mcp.tasks.store_calls import StoreCalls
from trio_mcp.tasks.stored_task import StoredReport, StoredTask, TaskWork
from trio_mcp.wire.codec import UNENCODABLE, encode_value
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.frames import ErrorObject

if TYPE_CHECKING:  # a server whose tasks all run in this process starts without it
    from trio_mcp.tasks.elsewhere import Elsewhere
    from trio_mcp.tasks.question_replay import QuestionReplay

logger = logging.getLogger("trio_mcp")

PAGE_REPORTS: Final = 256
"""Reports that are read from the store at once."""

_UNANSWERABLE: Final = "cancelled: the server ended while the task waited for an answer of its client"

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
        self._calls = StoreCalls()
        self._histories = EndedHistories(settings.history_reports)
        self._started: set[LiveTask] = set()
        self._places = TaskPlaces(settings)
        self._kept = KeptRecords(store, self._calls, settings.max_kept_per_owner, self._histories.take)
        self.followers = Followers(self.find, self.fetch, self._make_elsewhere)
        """Those who follow tasks, wherever these run."""
        take_over = self.followers.take_over
        self._held = HeldTasks(
            nursery, store, self._calls, self.clock, settings, self._kept, self._histories, take_over
        )
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
        try:
            stored = await self._kept.create(live.record, live.payer, key=key, work=work)
        except (TaskStoreError, trio.Cancelled):
            self._held.doubt(live.id)
            raise
        if stored.record.id != live.id:
            return stored.record
        live.work = work
        self._held.add(live, stored)
        if live.checkpoint is not None:
            await self.keep_checkpoint(live, live.checkpoint)
        expires_at = live.record.expires_at
        if expires_at is not None:
            self._expiries.add(live.id, expires_at)
        if live.outcome is not None:  # it was faster than its store
            await self._held.end(live, live.outcome)
        return None

    async def enqueue(self, live: LiveTask, work: TaskWork | None) -> TaskRecord:
        """Store a task for whoever claims it, and return its record. Checkpoints.

        Raises TaskOverload if there is no room, and TaskStoreError.
        """
        record = attrs.evolve(live.record, attempt=0)
        try:
            await self._kept.create(record, live.payer, work=work, is_queued=True)
        except (TaskStoreError, trio.Cancelled):
            self._held.doubt(live.id)
            raise
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
        live.work, live.checkpoint = work, task.checkpoint
        live.payer = record.owner if work is None or work.payer is None else work.payer
        live.share = self._places.adopt(live.payer)
        self._held.add(live, task)
        if record.expires_at is not None:
            self._expiries.add(live.id, record.expires_at)
        return live

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

    async def forget(self, task_id: str) -> None:
        """Forget a task that has ended, of which no client knows. Checkpoints."""
        self._kept.discard(task_id)
        self._histories.take(task_id)
        await self._store.delete(task_id)

    def find(self, task_id: str) -> LiveTask | None:
        """The task, if it runs in this process."""
        return self._held.find(task_id)

    def take_history(self, task_id: str) -> Sequence[TaskReport] | None:
        """The reports of a task that no follower has taken yet; None if a follower takes them already."""
        live = self._held.find(task_id)
        return self._histories.take(task_id) if live is None else live.take_history()

    async def read_reports(self, task_id: str, after: int) -> Sequence[StoredReport]:
        """The reports of a task behind the offset `after` that the store keeps, oldest first. Checkpoints.

        They include all that have been reported here until now. Raises TaskStoreError.
        """
        live = self._held.find(task_id)
        if live is not None:
            await self._held.flush(live)
        found: list[StoredReport] = []
        while True:
            page = await self._store.read_reports(task_id, after, PAGE_REPORTS)
            found += page
            if len(page) < PAGE_REPORTS:
                return found
            after = page[-1].offset

    def give_back_history(self, record: TaskRecord, reports: Sequence[TaskReport]) -> None:
        """Keep `reports`, which were taken but not sent, and later ones, for the next follower."""
        live = self._held.find(record.id)
        if live is not None:
            live.keep_history(reports)
        elif record.expires_at is None or record.expires_at > self.clock.now():
            self._histories.keep(record.id, tuple(reports))

    async def fetch(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """The record of a task that `asker` may see; None may see all. Checkpoints.

        It is no newer than what the other processes see that share the store, and may be a moment older.
        Raises TaskNotFound, TaskStoreError.
        """
        live = self._held.find(task_id)
        if live is None:
            record = await self._store.get(task_id, self.clock.now())
        else:
            await trio.lowlevel.checkpoint()
            record = live.stored if self._store.is_shared else live.shown
        return _admit(record, asker)

    async def fetch_newest(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """The same, but no older than what any process has seen that shares the store. Checkpoints."""
        if not self._store.is_shared:
            return await self.fetch(task_id, asker)
        # The answer to a put may come later here than what was put is seen elsewhere.
        return _admit(await self._store.get(task_id, self.clock.now()), asker)

    async def wait_ended(self, task_id: str, asker: Owner | None) -> TaskRecord:
        """Wait until a task has ended, wherever it runs; checkpoints.

        Raises TaskNotFound, also if it expires first, and TaskStoreError.
        """
        record = await self.fetch(task_id, asker)
        live = self._held.find(task_id)
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
        checkpoint, wherever it runs. Raises TaskNotFound; TaskStoreError if it could not be stored, although
        a handler that runs here is cancelled then, too.
        """
        record = await self.fetch(task_id, asker)
        live = self._held.find(task_id)
        if record.is_final:
            return record
        if live is not None:
            live.scope.cancel()
            await self._held.end(live, Outcome("cancelled"))
            if live.is_final:
                return live.record
            if live.state is LiveState.ENDING:
                raise TaskStoreError("the task is being cancelled, but the task store does not take that now")
        cancelled = await self._store.cancel(task_id, self.clock.now())
        if cancelled is None:
            raise TaskNotFound("no such task")
        return cancelled

    async def answer(self, record: TaskRecord, answers: Mapping[str, Any]) -> None:
        """Give answers, as JSON, to a task's questions, wherever it runs. Checkpoints. Raises TaskStoreError.

        When this returns, they are stored, if tasks outlive this process. An answer that nobody waits for is
        ignored (SEP-2663). Of several answers to one question, the first that is stored counts.
        """
        live = self._held.find(record.id)
        if live is not None and not self._held.outlive:
            for key, answer in answers.items():
                live.answer(key, answer)
            await trio.lowlevel.checkpoint()
            return
        raw = {key: encode_value(answer) for key, answer in answers.items()}
        await self._calls.run(self._store.answer, record.id, raw, self.clock.now())
        if live is not None:
            await self._held.look(record.id)

    def note_failure(self, error: TaskStoreError) -> None:
        """Log that the store fails, once for each outage."""
        self._calls.note_failure(error)

    def _make_elsewhere(self) -> Elsewhere:
        # Imported here: a server whose tasks all run in this process starts sooner without that module.
        from trio_mcp.tasks.elsewhere import Elsewhere

        return Elsewhere(self._nursery, self._store, self._calls, self.clock, self.settings.feed_buffer)

    async def list_page(self, owner: Owner, cursor: str | None) -> TaskPage:
        """The tasks of `owner`, newest first; checkpoints. Raises CursorError."""
        page = await self._store.list_page(owner, cursor, self.settings.page_size, self.clock.now())
        if self._store.is_shared:
            return page
        found = [(record, self._held.find(record.id)) for record in page.records]
        return TaskPage([record if live is None else live.shown for record, live in found], page.next_cursor)

    async def update(self, live: LiveTask) -> None:
        """Store a change of status, then notify the followers; checkpoints."""
        if live.is_committed:
            await self._held.update(live)
        else:
            await trio.lowlevel.checkpoint()
            live.tell()
        if self._is_finishing:
            await self._end_unanswerable(live)

    async def keep_checkpoint(self, live: LiveTask, checkpoint: Raw) -> None:
        """Keep a checkpoint of the handler, also in the store if the task is there. Checkpoints.

        Raises TaskOverload.
        """
        live.checkpoint = checkpoint
        if live.is_committed and not live.is_ending and self._held.outlive:
            await self._held.keep_checkpoint(live, checkpoint)
        else:
            await trio.lowlevel.checkpoint()

    async def keep_answer(self, live: LiveTask, replay: QuestionReplay, key: str, answer: Any) -> None:
        """Keep the answer to a question for later attempts, also in the store. Checkpoints."""
        try:
            raw = encode_value(answer)
        except UNENCODABLE:  # an error, which is to be asked again
            await trio.lowlevel.checkpoint()
            return
        replay.answers[key] = answer
        if not self._held.outlive:
            await trio.lowlevel.checkpoint()
            return
        with suppress(TaskStoreError):  # which was logged
            await self._calls.run(self._store.answer, live.id, {key: raw}, self.clock.now())

    async def _end_unanswerable(self, live: LiveTask) -> None:
        """Cancel a task that waits for an answer, because its clients are gone and the server ends."""
        # A worker has no clients of its own that could be gone.
        if live.inputs and not live.is_ending and (self._may_give_back(live) or not self.interrupts):
            live.scope.cancel()
            if self._may_give_back(live):
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
            if outcome.kind == "cancelled" and self._may_give_back(live):
                await self._give_back(live, has_begun=has_begun)
            elif outcome.kind == "cancelled" and self.interrupts and live.state is LiveState.COMMITTED:
                interrupted = Outcome("protocol_error", error=ErrorObject(INTERNAL_ERROR, INTERRUPTED))
                await self._held.end(live, interrupted, INTERRUPTED)
            else:
                await self._held.end(live, outcome)
        if passing is not None:
            raise passing

    def _may_give_back(self, live: LiveTask) -> bool:
        """Whether a task that the end of the server has cancelled is to be run again by another."""
        # A task that somebody has cancelled is ending, and one that is lost or expired in another state.
        is_asked_for = live.work is not None and live.work.recover == "restart"
        return is_asked_for and self._held.outlive and live.state is LiveState.COMMITTED

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
            # Shielded as the end of a task is. If it fails, the task is recovered as that of a dead process.
            scope = trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS)
            with suppress(TaskStoreError), scope:  # the error was logged
                await self._calls.run(self._store.release, record, live.claim)
        finally:
            self._held.lose(live)

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

                nursery.start_soon(OutsideChanges(self._store, self._calls, self._held, self.clock).serve)

    async def _sweep(self) -> None:
        """Forget every task when it expires."""
        while True:
            task_id = await self._expiries.wait_next()
            with suppress(TaskStoreError):  # which was logged
                await self._calls.run(self._store.delete_expired, self.clock.now())
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


def _admit(record: TaskRecord | None, asker: Owner | None) -> TaskRecord:
    if record is None or not (asker is None or record.owner.admits(asker)):
        raise TaskNotFound("no such task")
    return record


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
            supervisor.close()
