"""Tool calls with an idempotency key: of calls with the same key one is carried out, and all get its answer.

Owns the waiting of each caller. A record with the key is stored before the handler begins, so a call that
finds one joins it. The handler runs in the supervisor's nursery, or in a worker if this server runs no tasks,
and goes on if the connection of its caller is lost. This module is imported at the first such call.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from trio_mcp.errors import ProtocolError, TaskNotFound, TaskOverload, TaskStoreError
from trio_mcp.server.call_followers import CallFollower, name_task, wait_settled
from trio_mcp.server.call_names import CallName
from trio_mcp.server.input_rounds import InputRounds
from trio_mcp.server.task_choice import Choice
from trio_mcp.server.task_run import RunState, TaskRun, moved
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask, ReportSource
from trio_mcp.tasks.record import Outcome, TaskRecord
from trio_mcp.tasks.rendering import outcome_result
from trio_mcp.tasks.store import STORE_SECONDS
from trio_mcp.tasks.stored_task import TaskWork
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
from trio_mcp.wire.messages import Result

ASKED_AGAIN: Final = 8
"""How often a call may find that the one that it has joined has asked its client, and is made anew."""

MAX_ASKED_ALONE: Final = 1000
"""So many are remembered of which the client has not come back yet; a small text each."""


class CallKeys:
    """The calls with keys of one running server."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._creating: dict[str, trio.Event] = {}  # by the key: a record is being stored
        self._callers: Counter[str] = Counter()  # by the id: who waits for the answer here
        self._concluding: dict[str, trio.Event] = {}  # by the id: whoever has brought it has no answer yet
        self._asked_alone: dict[str, None] = {}  # ids of calls that have asked their client, which was gone

    async def call(
        self,
        request: ServerRequest,
        name: CallName,
        choice: Choice,
        make_run: Callable[[], TaskRun],
        rounds: InputRounds | None,
    ) -> Result:
        """Answer a call: carry out the run that `make_run` makes, or join the call that has the key already.

        `rounds` are given for a request that brings answers to what an earlier one has asked.
        Checkpoints. Raises ProtocolError if the key was used with other arguments, and for a call that was
        cancelled.
        """
        for _ in range(ASKED_AGAIN):
            run = make_run()
            is_queued = choice is not Choice.ANSWER and not self._supervisor.runs_tasks
            if rounds is not None and (is_queued or run.gatherer is not None):
                await rounds.resume(request)
                rounds = None
            if run.gatherer is not None:
                run.gathered = await run.gatherer(run)
            run.live.note_arguments(name.digest)
            known = await self._create(
                run, name.key, is_listed=choice is not Choice.ANSWER, is_queued=is_queued
            )
            if known.id == run.live.id:
                if is_queued:
                    return await self._wait_for_worker(run, known, choice)
                await self._admit(run, rounds)
                return await self._carry_out(run, choice)
            if known.arguments_digest != name.digest:
                raise ProtocolError(
                    INVALID_PARAMS,
                    "this idempotency key was used with other arguments: a key stands for one call",
                )
            answer = await self._join(request, known, choice, run.config.promote_after)
            if answer is not None:
                return answer
        raise ProtocolError(INTERNAL_ERROR, "the call with this idempotency key asks its client once more")

    async def _admit(self, run: TaskRun, rounds: InputRounds | None) -> None:
        """Take a place for a call that has its record, and begin its round; else the record is forgotten.

        Not earlier: a call that joins another needs no place, and what continues a call is taken once, which
        this request may only repeat.
        """
        supervisor, live = self._supervisor, run.live
        is_admitted = False
        try:
            supervisor.reserve(live)
            if rounds is not None:
                await rounds.resume(run.request)
            is_admitted = True
        except TaskOverload as error:
            raise ProtocolError(INTERNAL_ERROR, str(error)) from None
        finally:
            if not is_admitted:
                supervisor.release(live)
                # Shielded, so that the key does not stay with a call that nobody carries out.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                    await supervisor.access.cancel(live.id, None)
                    await supervisor.access.forget(live.id)

    def _note_asked(self, task_id: str) -> None:
        """Note that the call is made anew, if it is."""
        self._asked_alone[task_id] = None
        if len(self._asked_alone) > MAX_ASKED_ALONE:
            del self._asked_alone[next(iter(self._asked_alone))]

    async def _create(self, run: TaskRun, key: str, *, is_listed: bool, is_queued: bool) -> TaskRecord:
        """Store the record and return it, or that which has the key. Checkpoints.

        If it `is_queued`, it is for a worker.
        """
        supervisor, live = self._supervisor, run.live
        while key in self._creating:
            await self._creating[key].wait()
        created = self._creating[key] = trio.Event()
        try:
            # Shielded, so that no record is stored for which nobody runs a handler.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                work = run.describe_work(is_listed=is_listed)
                if is_queued:
                    return await supervisor.handover.enqueue(live, work, key=key)
                if work is None and not is_listed:
                    work = TaskWork(payer=live.payer, is_listed=False)
                return await supervisor.commit(live, key=key, work=work) or live.record
            raise ProtocolError(INTERNAL_ERROR, "the task store did not answer in time")
        except (TaskOverload, TaskStoreError) as error:
            raise ProtocolError(INTERNAL_ERROR, str(error)) from None
        finally:
            del self._creating[key]
            created.set()

    async def _wait_for_worker(self, run: TaskRun, record: TaskRecord, choice: Choice) -> Result:
        """Answer the call that has put a task into the queue; checkpoints.

        If its client wants no answer any more, and no other call waits here for it, the task is cancelled.
        """
        request = run.request
        run.state = moved(run.state, RunState.TASK)
        try:
            return await self._answer_elsewhere(request, record, choice, run.config.promote_after, after=0)
        except trio.Cancelled:
            if record.id not in self._callers and _gives_up(request):
                # Shielded, since nobody else would cancel what nobody wants.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                    await self._supervisor.access.cancel(record.id, None)
            raise

    async def _carry_out(self, run: TaskRun, choice: Choice) -> Result:
        """Start the handler, and answer the call that has brought it."""
        request, live = run.request, run.live
        if choice is Choice.TASK:
            created = run.become_task()
            run.start()
            return created
        run.state = moved(run.state, RunState.DIRECT if choice is Choice.ANSWER else RunState.PROMOTABLE)
        request.progress.record_in(live)
        if choice is Choice.ANSWER:
            live.take_history()  # nobody will follow it
        run.start()
        concluded = self._concluding[live.id] = trio.Event()
        try:
            seconds = math.inf if choice is Choice.ANSWER else run.config.promote_after
            if not await self._wait(request, live, CallFollower(choice), seconds):
                return run.become_task()
            questions = None if request.round is None else request.round.conclude()
            if questions is not None:
                # The call goes on by another request, which has the same key.
                await self._supervisor.access.forget(live.id)
                return questions
        except trio.Cancelled:
            live.add_follower(_Bystander(request, self._note_asked))
            raise
        finally:
            del self._concluding[live.id]
            concluded.set()
        outcome = live.outcome
        if outcome is None or outcome.kind == "cancelled":  # whoever has cancelled the task was faster
            outcome = await self._find_outcome(live)
        return _read(outcome)

    async def _join(
        self, request: ServerRequest, known: TaskRecord, choice: Choice, promote_after: float
    ) -> Result | None:
        """Answer by a call that has the key already; None if that one has asked its client, and is gone."""
        if known.id in self._asked_alone:
            del self._asked_alone[known.id]
            await self._supervisor.access.forget(known.id)
            return None
        live = self._supervisor.find(known.id)
        if live is None:
            return await self._answer_elsewhere(request, known, choice, promote_after)
        if choice is Choice.TASK:
            return name_task(self._supervisor, request, live.record)
        caller = CallFollower(choice, request.call_queue)
        caller.show(live)
        seconds = math.inf if choice is Choice.ANSWER else promote_after
        if not await self._wait(request, live, caller, seconds):
            return name_task(self._supervisor, request, live.record)
        if _was_cancelled(live.record):
            concluding = self._concluding.get(live.id)
            if concluding is not None:
                await concluding.wait()
            try:
                await self._supervisor.access.fetch(live.id, None)
            except TaskNotFound:
                return None
            if choice is Choice.PROMOTE:
                return name_task(self._supervisor, request, live.record)
        return _read(await self._find_outcome(live))

    async def _answer_elsewhere(
        self,
        request: ServerRequest,
        record: TaskRecord,
        choice: Choice,
        promote_after: float,
        *,
        after: int | None = None,
    ) -> Result:
        """Answer by a task that another process runs; `after` is that of `wait_settled`. Checkpoints."""
        if choice is not Choice.TASK and not record.is_final:
            seconds = math.inf if choice is Choice.ANSWER else promote_after
            caller = CallFollower(choice, request.call_queue)
            with self._counted(record.id):
                record = await wait_settled(self._supervisor, record, caller, seconds, after=after)
        is_task = choice is Choice.TASK or (choice is Choice.PROMOTE and _was_cancelled(record))
        if is_task or not record.is_final:
            return name_task(self._supervisor, request, record)
        return _read(record.outcome)

    @contextmanager
    def _counted(self, task_id: str) -> Iterator[None]:
        """While the block lasts, one more call waits for the task here."""
        self._callers[task_id] += 1
        try:
            yield
        finally:
            self._callers[task_id] -= 1
            if not self._callers[task_id]:
                del self._callers[task_id]

    async def _wait(
        self, request: ServerRequest, live: LiveTask, caller: CallFollower, seconds: float
    ) -> bool:
        """Wait for the end of a task; False if it asks its client or `seconds` pass first. Checkpoints.

        If the client wants no answer any more, and no other does, the task is cancelled; if the client is
        only gone, it goes on.
        """
        live.add_follower(caller)
        try:
            with self._counted(live.id):
                caller.follow(live.record)
                with trio.move_on_after(seconds):
                    await caller.settled.wait()
                return live.is_final or (live.state is LiveState.LOST and caller.has_ended)
        finally:
            live.remove_follower(caller)
            self._supervisor.followers.remove(live.id, caller)
            if live.id not in self._callers and _gives_up(request) and not live.is_ending:
                live.scope.cancel()

    async def _find_outcome(self, live: LiveTask) -> Outcome | None:
        """The outcome of a task that has ended here, or elsewhere if it was lost; checkpoints then."""
        if live.state is LiveState.LOST:
            follower = CallFollower(Choice.ANSWER)
            return (await wait_settled(self._supervisor, live.record, follower, math.inf)).outcome
        return live.record.outcome


class _Bystander:
    """Follows a call whose client is gone; `note` is called with its id if the handler ends by asking it."""

    def __init__(self, request: ServerRequest, note: Callable[[str], None]) -> None:
        self._request = request
        self._note = note

    def follow(self, record: TaskRecord) -> None:
        if record.is_final and self._request.round is not None and self._request.round.conclude() is not None:
            self._note(record.id)

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        """Nobody is told."""


def _gives_up(request: ServerRequest) -> bool:
    """Whether the client wants no answer any more, and is not only gone."""
    return request.was_cancelled or trio.current_time() >= request.deadline


def _was_cancelled(record: TaskRecord) -> bool:
    return record.outcome is not None and record.outcome.kind == "cancelled"


def _read(outcome: Outcome | None) -> Result:
    if outcome is None or outcome.kind == "cancelled":
        raise ProtocolError(
            INTERNAL_ERROR, "the call with this idempotency key was cancelled; to call anew, use another key"
        )
    return outcome_result(outcome)
