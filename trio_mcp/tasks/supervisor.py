"""The supervised nursery, in which tasks run outside all sessions.

Owns the tasks that run in this process, their caps, their ends and their
expiry. A handler's failure becomes its task's outcome and touches nothing else.
Knows neither tools nor sessions: it is given what to run.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, TypeAlias

import attrs
import trio

from trio_mcp.concurrency.failures import split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskNotFound, TaskOverload
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import EndedHistories, TaskReport
from trio_mcp.tasks.kept_records import KeptRecords
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord, TaskStatus, new_task_id
from trio_mcp.tasks.settings import TaskSettings
from trio_mcp.tasks.store import TaskPage, TaskStore
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.frames import ErrorObject

logger = logging.getLogger("trio_mcp")

ROOM_TRIES: Final = 3
"""How often a full store is asked again after a record gave way, since another task may take its room."""

STORE_SECONDS: Final = 5.0
"""How long the end of a task waits for its store while the server is being cancelled."""

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
        self._places = trio.CapacityLimiter(settings.max_running)
        self._kept = KeptRecords()
        self._is_finishing = False
        self._unfinished: Counter[Owner] = Counter()  # the places that each payer has taken
        self._beyond = 0  # what runs beyond max_running
        self._taken = 0  # running, queued and prepared; at most max_running + max_queued
        self._expiries: list[tuple[datetime, str]] = []
        self._expiry_added = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Supervisor: {now.running} running, {now.queued} queued, {now.kept_reports} reports kept>"

    def statistics(self) -> SupervisorStatistics:
        """The state now."""
        running = self._places.borrowed_tokens + self._beyond
        return SupervisorStatistics(
            running=running,
            queued=self._taken - running,
            live=len(self._live),
            kept_reports=self._histories.count,
            free_places=self.settings.max_running + self.settings.max_queued - self._taken,
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
        if reserves:
            self._reserve(payer)
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
        live.payer, live.has_place = payer, reserves
        return live

    def start(self, live: LiveTask, work: Work, describe: Describe, *, waits: bool = True) -> None:
        """Run `work` in the supervised nursery as soon as there is a place, or at once unless it `waits`.

        `describe` makes the outcome of an exception that `work` raises.
        """
        self._started.add(live)
        self._nursery.start_soon(self._run, live, work, describe, waits, name=f"task {live.id}")

    def _reserve(self, payer: Owner) -> None:
        settings = self.settings
        if self._taken >= settings.max_running + settings.max_queued:
            raise TaskOverload(f"overloaded: {settings.max_running} tasks run and {settings.max_queued} wait")
        if self._unfinished[payer] >= settings.max_unfinished_per_owner:
            raise TaskOverload(
                f"overloaded: max_unfinished_per_owner is {settings.max_unfinished_per_owner}, and so many "
                "tasks of this client run or wait"
            )
        self._unfinished[payer] += 1
        self._taken += 1

    def release(self, live: LiveTask) -> None:
        """Give up the place of a task that is done, or will not be started; it may have none."""
        if live.has_place:
            live.has_place = False
            self._taken -= 1
            self._unfinished[live.payer] -= 1
            if not self._unfinished[live.payer]:
                del self._unfinished[live.payer]

    async def commit(self, live: LiveTask) -> None:
        """Store the record: from now on the task can be found. Checkpoints. Raises TaskOverload.

        Ended tasks give way first: the oldest of the same payer, then, if the store is full, of all.
        """
        cap = self.settings.max_kept_per_owner
        while self._kept.count(live.payer) >= cap:  # noqa: ASYNC913  # each turn forgets a record or raises
            if not await self._give_way(live.payer):
                raise TaskOverload(
                    f"overloaded: max_kept_per_owner is {cap}, and so many tasks of this client are kept"
                )
        self._kept.add(live.id, live.payer)
        try:
            await self._create(live)
        except BaseException:
            self._kept.discard(live.id)
            raise
        self._live[live.id] = live
        live.note_committed()
        expires_at = live.record.expires_at
        if expires_at is not None:
            if len(self._expiries) > 2 * len(self._kept) + 64:  # most of them gave way
                self._expiries = [each for each in self._expiries if each[1] in self._kept]
                heapq.heapify(self._expiries)
            heapq.heappush(self._expiries, (expires_at, live.id))
            self._expiry_added.unpark_all()
        if live.outcome is not None:  # it was faster than its store
            await self._end(live, live.outcome)

    async def _create(self, live: LiveTask) -> None:
        for _ in range(ROOM_TRIES):
            try:
                await self._store.create(live.record)
                return
            except TaskOverload as error:
                refusal = error
            if not (await self._give_way(live.payer) or await self._give_way(None)):
                raise refusal
        await self._store.create(live.record)

    async def _give_way(self, payer: Owner | None) -> bool:
        """Forget the task that ended first, of `payer` or of all; False if none can be forgotten."""
        delete = getattr(self._store, "delete", None)
        task_id = self._kept.oldest_ended(payer)
        if delete is None or task_id is None:
            return False
        self._kept.discard(task_id)
        self._histories.take(task_id)
        # Shielded, since nobody would forget the record before it expires.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
            await delete(task_id)
        return True

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
            await self._put(live.record)
        else:
            await trio.lowlevel.checkpoint()
        live.tell()
        if self._is_finishing:
            await self._end_unanswerable(live)

    async def _end_unanswerable(self, live: LiveTask) -> None:
        """Cancel a task that waits for an answer, because its clients are gone and the server ends."""
        if live.inputs and not live.is_ending:
            live.scope.cancel()
            await self._end(live, Outcome("cancelled"), _UNANSWERABLE)

    async def _run(self, live: LiveTask, work: Work, describe: Describe, waits: bool) -> None:
        """Run one handler; the failure boundary outside its scope makes every failure the outcome."""
        outcome = Outcome("cancelled")
        passing: BaseException | None = None
        try:
            with live.scope:
                if waits or self._places.available_tokens:
                    async with self._places:
                        outcome = await work(live)
                else:
                    outcome = await self._run_beyond(live, work)
        except BaseException as error:  # noqa: ASYNC103  # the boundary of tasks; cancellation is raised again below
            passing, failure = split_failure(error)
            if failure is not None:
                outcome = _described(describe, failure)
        self.release(live)
        self._started.discard(live)
        live.note_done(outcome)
        if live.is_committed:
            await self._end(live, outcome)
        if passing is not None:
            raise passing

    async def _run_beyond(self, live: LiveTask, work: Work) -> Outcome:
        """Run a call that is answered directly, if it can be, though `max_running` tasks run."""
        self._beyond += 1
        try:
            return await work(live)
        finally:
            self._beyond -= 1

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
                refusal = await self._put(record)
                if refusal is not None:
                    error = ErrorObject(INTERNAL_ERROR, f"the result could not be kept: {refusal}")
                    record = live.record.moved(
                        TaskStatus.FAILED,
                        self.clock.now(),
                        outcome=Outcome("protocol_error", error=error),
                        inputs={},
                        progress=None,
                    )
                    refusal = await self._put(record)
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

    async def _put(self, record: TaskRecord) -> str | None:
        """Put a record; if the store fails, the reason is logged and returned. Checkpoints."""
        try:
            await self._store.put(record)
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
        while True:  # noqa: ASYNC913  # each turn parks, or forgets one task
            if not self._expiries:
                await self._expiry_added.park()
                continue
            wait = self.clock.seconds_until(self._expiries[0][0])
            if wait > 0:
                with trio.move_on_after(wait):
                    await self._expiry_added.park()
                continue
            _, task_id = heapq.heappop(self._expiries)
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
                    await self._put(record)

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
    async with open_unwrapping_nursery() as nursery:
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
