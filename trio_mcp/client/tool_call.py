"""One call of a tool: requests are sent until the server answers, or makes a task.

Owns the loop over those requests: rounds in which the server asks for input (MCP multi round-trip
requests), a second request for a tool that runs only as a task, another one with headers that were
missing, and the cancellation of a task whose caller has left. Refuses to know how a task is waited for.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import trio
from msgspec import UNSET, Raw, UnsetType

from trio_mcp.call_result import CallResult, finish_call
from trio_mcp.client.call_answer import Answered, Questions, TaskStarted, read_created, read_questions
from trio_mcp.client.link import Link
from trio_mcp.client.outcome import unwrap
from trio_mcp.client.passing_failure import may_pass
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.round_answers import MAX_ROUNDS, answer_round
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.client.task_snapshot import MILLISECONDS
from trio_mcp.client.timeouts import CallDeadline, CallTimer, paused, read_timeouts, run_within
from trio_mcp.errors import (
    ConnectionLost,
    MCPError,
    NotSupportedByEra,
    NotSupportedByServer,
    ProtocolError,
    RemoteProtocolError,
)
from trio_mcp.handlers.sink import Handler, ProgressHandler, ProgressSink, open_handler
from trio_mcp.schema.flaws import encode_json
from trio_mcp.validators import require_positive
from trio_mcp.wire.codec import UNENCODABLE, encode_value
from trio_mcp.wire.errors import HEADER_MISMATCH, METHOD_NOT_FOUND
from trio_mcp.wire.frames import Response
from trio_mcp.wire.idempotency import find_problem
from trio_mcp.wire.messages import META_IDEMPOTENCY_KEY, META_WANTS_TASK, CallToolParams, TaskParams

logger = logging.getLogger("trio_mcp.client")

T = TypeVar("T")


REPEAT_SECONDS: Final = (0.5, 1.0, 2.0)
"""The pauses before a call is made again whose answer was lost; after the last the loss is raised."""


class Retry(enum.Enum):
    """Why the call goes on after an error of the server."""

    DEADLINE_PASSED = "the server has given up at our deadline"
    TASK_ONLY = "the tool runs as a task only"
    LACKS_HEADERS = "the tool mirrors arguments into headers that were not sent"


class ToolCall:
    """A call that is to be made once; raises ValueError for bad timeouts and arguments that are not JSON."""

    __slots__ = (
        "_as_task",
        "_floor",
        "_handler",
        "_idle",
        "_key",
        "_link",
        "_longest",
        "_params",
        "_raise_on_error",
        "_result_type",
        "_ttl",
        "name",
    )

    def __init__(
        self,
        link: Link,
        name: str,
        arguments: Mapping[str, Any] | None,
        handler: ProgressHandler | ProgressSink | None,
        idle_timeout: float | None,
        max_timeout: float | None,
        *,
        raise_on_error: bool,
        result_type: Any,
        idempotency_key: str | None = None,
    ) -> None:
        self.name = name
        if idempotency_key is not None:
            _require_key(link, idempotency_key)
        self._key = idempotency_key
        self._link = link
        self._handler = handler
        self._idle, self._longest = read_timeouts(idle_timeout, max_timeout)
        self._raise_on_error = raise_on_error
        self._result_type = result_type
        self._as_task = False
        self._ttl: float | None = None
        self._floor: float | None = None  # the progress that earlier requests of this call have delivered
        try:
            self._params = CallToolParams(name=name, arguments=encode_json(dict(arguments or {})))
        except UNENCODABLE as error:
            raise ValueError(f"the arguments of tool {name!r} are not JSON: {error}") from None

    async def run(self) -> CallResult[Any]:
        """Call and wait for the result; checkpoints. See `Client.call_tool`."""
        if self._handler is None or not isinstance(self._handler, ProgressSink):
            return await self._within(self._run, self._handler)
        async with open_handler(self._handler, self.name) as handler:
            return await self._within(self._run, handler)

    async def start_task(self, ttl: float | None) -> TaskHandle[Any]:
        """Call as a background task, and do not wait for it; checkpoints. See `Client.call_tool`."""
        if ttl is not None:
            require_positive("ttl", ttl)
        self._as_task, self._ttl = True, ttl
        async with open_handler(self._handler, self.name) as handler:
            start = await self._within(self._start, handler)
        return TaskHandle(
            self._link,
            self.name,
            start,
            self._handler,
            result_type=self._result_type,
            raise_on_error=self._raise_on_error,
        )

    def _within(
        self, work: Callable[[Handler | None, CallTimer | None], Awaitable[T]], handler: Handler | None
    ) -> Awaitable[T]:
        """Do `work`, all of it within the timeouts; checkpoints."""
        settings = self._link.session.settings
        return run_within(work, handler, settings, f"tool {self.name!r}", self._idle, self._longest)

    async def _run(self, handler: Handler | None, timer: CallTimer | None) -> CallResult[Any]:
        start = await self._start(handler, timer)
        if isinstance(start, Answered):
            raw = start.raw
        else:
            handle: TaskHandle[Any] = TaskHandle(self._link, self.name, start, handler)
            try:
                raw = await handle.wait(handler, timer)
            except ConnectionLost as error:
                raise self._explain(str(error)) from None
            finally:
                handle.abandon()
        what = f"tool {self.name!r}"
        result = finish_call(what, raw, self._result_type, raise_on_error=self._raise_on_error)
        if self._link.validation is not None:
            await self._link.validation.check(self.name, result)
        return result

    async def _start(self, handler: Handler | None, timer: CallTimer | None) -> Answered | TaskStarted:
        """Send requests until there is an answer, or a task; checkpoints."""
        rounds, losses, has_listed = 0, 0, False
        while True:  # each turn sends a request and waits for its answer
            deadline = CallDeadline.find(timer)
            try:
                answer = await self._ask(handler, timer, deadline, may_list=not has_listed)
            except (ConnectionLost, ProtocolError) as error:
                pause = self._find_pause(error, losses)
                losses += 1
                if timer is not None:
                    timer.resume()
                await trio.sleep(pause)
                continue
            if isinstance(answer, (Answered, TaskStarted)):
                return answer
            if answer is Retry.DEADLINE_PASSED:
                await deadline.wait()
            if timer is not None:
                timer.resume()  # the answer has suspended it
            if isinstance(answer, Questions):
                # The same call once more, with answers, under a fresh id (MCP multi round-trip requests).
                if rounds == MAX_ROUNDS:
                    raise RemoteProtocolError(f"the server asked more than {MAX_ROUNDS} times for one call")
                rounds += 1
                with paused(timer):
                    await self._answer(answer)
                if timer is not None:
                    timer.resume()
            elif answer is Retry.TASK_ONLY:
                self._as_task = True
            else:
                # This client has not heard yet which parameters are headers (MCP transports).
                await self._link.list_tools(refresh=True)
                has_listed = True

    async def _answer(self, questions: Questions) -> None:
        """Put the answers to `questions` into the parameters of the next request; checkpoints."""
        await answer_round(self._link.answering, questions, self._params)

    def _find_pause(self, error: ConnectionLost | ProtocolError, losses: int) -> float:
        """How long to wait before the call is made again; raises `error` if it is not, as after `losses`."""
        if losses < len(REPEAT_SECONDS) and self._may_repeat(error):
            logger.debug("tool %r is called again in %g s: %s", self.name, REPEAT_SECONDS[losses], error)
            return REPEAT_SECONDS[losses]
        if isinstance(error, ConnectionLost) and error.outcome_unknown:
            raise self._explain(str(error)) from None
        raise error

    def _may_repeat(self, error: MCPError) -> bool:
        link = self._link
        # Without a key, what continues a call is taken once.
        is_harmless = self.name in link.repeatable and self._params.request_state is UNSET
        return (self._key is not None or is_harmless) and may_pass(error, link.session)

    def _explain(self, reason: str) -> ConnectionLost:
        """The error for a call of which it is not known whether it was carried out."""
        between = "\n" if "\n" in reason else "; "  # what a process wrote last may have several lines
        return ConnectionLost(
            f"{reason}{between}it is not known whether tool {self.name!r} has run", outcome_unknown=True
        )

    async def _ask(
        self, handler: Handler | None, timer: CallTimer | None, deadline: CallDeadline, *, may_list: bool
    ) -> Answered | TaskStarted | Questions | Retry:
        """Send the call once and wait for the server's answer; checkpoints."""
        link, session = self._link, self._link.session
        wants_progress = handler is not None or self._idle < math.inf
        call = self._begin(handler, timer, deadline, wants_progress=wants_progress)
        answer: Answered | TaskStarted | Questions | Retry | None = None
        try:
            answer = self._read(unwrap(await call.wait()), call, wants_progress=wants_progress)
        except ProtocolError as error:
            answer = self._read_refusal(error, deadline, may_list=may_list)
            if answer is None:
                raise
        finally:
            if answer is None and call.newest is not None:
                self._floor = call.newest[0]  # the call may be made once more
            if isinstance(answer, TaskStarted) and answer.token_call is not None:
                session.keep(call)
            else:
                session.end(call, on_late=link.abandon_created)
                # The server has answered, but the caller has left or the answer cannot be read.
                if answer is None and isinstance(call.outcome, Response):
                    link.abandon_created(call.outcome)
        return answer

    def _begin(
        self,
        handler: Handler | None,
        timer: CallTimer | None,
        deadline: CallDeadline,
        *,
        wants_progress: bool,
    ) -> PendingCall:
        link = self._link
        meta = deadline.add_to(link.meta)
        if self._key is not None:
            meta = {**meta, META_IDEMPOTENCY_KEY: self._key}
        self._params.meta = meta or UNSET
        if self._as_task:
            self._ask_for_task()
        call = link.session.begin(
            "tools/call",
            self._params,
            handler,
            timer,
            wants_progress=wants_progress,
            may_become_task=self._as_task and not link.era.modern,
        )
        call.floor = self._floor
        return call

    def _ask_for_task(self) -> None:
        """Ask for a background task as the era does it; raises NotSupportedByEra if it has none."""
        params, era, ttl = self._params, self._link.era, self._ttl
        if era.modern:
            meta = {} if isinstance(params.meta, UnsetType) else params.meta
            params.meta = {**meta, META_WANTS_TASK: True}
        elif era.tasks == "none":
            raise NotSupportedByEra(f"protocol {era.version} has no background tasks")
        else:
            params.task = encode_value(TaskParams(None if ttl is None else round(ttl * MILLISECONDS)))

    def _read(
        self, raw: Raw, call: PendingCall, *, wants_progress: bool
    ) -> Answered | TaskStarted | Questions:
        """Read the server's answer; raises RemoteProtocolError for a malformed task or question."""
        snapshot = read_created(raw)
        if snapshot is None:
            questions = read_questions(raw)
            if questions is None:
                return Answered(raw)
            if call.newest is not None:
                self._floor = call.newest[0]
            return questions
        # The progress of a legacy task has the token of the call that made it.
        keeps_token = not self._link.era.modern
        reported, stages = None, None
        if call.newest is not None:
            progress, total, message, exact = call.newest
            reported, stages = (progress if exact is None else exact, total, message), call.stages
        return TaskStarted(
            snapshot, call if keeps_token else None, keeps_token and wants_progress, reported, stages
        )

    def _read_refusal(self, error: ProtocolError, deadline: CallDeadline, *, may_list: bool) -> Retry | None:
        """Read an error of the server; None if the call ends with it."""
        link = self._link
        if deadline.was_met_by(error):
            return Retry.DEADLINE_PASSED
        if error.code == METHOD_NOT_FOUND and link.era.tasks == "legacy" and not self._as_task:
            # MCP tasks 2025-11-25, "Tool-Level Negotiation".
            return Retry.TASK_ONLY
        if error.code == HEADER_MISMATCH and link.mirror is not None and may_list:
            return Retry.LACKS_HEADERS
        return None


def _require_key(link: Link, key: str) -> None:
    """Raise ValueError for what is no key, and NotSupportedByServer if the server would ignore it."""
    problem = find_problem(key)
    if problem is not None:
        raise ValueError(problem)
    if not link.knows_keys:
        raise NotSupportedByServer(
            "the server does not know idempotency keys, so a call with one might run twice; "
            "Client.takes_idempotency_keys tells it in advance"
        )
