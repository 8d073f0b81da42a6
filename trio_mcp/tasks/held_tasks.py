"""The tasks that this process runs and its store keeps: how they change there, end, expire and get lost.

Owns the one order of a change: it is stored, then told. If another process has changed a task, or taken it
over, what the store says counts. Runs no handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import trio
from msgspec import Raw

from trio_mcp.errors import TaskOverload, TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.history import EndedHistories
from trio_mcp.tasks.kept_records import KeptRecords
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import Outcome, Owner, TaskRecord, TaskStatus
from trio_mcp.tasks.settings import TaskSettings
from trio_mcp.tasks.store import STORE_SECONDS, TaskChange, TaskStore
from trio_mcp.tasks.store_calls import FIRST_PAUSE, StoreCalls, longer
from trio_mcp.tasks.stored_task import StoredTask, TaskWork
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.frames import ErrorObject

MAX_DOUBTFUL: Final = 10_000
"""Creations that have failed during one outage of the store; most have changed nothing there."""

logger = logging.getLogger("trio_mcp.tasks")

_ENDS: Final = {
    "result": TaskStatus.COMPLETED,
    "tool_error": TaskStatus.COMPLETED,
    "protocol_error": TaskStatus.FAILED,
    "cancelled": TaskStatus.CANCELLED,
}


class HeldTasks:
    """The live tasks by id. `outlive` says whether what is in the store outlives this process.

    Then an end is told only once it is stored, however long that takes. Otherwise an end that the store
    does not take is seen from the live task, which then stays. `take_over` is called with each task that
    is lost.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        store: TaskStore,
        calls: StoreCalls,
        clock: TaskClock,
        settings: TaskSettings,
        kept: KeptRecords,
        histories: EndedHistories,
        take_over: Callable[[LiveTask], object],
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._calls = calls
        self._clock = clock
        self._kept = kept
        self._histories = histories
        self._take_over = take_over
        self._live: dict[str, LiveTask] = {}
        # What the store may have kept, although it did not say so: it would run for ever there.
        self._doubtful: dict[str, None] = {}
        self._was_doubted = trio.lowlevel.ParkingLot()
        self._retries: set[trio.CancelScope] = set()
        self._retries_ends = True
        self.outlive = store.sweep_interval is not None
        self.flusher = None
        if store.write_behind is not None:
            # Imported here: a server whose tasks stay in memory starts sooner without that module.
            from trio_mcp.tasks.flusher import Flusher

            self.flusher = Flusher(
                self._put_changes, store.write_behind, settings.feed_buffer, clock, self._note_lost
            )

    def __repr__(self) -> str:
        return f"<HeldTasks: {len(self._live)} live, {len(self._doubtful)} in doubt>"

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveTask]:
        return iter(list(self._live.values()))

    def find(self, task_id: str) -> LiveTask | None:
        """The task, if it runs in this process."""
        return self._live.get(task_id)

    def add(self, live: LiveTask, stored: StoredTask) -> None:
        """Note that a task is stored, as `stored`, and held by this process."""
        live.holder, live.stored = stored.holder, stored.record
        if stored.claim > live.claim:
            live.hold_under(stored.claim)
        self._live[live.id] = live
        if self.flusher is not None:
            live.add_follower(self.flusher)
            if live.record.version > stored.record.version:
                self.flusher.note_changed(live)
        live.note_committed()

    async def create(
        self,
        record: TaskRecord,
        payer: Owner,
        *,
        key: str | None = None,
        work: TaskWork | None = None,
        is_queued: bool = False,
    ) -> StoredTask:
        """Store a new record as `KeptRecords.create` does. Checkpoints. Raises TaskOverload, TaskStoreError.

        If it fails, the store may have carried it out all the same, and nobody would run the task. It is
        deleted later: by `OutsideChanges`, or before the next call with a key, which would find it.
        """
        if key is not None:
            await self.delete_doubtful()
        try:
            return await self._kept.create(record, payer, key=key, work=work, is_queued=is_queued)
        except (TaskStoreError, trio.Cancelled):
            if self.outlive and len(self._doubtful) < MAX_DOUBTFUL:
                self._doubtful[record.id] = None
                self._was_doubted.unpark_all()
            raise

    async def wait_doubtful(self) -> None:
        """Wait until a creation has failed of which nobody knows what came of it; checkpoints."""
        await trio.lowlevel.checkpoint()
        while not self._doubtful:
            await self._was_doubted.park()

    async def delete_doubtful(self) -> None:
        """Delete the tasks whose creation has failed; checkpoints if there are any. Raises TaskStoreError."""
        while self._doubtful:
            task_id = next(iter(self._doubtful))
            await self._calls.run(self._store.delete, task_id)
            self._doubtful.pop(task_id, None)  # somebody else may have deleted it meanwhile

    async def update(self, live: LiveTask) -> None:
        """Store a change of status, then notify the followers; checkpoints.

        If the store fails and outlives this process, this waits until it takes the change.
        """
        pause = FIRST_PAUSE
        while not live.is_ending:
            try:
                is_held = await self._put(live, live.record)
            except TaskOverload as refusal:
                logger.error("task %s could not be stored: %s", live.id, refusal)
            except TaskStoreError:
                if self.outlive:
                    await trio.sleep(pause)
                    pause = longer(pause)
                    continue
            else:
                if not is_held:
                    await self.look(live.id)
                    return
            if not live.is_ending:
                live.tell()
            return
        await trio.lowlevel.checkpoint()  # `end` notifies them

    async def end(self, live: LiveTask, outcome: Outcome, reason: str | None = None) -> None:
        """Move the task to its end, once; the record is stored before a follower is notified. Checkpoints.

        `reason` is its status message, if it has one.

        In this order: nobody else ends it (`begin_end`), the record is put into the store, it is final
        here (`settle`), the followers are notified (`tell`), and those who wait for the end wake up.
        """
        if live.is_ending:
            await live.wait_ended()
            return
        live.begin_end()
        record = live.record.moved(
            _ENDS[outcome.kind], self._clock.now(), outcome=outcome, inputs={}, status_message=reason
        )
        is_stored = is_later = False
        try:
            # Shielded so that no task stays "working" when the server is cancelled.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                record, is_stored = await self._store_end(live, record)
            if not is_stored and self.outlive and self._retries_ends and live.state is LiveState.ENDING:
                is_later = True
                self._nursery.start_soon(self._end_later, live, record)
        finally:
            if not is_later:
                self._show_end(live, record, is_stored=is_stored)

    async def _end_later(self, live: LiveTask, record: TaskRecord) -> None:
        """Store an end as soon as the store takes it; no longer than the server runs."""
        is_stored = False
        pause = FIRST_PAUSE
        scope = trio.CancelScope()
        self._retries.add(scope)
        try:
            with scope:
                while not is_stored:
                    await trio.sleep(pause)
                    pause = longer(pause)
                    if live.state is not LiveState.ENDING:
                        break
                    record, is_stored = await self._store_end(live, record)
        finally:
            self._retries.discard(scope)
            self._show_end(live, record, is_stored=is_stored)

    async def _store_end(self, live: LiveTask, record: TaskRecord) -> tuple[TaskRecord, bool]:
        """Put the final record of a task; returns that which is to be shown, and whether it is stored."""
        try:
            is_held = await self._put(live, record)
        except (TaskOverload, TaskStoreError) as refusal:
            if isinstance(refusal, TaskStoreError) and self.outlive:
                return record, False
            record = self._refused(live, refusal)
            try:
                is_held = await self._put(live, record)
            except (TaskOverload, TaskStoreError):
                return record, False
        if is_held:
            return record, True
        return await self._find_end(live) or record, True

    def _refused(self, live: LiveTask, refusal: Exception) -> TaskRecord:
        if isinstance(refusal, TaskOverload):
            logger.error("task %s could not be stored: %s", live.id, refusal)
        error = ErrorObject(INTERNAL_ERROR, f"the result could not be kept: {refusal}")
        return live.record.moved(
            TaskStatus.FAILED,
            self._clock.now(),
            outcome=Outcome("protocol_error", error=error),
            inputs={},
            progress=None,
        )

    async def _find_end(self, live: LiveTask) -> TaskRecord | None:
        """What the store says of a task that it does not hold for this process: its end, if it has one.

        The task is lost if it goes on elsewhere, or if the store cannot say.
        """
        try:
            stored = await self._calls.run(self._store.load, live.id)
        except TaskStoreError:
            self.lose(live)
            return None
        if stored is None:
            return None
        if stored.record.is_final:
            return stored.record
        self.lose(live)
        return None

    def _show_end(self, live: LiveTask, record: TaskRecord, *, is_stored: bool) -> None:
        """Tell the followers of an end; those of a lost task hear of it from the store."""
        if not is_stored and self.outlive and live.state is LiveState.ENDING:
            self.lose(live)
        if live.state is LiveState.LOST:
            return
        live.settle(record)
        # If the end is not stored, the task stays, because only its live record shows the end. If it
        # has expired, it is not there any more, and leaves no history.
        if is_stored and self._live.pop(live.id, None) is not None:
            self._histories.keep(live.id, live.take_history() or ())
            self._kept.note_end(live.id)
        live.tell()
        live.note_ended()

    async def flush(self, live: LiveTask) -> None:
        """Put the progress that waits for the next put; checkpoints if it may. Raises TaskStoreError."""
        if self.flusher is not None and live.is_committed and not live.is_ending:
            await self.flusher.put(live, live.record)

    async def look(self, task_id: str) -> None:
        """Act on what another process has changed of a task; checkpoints. Raises TaskStoreError.

        If it was cancelled there, its handler is cancelled here and its followers are told. If it was
        answered, the handler gets the answers. If it is held there, or is gone, the handler is cancelled.
        """
        stored = await self._calls.run(self._store.load, task_id)
        live = self._live.get(task_id)
        if live is None or live.state is not LiveState.COMMITTED:
            return  # an end that is being stored finds out by itself
        if stored is None:
            self.expire(task_id)
        elif stored.record.is_final:
            live.scope.cancel()
            live.begin_end()
            self._show_end(live, stored.record, is_stored=True)
        elif stored.claim != live.claim or stored.holder != live.holder:
            self.lose(live)
        else:
            for key, answer in stored.answers.items():
                live.answer(key, msgspec.json.decode(answer))

    def lose(self, live: LiveTask) -> None:
        """Cancel the handler of a task that is not held any more; its followers go on by the store."""
        if self._live.get(live.id) is not live:
            return
        del self._live[live.id]
        self._kept.discard(live.id)
        if self.flusher is not None:
            live.remove_follower(self.flusher)
            self.flusher.forget(live)
        if live.state not in (LiveState.COMMITTED, LiveState.ENDING):
            return  # its end was told, although the store could not take it
        live.lose()
        self._take_over(live)

    def lose_all(self) -> None:
        """The same for all tasks, because others take this process for dead."""
        for live in self:
            self.lose(live)

    def expire(self, task_id: str) -> None:
        """Cancel the handler of a task whose record is forgotten, and keep nothing of it."""
        self._histories.take(task_id)
        self._kept.discard(task_id)
        live = self._live.pop(task_id, None)
        if live is not None:
            if self.flusher is not None:
                self.flusher.forget(live)
            live.expire()

    def stop_retries(self) -> None:
        """Give up the ends that the store does not take, because the server ends."""
        self._retries_ends = False
        for scope in list(self._retries):
            scope.cancel()

    async def keep_checkpoint(self, live: LiveTask, checkpoint: Raw) -> None:
        """Store what a handler keeps for later attempts. Checkpoints. Raises TaskOverload.

        If the store fails, this waits until it takes the value. If the task is lost or has ended, its handler
        was cancelled, and goes no further.
        """
        pause = FIRST_PAUSE
        while not live.is_ending:
            record = live.move(live.record.status)  # a store takes only what is newer
            with suppress(TaskStoreError):  # which was logged
                if await self._put(live, record, checkpoint):
                    return
                await self.look(live.id)
            await trio.sleep(pause)
            pause = longer(pause)
        await trio.lowlevel.checkpoint()

    async def _put(self, live: LiveTask, record: TaskRecord, checkpoint: Raw | None = None) -> bool:
        """Put a record; False if the task is lost. Raises TaskStoreError, TaskOverload. Checkpoints."""
        if self.flusher is not None:
            return await self.flusher.put(live, record, checkpoint)
        change = TaskChange(record, live.claim, checkpoint=checkpoint)
        is_held = not await self._calls.run(self._store.put, [change])
        if live.stored is None or record.version > live.stored.version:  # puts may overtake each other
            live.stored = record
        return is_held

    async def _put_changes(self, changes: Sequence[TaskChange]) -> Collection[str]:
        seconds = self._store.put_timeout
        if seconds is None:
            return await self._calls.run(self._store.put, changes)
        with trio.move_on_after(seconds):
            return await self._calls.run(self._store.put, changes)
        error = TaskStoreError(f"the task store did not take changes within {seconds:g} s")
        self._calls.note_failure(error)
        raise error

    def _note_lost(self, live: LiveTask) -> None:
        """Find out what has become of a task whose progress the store did not take."""
        self._nursery.start_soon(self._look_after, live)

    async def _look_after(self, live: LiveTask) -> None:
        if live.state is not LiveState.COMMITTED:
            return
        try:
            await self.look(live.id)
        except TaskStoreError:
            self.lose(live)
