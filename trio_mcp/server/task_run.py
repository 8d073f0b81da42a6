"""One tool call that is, or may become, a background task.

Owns the life of such a call: the input that its tool gathers first, its promotion, and the
answer. Which calls have such a life is decided in `task_choice.py`. The handler of a call that may
be promoted runs in the supervisor's nursery from the start, since a Trio task cannot move to
another nursery.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import (
    LocalProtocolError,
    ProtocolError,
    ReturnError,
    TaskOverload,
    TaskStoreError,
    ToolError,
)
from trio_mcp.server.error_results import ErrorResults, suit
from trio_mcp.server.legacy_task_wires import LegacyStatus, LegacyTaskWires
from trio_mcp.server.task_choice import Choice
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.live_state import LiveState
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import Outcome
from trio_mcp.tasks.rendering import extension_created, legacy_task, outcome_result, related_meta
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.tasks.stalls import watch_task
from trio_mcp.tasks.stored_task import TaskWork
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.codec import UNENCODABLE, encode_value, make_error
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import CallToolResult, Result
from trio_mcp.wire.tasks import LegacyCreateTaskResult


class RunState(enum.Enum):
    """What a run is, and may still become."""

    GATHERING = "gathers its input"
    PROMOTABLE = "may become a task"
    DIRECT = "is answered directly"
    TASK = "is a task"


_MOVES: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.GATHERING: frozenset({RunState.DIRECT, RunState.PROMOTABLE, RunState.TASK}),
    RunState.PROMOTABLE: frozenset({RunState.DIRECT, RunState.TASK}),
    RunState.DIRECT: frozenset(),
    RunState.TASK: frozenset(),
}


def moved(state: RunState, to: RunState) -> RunState:
    """The state `to`; raises LocalProtocolError if the table has no such move."""
    if to not in _MOVES[state]:
        raise LocalProtocolError(f"a run that {state.value} cannot become one that {to.value}")
    return to


class TaskRun(msgspec.Struct, eq=False, weakref=True):
    """One run. `handler(run)` is the tool itself, `gatherer(run)` its `gather` function, if it has one.

    `gathered` is what came of gathering. `limit` is the scope that ends an attempt at its `timeout`, None
    before there was one. `wires` are those of a legacy task. It `has_begun` when its handler runs in the
    supervisor's nursery, and `is_resumed` if the task was claimed from the store. `arguments` are those of
    the call.
    """

    supervisor: Supervisor
    live: LiveTask
    request: ServerRequest
    config: TaskConfig
    handler: Callable[[TaskRun], Awaitable[CallToolResult]]
    gatherer: Callable[[TaskRun], Awaitable[Any]] | None
    errors: ErrorResults
    state: RunState = RunState.GATHERING
    gathered: Any = None
    limit: trio.CancelScope | None = None
    has_begun: bool = False
    is_resumed: bool = False
    arguments: msgspec.Raw | None = None
    wires: LegacyTaskWires | None = None

    def __post_init__(self) -> None:
        if not self.request.era.modern:
            self.wires = LegacyTaskWires(self.request.connection.home)

    @property
    def restored(self) -> Any:
        """What the handler has kept last by a checkpoint; None if nothing."""
        raw = self.live.checkpoint
        return None if raw is None else msgspec.json.decode(raw)

    def __repr__(self) -> str:
        return f"<TaskRun {self.live.record.tool!r} {self.live.id} {self.state.value}>"

    async def run(self, choice: Choice) -> Result:
        """Gather input, if the tool does, and answer the call as chosen. Checkpoints.

        The place that is reserved for the task is given back unless its handler starts there.
        """
        takes_place = False
        try:
            if self.gatherer is not None:
                self.gathered = await self.gatherer(self)
            if choice is Choice.TASK:
                await self._commit()
            takes_place = choice is not Choice.ANSWER
        finally:
            if not takes_place:
                self.supervisor.release(self.live)
        if choice is Choice.ANSWER:
            self.state = moved(self.state, RunState.DIRECT)
            return await self.handler(self)
        if choice is Choice.TASK:
            created = self.become_task()
            self.start()
            return created
        self.state = moved(self.state, RunState.PROMOTABLE)
        return await self._answer_or_promote()

    def describe_work(self, *, is_listed: bool = True) -> TaskWork | None:
        """The call as it is stored with the record; None if the record does not outlive this process."""
        if not self.supervisor.keeps_work:
            return None
        from trio_mcp.server.task_work import describe_work

        return describe_work(
            self.request, self.config, self.live.payer, self.arguments, self.gathered, is_listed=is_listed
        )

    async def _commit(self) -> None:
        try:
            await self.supervisor.commit(self.live, work=self.describe_work())
        except TaskOverload as error:
            raise ProtocolError(INTERNAL_ERROR, str(error)) from None

    async def _answer_or_promote(self) -> Result:
        """Answer directly if the handler is done in time, otherwise make it a task.

        If no record can be kept, for want of room or because the store fails, the answer is direct whenever
        it comes. A handler that waits for its turn then does not wait any longer: it runs here, as that of a
        call that is never a task.
        """
        self.request.progress.record_in(self.live)
        self.start()
        try:
            with trio.move_on_after(self.config.promote_after):
                await self.live.wait_left(LiveState.UNDECIDED)
            if self.live.outcome is None:
                try:
                    await self.supervisor.commit(self.live, work=self.describe_work())
                except (TaskOverload, TaskStoreError):
                    self._refuse()
                    if not self.has_begun:
                        self.live.scope.cancel()
                        return await self.handler(self)
                    await self.live.wait_left(LiveState.REFUSED)
        except BaseException:
            self._refuse()
            self.live.scope.cancel()
            raise
        if self.live.is_committed:
            return self.become_task()
        self._stay_direct()
        assert self.live.outcome is not None, "the handler is done"
        if self.live.outcome.kind == "cancelled":
            questions = None if self.request.round is None else self.request.round.conclude()
            if questions is not None:  # the handler, of which no record can be kept, has asked
                return questions
            raise ProtocolError(INTERNAL_ERROR, "the server is shutting down")
        return outcome_result(self.live.outcome)

    def start(self) -> None:
        """Run the handler in the supervisor's nursery as soon as it is its turn."""
        self.supervisor.start(self.live, self._work, self._describe)

    async def promote(self) -> bool:
        """Make the call a task now, because its handler needs one; False if that cannot be.

        Checkpoints.
        """
        if self.state is RunState.DIRECT:
            await trio.lowlevel.checkpoint()
            return False
        self.live.need_task()
        await self.live.wait_left(LiveState.UNDECIDED, LiveState.NEEDED)
        return self.live.is_committed

    def _refuse(self) -> None:
        """Tell the handler, if it waits for promotion, that the call becomes no task."""
        self._stay_direct()
        self.live.refuse()

    def _stay_direct(self) -> None:
        if self.state is RunState.PROMOTABLE:
            self.state = moved(self.state, RunState.DIRECT)

    def become_task(self) -> Result:
        """Send progress and questions as those of a task, and make the answer that names it."""
        self.state = moved(self.state, RunState.TASK)
        request, record = self.request, self.live.record
        request.task = self.live
        request.lift_deadline()
        if not self.has_begun:
            request.progress.record_in(self.live)
        if self.wires is None:
            request.progress.stop_sending()
            return extension_created(record)
        outbox = request.connection.home.outbox
        request.call_queue = request.call_queue.succeed(outbox, record.id)
        if request.call_queue.has_token:
            request.progress.send_by(request.call_queue)
        self.live.related_meta = related_meta(record.id)
        status = LegacyStatus(request.call_queue, outbox, self.supervisor, record)
        self.wires.begin(status)
        self.live.add_follower(status)
        return LegacyCreateTaskResult(task=legacy_task(record))

    async def _work(self, live: LiveTask) -> Outcome:
        self.has_begun = True
        if self.is_resumed and live.record is not live.stored:
            await self.supervisor.update(live)
        else:
            live.tell()
        if self.config.retry is None:
            return await self._attempt()
        # Imported here: few tools are tried again, and all servers start sooner.
        from trio_mcp.server.attempts import run_attempts

        return await run_attempts(self.request, live, self.supervisor, self.config.retry, self._attempt)

    async def _attempt(self) -> Outcome:
        if self.config.stall_after is None:
            return await self._work_in_time()
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(watch_task, self.live, self.config.stall_after, self.config.on_stall)
            outcome = await self._work_in_time()
            nursery.cancel_scope.cancel()
        return outcome

    async def _work_in_time(self) -> Outcome:
        if self.config.timeout is None:
            return _as_outcome(await self.handler(self))
        self.limit = trio.CancelScope(deadline=trio.current_time() + self.config.timeout)
        with self.limit:
            return _as_outcome(await self.handler(self))
        raise ToolError(f"the task took longer than {describe_seconds(self.config.timeout)}")

    def _describe(self, failure: BaseException) -> Outcome:
        try:
            return _as_outcome(self.errors.describe(self.live.record.tool, suit(failure, self.request.era)))
        except ProtocolError as error:
            return Outcome("protocol_error", error=make_error(error))


def _as_outcome(result: CallToolResult) -> Outcome:
    try:
        raw = encode_value(result)
        try:
            msgspec.json.decode(raw, type=CallToolResult)  # Structs do not check what they are made of
        except msgspec.ValidationError:
            blocks: Sequence[object] = result.content
            if not any(isinstance(block, msgspec.Raw) for block in blocks):
                raise
            # Content that another server has made, of a type that is not known here.
            from trio_mcp.wire.faithful import read_faithfully

            read_faithfully(raw, CallToolResult, "the result")
    except UNENCODABLE as error:
        raise ReturnError(f"the result cannot be sent as JSON: {error}") from None
    return Outcome("tool_error" if result.is_error else "result", raw)
