"""Tool calls with an idempotency key: of calls with the same key one is carried out, and all get its answer.

Owns whose key is whose, which calls are the same, and the waiting of each caller. A record with the key is
stored before the handler begins, so a call that finds one joins it. The handler runs in the supervisor's
nursery, and goes on if the connection of its caller is lost. This module is imported at the first such call.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_mcp.errors import ProtocolError, TaskNotFound, TaskOverload, TaskStoreError
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.report import Report
from trio_mcp.server.input_rounds import InputRounds
from trio_mcp.server.legacy_task_wires import LegacyStatus
from trio_mcp.server.task_choice import Choice
from trio_mcp.server.task_run import RunState, TaskRun, moved
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask, ReportSource
from trio_mcp.tasks.record import Outcome, TaskRecord
from trio_mcp.tasks.rendering import extension_created, legacy_task, outcome_result
from trio_mcp.tasks.store import STORE_SECONDS
from trio_mcp.tasks.stored_task import TaskWork
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
from trio_mcp.wire.idempotency import find_problem
from trio_mcp.wire.messages import META_IDEMPOTENCY_KEY, Result
from trio_mcp.wire.tasks import LegacyCreateTaskResult

UNGUESSED_CHARACTERS: Final = 22
"""So many characters of base64 hold 128 random bits; a UUID is longer."""

ASKED_AGAIN: Final = 8
"""How often a call may find that the one that it has joined has asked its client, and is made anew."""

MAX_ASKED_ALONE: Final = 1000
"""So many are remembered of which the client has not come back yet; a small text each."""


@attrs.frozen
class CallName:
    """A call by its key: `key` is what the store knows it by, `digest` that of its arguments."""

    key: str
    digest: str


def name_call(request: ServerRequest, tool: str, arguments: msgspec.Raw | None) -> CallName:
    """Name the call of a request with a key; raises ProtocolError for a key that is none, or too weak.

    A key belongs to a principal. Without one the key itself admits, as the id of a task does. Over a network
    it must therefore be one that nobody guesses; whoever started the server as a subprocess, or serves it in
    memory, may use any.
    """
    key = request.meta.values[META_IDEMPOTENCY_KEY]
    problem = find_problem(key)
    if problem is not None:
        raise ProtocolError(INVALID_PARAMS, problem)
    connection = request.connection
    whose = ["local"]
    if connection.principal is not None:
        whose = ["principal", connection.principal]
    elif connection.peer is not None or connection.headers:
        whose = ["bearer"]
        if len(key) < UNGUESSED_CHARACTERS:
            raise ProtocolError(
                INVALID_PARAMS,
                f"an idempotency key of a client that is not authenticated must have at least "
                f"{UNGUESSED_CHARACTERS} characters, and be one that nobody can guess, such as a random UUID",
            )
    try:
        digest = _digest({} if arguments is None else msgspec.json.decode(arguments))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(INVALID_PARAMS, f"the arguments cannot be read: {error}") from None
    return CallName(_digest([*whose, tool, key]), digest)


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


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
            if run.gatherer is not None:
                if rounds is not None:
                    await rounds.resume(request)
                    rounds = None
                run.gathered = await run.gatherer(run)
            run.live.note_arguments(name.digest)
            known = await self._create(run, name.key, is_listed=choice is not Choice.ANSWER)
            if known is None:
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
                    await supervisor.cancel(live.id, None)
                    await supervisor.forget(live.id)

    def _note_asked(self, task_id: str) -> None:
        """Note that the call is made anew, if it is."""
        self._asked_alone[task_id] = None
        if len(self._asked_alone) > MAX_ASKED_ALONE:
            del self._asked_alone[next(iter(self._asked_alone))]

    async def _create(self, run: TaskRun, key: str, *, is_listed: bool) -> TaskRecord | None:
        """Store the record, or return the one that has the key; checkpoints."""
        while key in self._creating:
            await self._creating[key].wait()
        created = self._creating[key] = trio.Event()
        try:
            # Shielded, so that no record is stored for which nobody runs a handler.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                work = run.describe_work(is_listed=is_listed)
                if work is None and not is_listed:
                    work = TaskWork(payer=run.live.payer, is_listed=False)
                return await self._supervisor.commit(run.live, key=key, work=work)
            raise ProtocolError(INTERNAL_ERROR, "the task store did not answer in time")
        except (TaskOverload, TaskStoreError) as error:
            raise ProtocolError(INTERNAL_ERROR, str(error)) from None
        finally:
            del self._creating[key]
            created.set()

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
            if not await self._wait(request, live, _Caller(choice), seconds):
                return run.become_task()
            questions = None if request.round is None else request.round.conclude()
            if questions is not None:
                # The call goes on by another request, which has the same key.
                await self._supervisor.forget(live.id)
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
            await self._supervisor.forget(known.id)
            return None
        live = self._supervisor.find(known.id)
        record = known if live is None else live.record
        if choice is Choice.TASK:
            return self._become_task(request, record, live)
        seconds = math.inf if choice is Choice.ANSWER else promote_after
        if live is None:
            if not record.is_final:
                record = await self._follow_elsewhere(record, _Caller(choice, request.call_queue), seconds)
            if not record.is_final or (choice is Choice.PROMOTE and _was_cancelled(record)):
                return self._become_task(request, record, None)
            return _read(record.outcome)
        caller = _Caller(choice, request.call_queue)
        caller.follow_now(live)
        if not await self._wait(request, live, caller, seconds):
            return self._become_task(request, live.record, live)
        if _was_cancelled(live.record):
            concluding = self._concluding.get(live.id)
            if concluding is not None:
                await concluding.wait()
            try:
                await self._supervisor.fetch(live.id, None)
            except TaskNotFound:
                return None
            if choice is Choice.PROMOTE:
                return self._become_task(request, live.record, live)
        return _read(await self._find_outcome(live))

    async def _wait(self, request: ServerRequest, live: LiveTask, caller: _Caller, seconds: float) -> bool:
        """Wait for the end of a task; False if it asks its client or `seconds` pass first. Checkpoints.

        If the client wants no answer any more, and no other does, the task is cancelled; if the client is
        only gone, it goes on.
        """
        self._callers[live.id] += 1
        live.add_follower(caller)
        try:
            caller.follow(live.record)
            with trio.move_on_after(seconds):
                await caller.settled.wait()
            return live.is_final or (live.state is LiveState.LOST and caller.has_ended)
        finally:
            live.remove_follower(caller)
            self._supervisor.followers.remove(live.id, caller)
            self._callers[live.id] -= 1
            if not self._callers[live.id]:
                del self._callers[live.id]
                gives_up = request.was_cancelled or trio.current_time() >= request.deadline
                if gives_up and not live.is_ending:
                    live.scope.cancel()

    async def _find_outcome(self, live: LiveTask) -> Outcome | None:
        """The outcome of a task that has ended here, or elsewhere if it was lost; checkpoints then."""
        if live.state is LiveState.LOST:
            return (await self._wait_elsewhere(live.record)).outcome
        return live.record.outcome

    async def _follow_elsewhere(self, record: TaskRecord, caller: _Caller, seconds: float) -> TaskRecord:
        """Wait as `_wait` does for a task that another process runs; returns its record then. Checkpoints."""
        followers = self._supervisor.followers
        # The reports come by the same way as the end, and so in front of it.
        followers.add(record, caller, wants_all=True, on_gone=caller.settled.set)
        try:
            with trio.move_on_after(seconds):
                await caller.settled.wait()
        finally:
            followers.remove(record.id, caller)
        try:
            return await self._supervisor.fetch(record.id, None)
        except TaskNotFound:
            raise ProtocolError(INTERNAL_ERROR, "the call with this idempotency key has expired") from None

    async def _wait_elsewhere(self, record: TaskRecord) -> TaskRecord:
        """Wait for the end of a task that does not run in this process; checkpoints."""
        try:
            return await self._supervisor.wait_ended(record.id, None)
        except TaskNotFound:
            raise ProtocolError(INTERNAL_ERROR, "the call with this idempotency key has expired") from None

    def _become_task(self, request: ServerRequest, record: TaskRecord, live: LiveTask | None) -> Result:
        """Answer with a task that another call has made; in 2025-11-25 its progress has this call's token."""
        if request.era.modern:
            return extension_created(record)
        outbox = request.connection.home.outbox
        queue = request.call_queue = request.call_queue.succeed(outbox, record.id)
        if live is None or live.is_final:
            queue.finish(None)
        else:
            caller = _Caller(Choice.TASK, queue)
            caller.follow_now(live)
            live.add_follower(caller)
            live.add_follower(LegacyStatus(queue, outbox, self._supervisor, record))
        return LegacyCreateTaskResult(task=legacy_task(record))


class _Caller:
    """Follows a task for one call: its reports leave by `queue`, if that is given.

    `settled` is set when the call can be answered as its `choice` says: a question needs a task. The task
    `has_ended` if its last record was final.
    """

    def __init__(self, choice: Choice, queue: CallQueue | None = None) -> None:
        self._choice = choice
        self._queue = queue
        self.settled = trio.Event()
        self.has_ended = False

    def follow(self, record: TaskRecord) -> None:
        self.has_ended = record.is_final
        if record.is_final or (record.inputs and self._choice is not Choice.ANSWER):
            self.settled.set()

    def follow_now(self, live: LiveTask) -> None:
        """Send the progress so far."""
        progress = live.record.progress
        if progress is not None:
            self._push(live, progress.current, progress.total, progress.message)

    def follow_report(
        self, task: ReportSource, report: TaskReport, replaced: TaskReport | None = None
    ) -> None:
        self._push(task, report[0], report[1], report[2])

    def _push(
        self, task: ReportSource, current: float | None, total: float | None, message: str | None
    ) -> None:
        if self._queue is None or not self._queue.has_token:
            return
        if self._queue.stages is None and isinstance(task, LiveTask):
            self._queue.stages = task.stages
        self._queue.push(Report(0 if current is None else current, total, message))


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


def _was_cancelled(record: TaskRecord) -> bool:
    return record.outcome is not None and record.outcome.kind == "cancelled"


def _read(outcome: Outcome | None) -> Result:
    if outcome is None or outcome.kind == "cancelled":
        raise ProtocolError(
            INTERNAL_ERROR, "the call with this idempotency key was cancelled; to call anew, use another key"
        )
    return outcome_result(outcome)
