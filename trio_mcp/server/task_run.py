"""Tool calls as background tasks: whether, when, and what the client is told.

Owns the decision between a direct answer and a task in each era, promotion, and
what a client of each era is sent while its task runs.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import attrs
import msgspec
import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ProtocolError, ReturnError, TaskOverload, ToolError
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.server.error_results import describe_failure
from trio_mcp.server.input_rounds import Gathering, InputNeededError, StateSeal
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.history import TaskReport
from trio_mcp.tasks.live_task import LiveState, LiveTask
from trio_mcp.tasks.record import BEARER, Outcome, Owner, TaskRecord
from trio_mcp.tasks.rendering import (
    MILLISECONDS,
    extension_created,
    legacy_change,
    legacy_task,
    outcome_result,
    related_meta,
)
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.tasks.stalls import watch_task
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.tasks.task_feed import TaskFeed
from trio_mcp.wire.codec import UNENCODABLE, encode_value, make_error
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CLIENT_CAPABILITY
from trio_mcp.wire.frames import Notification
from trio_mcp.wire.messages import META_WANTS_TASK, CallToolParams, CallToolResult, Result, TaskParams
from trio_mcp.wire.tasks import EXTENSION, LegacyCreateTaskResult

MAX_TTL: Final = 10**15
"""In milliseconds, some thirty thousand years: what is beyond is a mistake."""

Decision = Literal["direct", "task", "promotable"]

_MODES: Final[Mapping[str, Mapping[tuple[str, bool], Decision | int]]] = {
    # (the tool's mode, whether the client can have or asks for a task) -> what happens, or an error code
    "none": {
        ("forbidden", False): "direct",
        ("optional", False): "direct",
        ("required", False): METHOD_NOT_FOUND,
    },
    "legacy": {
        ("forbidden", False): "direct",
        ("forbidden", True): METHOD_NOT_FOUND,
        ("optional", False): "direct",
        ("optional", True): "task",
        ("required", False): METHOD_NOT_FOUND,
        ("required", True): "task",
    },
    "extension": {
        ("forbidden", False): "direct",
        ("forbidden", True): "direct",
        ("optional", False): "direct",
        ("optional", True): "promotable",
        ("required", False): MISSING_CLIENT_CAPABILITY,
        ("required", True): "task",
    },
}
"""What becomes of a call, by the era's protocol of tasks."""


def decide(request: ServerRequest, tool: str, config: TaskConfig | None) -> Decision:
    """Whether a call is answered directly; raises ProtocolError where the era forbids what was asked."""
    era = request.era
    if config is None and era.tasks == "extension":  # what the table says; most calls are such
        return "direct"
    mode = "forbidden" if config is None else config.mode
    wants = _WANTS[era.tasks](request)
    decision = _MODES[era.tasks][mode, wants]
    if decision == MISSING_CLIENT_CAPABILITY:
        raise missing_extension()
    if isinstance(decision, int):
        words = "cannot run as a task" if wants else "runs as a task only"
        raise ProtocolError(decision, f"tool {tool!r} {words}")
    if decision == "promotable" and (
        META_WANTS_TASK in request.meta.values or (config is not None and config.promote_after == 0)
    ):
        return "task"
    return decision


def _asks(request: ServerRequest) -> bool:
    assert isinstance(request.params, CallToolParams)
    return not isinstance(request.params.task, msgspec.UnsetType)


def read_ttl(request: ServerRequest) -> float | None:
    """How long the client wants the task to be kept, in seconds; raises ProtocolError for no such time.

    The extension has no such wish, so there it is ignored (SEP-2663).
    """
    assert isinstance(request.params, CallToolParams)
    if request.era.tasks != "legacy" or isinstance(request.params.task, msgspec.UnsetType):
        return None
    try:
        ttl = msgspec.json.decode(request.params.task, type=TaskParams).ttl
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(INVALID_PARAMS, f"task: {error}") from None
    if ttl is not None and not 0 < ttl <= MAX_TTL:
        raise ProtocolError(INVALID_PARAMS, "task.ttl must be a positive number of milliseconds")
    return None if ttl is None else ttl / MILLISECONDS


def declares_tasks(request: ServerRequest) -> bool:
    """Whether the client can handle tasks of the extension."""
    extensions = request.meta.client_capabilities.get("extensions")
    return isinstance(extensions, Mapping) and EXTENSION in extensions


def missing_extension() -> ProtocolError:
    """What a client is told that has not declared the tasks extension."""
    required: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    return ProtocolError(MISSING_CLIENT_CAPABILITY, "this needs the tasks extension", required)


_WANTS: Final[Mapping[str, Callable[[ServerRequest], bool]]] = {
    "none": lambda request: False,
    "legacy": _asks,
    "extension": declares_tasks,
}
"""Whether the client can have a task, or asks for one, by the era's protocol of tasks."""


def find_owner(request: ServerRequest) -> Owner:
    """Who owns what `request` makes, and who asks where it asks for a task."""
    connection = request.connection
    if connection.principal is not None:
        return Owner("principal", connection.principal)
    return BEARER if request.era.modern else Owner("session", connection.session_id)


@attrs.define(eq=False)
class TaskRun:
    """One tool call that is, or may become, a background task."""

    supervisor: Supervisor
    live: LiveTask
    request: ServerRequest
    config: TaskConfig
    handler: Callable[[TaskRun], Any]
    show_errors: bool
    gathering: Gathering | None = None
    is_gathering: bool = False
    is_direct: bool = False
    gathered: Any = None
    deadline: float = math.inf  # of the task, on Trio's clock
    _relays: list[ServerConnection] = attrs.field(
        factory=list
    )  # the creator's, then who waits for the result
    _follower: _LegacyFollower | None = None
    _send: Callable[[ServerConnection], None] | None = None

    async def gather(self, call: Callable[[], Awaitable[Any]], seal: StateSeal) -> Result | None:
        """Let the tool gather input; a result means that the client has to answer first. Checkpoints."""
        assert isinstance(self.request.params, CallToolParams)
        if self.request.era.modern:
            self.gathering = Gathering(self.request.params, seal)
        self.is_gathering = True
        try:
            self.gathered = await call()
        except InputNeededError as needed:
            assert self.gathering is not None, "only the modern era has rounds"
            return self.gathering.ask(needed)
        finally:
            self.is_gathering, self.gathering = False, None
        return None

    async def start_task(self) -> Result:
        """Make a task at once, and return the answer that tells of it. Checkpoints."""
        try:
            await self.supervisor.commit(self.live)
        except TaskOverload as error:
            self.supervisor.release()
            raise ProtocolError(INTERNAL_ERROR, str(error)) from None
        except BaseException:
            self.supervisor.release()
            raise
        created = self._become_task()
        self.supervisor.start(self.live, self._work, self._describe)
        return created

    async def run_promotable(self) -> Result:
        """Answer directly where the handler is done in time, otherwise make it a task. Checkpoints."""
        self.request.progress.record_in(self.live)
        self.supervisor.start(self.live, self._work, self._describe)
        try:
            with trio.move_on_after(self.config.promote_after):
                await self.live.wait_left(LiveState.UNDECIDED)
            if self.live.outcome is None:
                try:
                    await self.supervisor.commit(self.live)
                except TaskOverload:
                    self.live.refuse()
                    await self.live.wait_left(LiveState.REFUSED)
        except BaseException:
            self.live.refuse()
            self.live.scope.cancel()
            raise
        if self.live.is_committed:
            return self._become_task()
        assert self.live.outcome is not None, "the handler is done"
        if self.live.outcome.kind == "cancelled":
            raise ProtocolError(INTERNAL_ERROR, "the server is shutting down")
        return outcome_result(self.live.outcome)

    async def promote(self) -> bool:
        """Make the call a task now, because its handler needs one; False where that cannot be.

        Checkpoints.
        """
        if self.is_direct:
            await trio.lowlevel.checkpoint()
            return False
        self.live.need_task()
        await self.live.wait_left(LiveState.UNDECIDED, LiveState.NEEDED)
        return self.live.is_committed

    def _become_task(self) -> Result:
        request, record = self.request, self.live.record
        request.task = self.live
        request.lift_deadline()
        request.progress.record_in(self.live)
        if request.era.modern:
            request.progress.stop_sending()
            return extension_created(record)
        home = request.connection.home
        request.call_queue = request.call_queue.succeed(home.outbox, record.id)
        if request.call_queue.has_token:
            request.progress.send_by(request.call_queue)
        self.live.related_meta = related_meta(record.id)
        self._relays.append(home)
        self._follower = _LegacyFollower(request.call_queue, home.outbox, self.supervisor, record)
        self.live.add_follower(self._follower)
        return LegacyCreateTaskResult(task=legacy_task(record))

    @contextmanager
    def relaying(self, send: Callable[[ServerConnection], None]) -> Iterator[None]:
        """While the block lasts, `send` puts a question to each connection that may answer."""
        self._send = send
        # One wire to each client: the latest at whose end somebody is, if there is one.
        for connection in {
            relay.session_id: relay for relay in sorted(self._relays, key=lambda relay: relay.is_heard)
        }.values():
            send(connection)
        try:
            yield
        finally:
            self._send = None

    @contextmanager
    def reachable_through(self, connection: ServerConnection) -> Iterator[None]:
        """While the block lasts, questions go to `connection` too (tasks/result, 2025-11-25).

        So does what the client that made the task is told, where the connection is its own.
        """
        session_id = connection.session_id
        is_new = not any(relay.session_id == session_id and relay.is_heard for relay in self._relays)
        self._relays.append(connection)  # once for each that waits there
        if is_new and self._send is not None:
            self._send(connection)
        if connection is not connection.home:
            connection.on_heard = self._move_follower
        self._move_follower()
        try:
            yield
        finally:
            connection.on_heard = None
            self._relays.remove(connection)
            self._move_follower()

    def _move_follower(self) -> None:
        """Let what the creator is told leave by the latest of its wires that somebody hears."""
        if self._follower is not None:
            home = self.request.connection.home
            mine = [relay for relay in self._relays if relay.session_id == home.session_id]
            heard = [relay for relay in mine if relay.is_heard]
            self._follower.move_to((heard[-1] if heard else home).outbox)

    async def _work(self, live: LiveTask) -> Outcome:
        live.tell()
        if self.config.stall_after is None:
            return await self._work_in_time()
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(watch_task, live, self.config.stall_after, self.config.on_stall)
            outcome = await self._work_in_time()
            nursery.cancel_scope.cancel()
        return outcome

    async def _work_in_time(self) -> Outcome:
        if self.config.timeout is None:
            return _as_outcome(await self.handler(self))
        with trio.move_on_after(self.config.timeout) as scope:
            self.deadline = scope.deadline
            return _as_outcome(await self.handler(self))
        raise ToolError(f"the task took longer than {self.config.timeout:g} seconds")

    def _describe(self, failure: BaseException) -> Outcome:
        try:
            return _as_outcome(describe_failure(self.live.record.tool, failure, show_errors=self.show_errors))
        except ProtocolError as error:
            return Outcome("protocol_error", error=make_error(error))


def _as_outcome(result: CallToolResult) -> Outcome:
    try:
        raw = encode_value(result)
        msgspec.json.decode(raw, type=CallToolResult)  # Structs do not check what they are made of
    except UNENCODABLE as error:
        raise ReturnError(f"the result cannot be sent as JSON: {error}") from None
    return Outcome("tool_error" if result.is_error else "result", raw)


class _LegacyFollower:
    """Tells the client that made a task of its status (MCP tasks 2025-11-25, "Task Status Notification").

    Progress goes by the call's own token, which ends before the final status is told.
    """

    def __init__(
        self, call_queue: CallQueue, outbox: Outbox, supervisor: Supervisor, record: TaskRecord
    ) -> None:
        self._call_queue = call_queue
        self._outbox = outbox
        self._limit = supervisor.settings.feed_buffer
        self._clock = supervisor.clock
        self._feed = self._make_feed(record)
        self._message: str | None = None

    def _make_feed(self, record: TaskRecord) -> TaskFeed:
        return TaskFeed(self._outbox, self._limit, self._clock, record, _status_notification)

    def move_to(self, outbox: Outbox) -> None:
        """Tell by `outbox` from now on."""
        if outbox is not self._outbox:
            self._outbox = outbox
            self._call_queue.move_to(outbox)
            self._feed.move_to(outbox)

    def follow(self, record: TaskRecord) -> None:
        self._message = None if record.progress is None else record.progress.message
        if record.is_final:
            self._call_queue.finish(None)
            # A feed of its own queues behind the last progress, wherever the other one stands.
            self._feed = self._make_feed(record)
        self._feed.follow(record)

    def follow_report(self, task: LiveTask, report: TaskReport) -> None:
        message = report[2]
        if message != self._message:
            self._message = message
            self._feed.follow_report(task, report)


def _status_notification(record: TaskRecord, reports: Sequence[TaskReport]) -> Notification:
    return Notification("notifications/tasks/status", encode_value(legacy_change(record)))
