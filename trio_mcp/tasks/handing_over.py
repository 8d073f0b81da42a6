"""Handing tasks over between processes: to the queue of the store, and from it.

Owns what goes with a task so that another process, or a later attempt, can go on: its call, its questions,
their answers and its checkpoint. A server whose tasks stay in its process does not import this module.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio
from msgspec import Raw
from msgspec.structs import replace

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.expiries import Expiries
from trio_mcp.tasks.held_tasks import HeldTasks
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.places import TaskPlaces
from trio_mcp.tasks.question_replay import QuestionReplay
from trio_mcp.tasks.record import TaskRecord, TaskStatus
from trio_mcp.tasks.store import STORE_SECONDS, TaskStore
from trio_mcp.tasks.store_calls import StoreCalls
from trio_mcp.tasks.stored_task import StoredTask, TaskWork
from trio_mcp.wire.codec import encode_value


class Handover:
    """Hands over the tasks of one process; made by its `Supervisor`.

    `limit` is how many reports a task keeps for a follower that comes late.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        store: TaskStore,
        calls: StoreCalls,
        clock: TaskClock,
        held: HeldTasks,
        places: TaskPlaces,
        expiries: Expiries,
        limit: int,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._calls = calls
        self._clock = clock
        self._held = held
        self._places = places
        self._expiries = expiries
        self._limit = limit

    def __repr__(self) -> str:
        return f"<Handover: {len(self._held)} tasks held>"

    async def enqueue(self, live: LiveTask, work: TaskWork | None, *, key: str | None = None) -> TaskRecord:
        """Store a task for whoever claims it, and return its record. Checkpoints.

        If a task has the `key` already, its record is returned, and nothing is stored. Raises TaskOverload if
        there is no room, although tasks that have ended give way; TaskStoreError.
        """
        record = replace(live.record, attempt=0)
        stored = await self._held.create(record, live.payer, key=key, work=work, is_queued=True)
        if stored.record.id == record.id:
            self._expiries.add(record)
        return stored.record

    def adopt(self, task: StoredTask, *, keeps_history: bool) -> LiveTask:
        """Make a task of one that this process has claimed; it has a place, and is to be started."""
        record, work = task.record, task.work
        live = LiveTask(record, self._clock, self._limit if keeps_history else 0)
        live.work, live.checkpoint = work, task.checkpoint
        live.payer = record.owner if work is None or work.payer is None else work.payer
        live.share = self._places.adopt(live.payer)
        self._held.add(live, task)
        self._expiries.add(record)
        return live

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
        """Keep the answer to a question, as JSON, for later attempts, also in the store. Checkpoints.

        If the store fails, that is logged, and the answer is kept for the attempts of this process.
        """
        replay.answers[key] = answer
        if not self._held.outlive:
            await trio.lowlevel.checkpoint()
            return
        raw = encode_value(answer)
        with suppress(TaskStoreError):  # which was logged
            await self._calls.run(self._store.answer, live.id, {key: raw}, self._clock.now())

    def drop_question(self, live: LiveTask, key: str) -> None:
        """Forget a question for whose answer the handler has ceased to wait, unless the server ends.

        If it ends, the question goes with the task, and is on its record all the time: it may be answered.
        Does not wait.
        """
        replay = live.replay
        assert replay is not None, "a task that may be given back may be begun again"
        replay.abandoned.add(key)
        self._nursery.start_soon(self._drop_question, live, replay, key)

    async def _drop_question(self, live: LiveTask, replay: QuestionReplay, key: str) -> None:
        await trio.lowlevel.checkpoint()  # raises Cancelled if the server ends at once
        if key in replay.abandoned and not live.scope.cancel_called:
            replay.abandoned.discard(key)
            live.drop_question(key)
            await self._held.update(live)

    def may_give_back(self, live: LiveTask) -> bool:
        """Whether a task that the end of the server has cancelled is to be run again by another."""
        # A task that somebody has cancelled is ending, and one that is lost or expired in another state.
        is_asked_for = live.work is not None and live.work.recover == "restart"
        return is_asked_for and self._held.outlive and live.state is LiveState.COMMITTED

    async def give_back(self, live: LiveTask, *, has_begun: bool) -> None:
        """Put a task into the queue of the store, with its questions, because this server ends."""
        record = live.record
        inputs = live.inputs if live.replay is None else {**live.inputs, **live.replay.dropped}
        record = record.moved(
            TaskStatus.INPUT_REQUIRED if inputs else TaskStatus.WORKING,
            self._clock.now(),
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
