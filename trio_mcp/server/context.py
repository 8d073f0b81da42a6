"""What a handler is given: progress, logging, questions to the client, facts of its request.

Owns the public face of a request. Progress, logs and `check_cancelled` work from the handler's
own task, from tasks that it starts, and from worker threads. How a tool calls another one is
behind the protocol `ChildCaller`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Never, Protocol, TypeVar, overload

import msgspec
import trio

from trio_mcp.call_result import CallResult, finish_call
from trio_mcp.errors import NotSupportedByEra, ToolDefinitionError
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.server.client_questions import Elicited, Sampled, SamplingMessage, elicit, sample
from trio_mcp.server.progress_helper import ProgressHelper
from trio_mcp.server.question_route import QuestionPlace
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.thread_bridge import DONE, ThreadBridge
from trio_mcp.validators import require_interval
from trio_mcp.wire.frames import RequestId
from trio_mcp.wire.messages import LOGGING_LEVELS, Implementation, LoggingLevel

T = TypeVar("T")


class ChildCaller(QuestionPlace, Protocol):
    """How a handler calls other tools of its server, in its own task, and from where it asks its client.

    `gathered` is what the handler's `gather` function returned, if another
    tool called it. `server` is the server that runs, as its program wrote it.
    """

    gathered: Any
    server: Any

    async def call(
        self,
        request: ServerRequest,
        run: TaskRun | None,
        name: str,
        arguments: Mapping[str, Any],
        progress: ProgressHelper | None,
    ) -> msgspec.Raw:
        """The encoded result, also if it is an error; see `Context.call_tool`."""


class Context:
    """A handler's view of its request; a tool receives it by annotating a parameter with it."""

    __slots__ = (
        "_bridge",
        "_calls",
        "_helper",
        "_lifespan",
        "_progress",
        "_request",
        "_run",
        "_state",
    )

    def __class_getitem__(cls, item: object) -> Never:
        # Programs that were written for the official SDK have such annotations.
        raise ToolDefinitionError(
            "Context has no type parameters: annotate the parameter with Context alone, and read what the "
            "lifespan yielded from ctx.lifespan"
        )

    def __init__(
        self,
        request: ServerRequest,
        run: TaskRun | None,
        lifespan: Any,
        calls: ChildCaller,
        progress: ProgressHelper | ProgressReporter | None = None,
    ) -> None:
        """`progress` is what the tool reports to if another tool called it; None for the request's own."""
        self._request = request
        self._lifespan = lifespan
        self._run = run
        self._calls = calls
        self._bridge = ThreadBridge(request)
        if isinstance(progress, ProgressHelper):
            self._helper = progress
            self._progress = progress.reporter
        else:
            self._progress = progress or request.progress
            self._helper = ProgressHelper(self._progress, self._bridge)
        self._state = {} if calls.path else request.state

    def __repr__(self) -> str:
        run = "" if self._run is None else f" {self._run!r}"
        return f"<Context of {self._request.method} {self._request.id!r}{run}>"

    @property
    def request_id(self) -> RequestId:
        """The JSON-RPC id of the request."""
        return self._request.id

    @property
    def protocol_version(self) -> str:
        """The protocol revision that the request follows, for example "2026-07-28"."""
        return self._request.era.version

    @property
    def client_info(self) -> Implementation | None:
        """The name and version that the client gives, for display only; None if it gives none."""
        return self._request.meta.client_info

    @property
    def client_capabilities(self) -> Mapping[str, Any]:
        """What the client declared that it can do (MCP capabilities)."""
        return self._request.meta.client_capabilities

    @property
    def request_meta(self) -> Mapping[str, Any]:
        """The request's `_meta`, as the client sent it."""
        return self._request.meta.values

    @property
    def principal(self) -> str | None:
        """Who the client is, as `authenticate` of `serve_http` said of this request; or None."""
        return self._request.connection.principal

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the HTTP request, or of the handshake of the WebSocket; read-only.

        Names are lower-case. In a background task they are those of the request that started it.
        Empty over stdio and in memory, which have none.
        """
        return MappingProxyType(self._request.connection.headers)

    @property
    def deadline(self) -> float:
        """When this call is cancelled because its time is over, on Trio's clock; `math.inf` for never.

        That is shortly before the client gives up, if the client says when it will; for a
        background task, when its own `timeout` ends. The seconds left are
        `ctx.deadline - trio.current_time()`.
        """
        own = math.inf if self._run is None else self._run.deadline
        return min(self._request.deadline, own)

    @property
    def state(self) -> dict[str, Any]:
        """A place for values that live as long as this request, or this call of another tool."""
        return self._state

    @property
    def session_state(self) -> dict[str, Any]:
        """A place for values that live as long as the client's session.

        Raises NotSupportedByEra on the modern wire, which has no sessions (MCP
        base protocol 2026-07-28, "Statelessness").
        """
        if self._request.session is None:
            raise NotSupportedByEra(
                f"protocol {self.protocol_version} has no sessions: pass an explicit handle between "
                "calls, or keep values of one request in ctx.state"
            )
        return self._request.session.state

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Say how far along the work is; `await` it.

        `progress` and `total` are finite numbers in one unit of your choice; all
        three values are set, None clears. If `progress` is below the present value, that stays.
        If the client sent no progressToken, nothing is sent.

        Always a cancellation point; a schedule point if about 100 microseconds have passed
        since the task's first report after its last yield (every time under `strict_yield`).
        Under the lossless policy it waits while the buffer is full. Called in another thread,
        it has reported when it returns, and may be awaited or not.

        Raises ValueError if a number is not finite or a message cannot be sent,
        TypeError if the message is no text (MCP progress).
        """
        if self._bridge.outside:
            self._bridge.run(self._progress.report, progress, total, message)
            return DONE
        return self._progress.report(progress, total, message)

    def progress(self) -> ProgressHelper:
        """The helper that keeps this request's progress; each call returns the same one."""
        return self._helper

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: ProgressHelper | None = None,
        raise_on_error: bool = True,
        result_type: Any = None,
    ) -> CallResult:
        """Call another tool of this server, in this process; checkpoints.

        The tool gets a Context of its own, which reports to `progress`: usually a stage, whose
        share of the whole it then moves, with messages that show the stage's path. Without it,
        the tool's progress is not shown. Everything else is as in a client's call: the arguments
        and the result are converted and checked, and `data` is converted to `result_type`. The
        tool runs in the caller's task, so it is cancelled with it, and as a part of this request,
        whatever its `task` says. In a worker thread, use
        `trio.from_thread.run(partial(ctx.call_tool, ...))`.

        Raises ToolError for a result that is an error, unless `raise_on_error` is False, and
        if calls nest more than 32 deep; ProtocolError for an unknown tool; ValueError for
        arguments that are not JSON; RemoteProtocolError for a result that is no `result_type`.
        """
        raw = await self._calls.call(self._request, self._run, name, arguments or {}, progress)
        return finish_call(f"tool {name!r}", raw, result_type, raise_on_error=raise_on_error)

    def check_cancelled(self) -> None:
        """In a worker thread, raise `trio.Cancelled` if the call was cancelled.

        A thread that Trio did not start gets `RequestCancelled`. Raises RuntimeError on the
        Trio thread; there, `await trio.lowlevel.checkpoint()` does the same.
        """
        if not self._bridge.outside:
            raise RuntimeError(
                "check_cancelled is for worker threads; here, use await trio.lowlevel.checkpoint()"
            )
        self._bridge.check_cancelled()

    @property
    def server(self) -> Any:
        """The `Server` that this request is served by; its tools, prompts and resources may change."""
        return self._calls.server

    @property
    def lifespan(self) -> Any:
        """What the server's lifespan yielded (`Server.lifespan`); None if it has none."""
        return self._lifespan

    async def close_stream(self, retry: float = 1.0) -> None:
        """Close the HTTP response of this call, and ask the client to come back after `retry` seconds.

        The call goes on, and what it reports meanwhile is delivered when the client has come
        back (MCP transports 2025-11-25, "Resumability and Redelivery"). Nothing happens on other
        transports and in other revisions, in which a client cannot come back. Checkpoints. Raises
        ValueError unless `retry` is a finite number of seconds of at least 0.
        """
        require_interval("retry", retry)
        if self._request.connection.pause is not None:
            self._request.connection.pause(retry)
        await trio.lowlevel.checkpoint()

    @property
    def task_id(self) -> str | None:
        """The id of the background task that this call runs as, or None if it is answered directly."""
        return None if self._run is None or self._request.task is None else self._run.live.id

    @property
    def gathered(self) -> Any:
        """What the tool's `gather` function returned before the task was made; None without one."""
        if self._calls.path:
            return self._calls.gathered
        return None if self._run is None else self._run.gathered

    async def elicit(self, message: str, schema_type: type[T], *, key: str | None = None) -> Elicited[T]:
        """Ask the client's user to fill in a form (MCP elicitation); checkpoints.

        `schema_type` is a class whose fields are text, numbers, bools or enums; an
        accepted answer is an instance of it. In a background task the status is
        `input_required` meanwhile, and the first answer counts. A modern call that is no task
        ends here if there is no answer yet, and the handler is run again with the answer: see
        `once`, and docs/asking-rounds.md. `key` names the question there; without it, it is named by
        what it asks. Raises ProtocolError if the client cannot be asked or answers with an error,
        ArgumentError for an answer that does not fit, TypeError for a class that makes no form,
        ValueError for a `key` that names another question of the call, and ConnectionLost.
        """
        return await elicit(self._request, self._run, self._calls, message, schema_type, key)

    async def sample(
        self,
        messages: str | Sequence[SamplingMessage],
        *,
        max_tokens: int,
        system_prompt: str | None = None,
        temperature: float | None = None,
        stop_sequences: Sequence[str] | None = None,
        key: str | None = None,
    ) -> Sampled:
        """Ask the client's model for an answer of at most `max_tokens` tokens (MCP sampling); checkpoints.

        `messages` is one user message or a conversation. Raises as `elicit` does.
        """
        options = {
            "maxTokens": max_tokens,
            "systemPrompt": system_prompt,
            "temperature": temperature,
            "stopSequences": stop_sequences,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return await sample(self._request, self._run, self._calls, messages, given, key)

    @overload
    async def once(self, key: str, fn: Callable[[], Awaitable[T]], *, result_type: Any = None) -> T: ...

    @overload
    async def once(self, key: str, fn: Callable[[], T], *, result_type: Any = None) -> T: ...

    async def once(self, key: str, fn: Callable[[], Any], *, result_type: Any = None) -> Any:
        """Call `fn()`, which may be async, once for each `key` in this call; returns its result. Checkpoints.

        On the modern wire a handler that asks its client is run again with the answers; there `once`
        remembers the result from run to run. It travels as JSON in the sealed `requestState`, and comes back
        as `result_type`, or else as what `fn` returns by its annotation, which plain JSON values do not need.
        If `fn` raises, nothing is remembered. A run does not end while `fn` is working, so `fn` cannot ask.

        Raises what `fn` raises, ReturnError for a result that does not come back from JSON as it was, and
        LocalProtocolError if `fn` itself asks the client or uses `once`.
        """
        return await self._calls.rounds.find(self._request).once(self._calls, key, fn, result_type)

    def log(self, level: LoggingLevel, data: Any, *, logger: str | None = None) -> Awaitable[None]:
        """Send the client a log message (MCP logging); `await` it.

        `level` is one of debug, info, notice, warning, error, critical, alert,
        emergency; `data` is text or any JSON value. Nothing is sent if the client did not
        ask for that level. Checkpoints; waits while `log_buffer` messages of this call
        are unwritten. Called in another thread, it has queued the message when it returns.
        Raises ValueError for an unknown level and, if it is sent, for data that JSON cannot hold.
        """
        if level not in LOGGING_LEVELS:
            raise ValueError(f"level must be one of {', '.join(LOGGING_LEVELS)}, not {level!r}")
        if self._bridge.outside:
            self._bridge.run(self._log, level, data, logger)
            return DONE
        return self._log(level, data, logger)

    def debug(self, data: Any, *, logger: str | None = None) -> Awaitable[None]:
        """Log at level debug; see `log`."""
        return self.log("debug", data, logger=logger)

    def info(self, data: Any, *, logger: str | None = None) -> Awaitable[None]:
        """Log at level info; see `log`."""
        return self.log("info", data, logger=logger)

    def warning(self, data: Any, *, logger: str | None = None) -> Awaitable[None]:
        """Log at level warning; see `log`."""
        return self.log("warning", data, logger=logger)

    def error(self, data: Any, *, logger: str | None = None) -> Awaitable[None]:
        """Log at level error; see `log`."""
        return self.log("error", data, logger=logger)

    async def _log(self, level: LoggingLevel, data: Any, logger: str | None) -> None:
        if self._request.wants_log(level):
            self._request.put_log(level, data, logger)
            await self._request.call_queue.wait_frames()
        else:
            await trio.lowlevel.checkpoint()
