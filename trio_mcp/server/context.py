"""What a handler is given: progress, logging, questions to the client, facts of its request.

Owns what a handler can do; what it can read is in `request_facts.py`. Progress, logs and
`check_cancelled` work from the handler's own task, from tasks that it starts, and from worker threads.
How a tool calls another one is behind the protocol `ChildCaller`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Never, TypeVar, overload

import trio

from trio_mcp.call_result import CallResult, finish_call
from trio_mcp.errors import ToolDefinitionError
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.server.progress_helper import ProgressHelper
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.thread_bridge import DONE, ThreadBridge
from trio_mcp.validators import require_interval
from trio_mcp.wire.messages import LOGGING_LEVELS, LoggingLevel

if TYPE_CHECKING:  # a server that asks nothing starts without these modules
    from trio_mcp.server.child_caller import ChildCaller
    from trio_mcp.server.elicitation import Elicited
    from trio_mcp.server.sampling import Sampled, SamplingMessage
    from trio_mcp.wire.messages import Tool
    from trio_mcp.wire.roots import Root
    from trio_mcp.wire.sampling import ModelPreferences, ToolMode

T = TypeVar("T")


class Context(RequestFacts):
    """A handler's view of its request; a tool receives it by annotating a parameter with it."""

    __slots__ = ("_bridge", "_helper", "_progress")

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

    @overload
    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: ProgressHelper | None = None,
        raise_on_error: bool = True,
        result_type: type[T],
    ) -> CallResult[T]: ...

    @overload
    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: ProgressHelper | None = None,
        raise_on_error: bool = True,
        result_type: Any = None,
    ) -> CallResult: ...

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: ProgressHelper | None = None,
        raise_on_error: bool = True,
        result_type: Any = None,
    ) -> CallResult[Any]:
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

    def require_scopes(self, *scopes: str) -> None:
        """Refuse this request unless its token allows all `scopes`; call it before the work begins.

        Over HTTP the client is told to get a token that does (403), if nothing of the answer was sent yet;
        else, and over other transports, the request fails with the error -32043. A client that was not
        authenticated by a token is not limited, as over stdio. Raises ProtocolError (MCP authorization,
        "Scope Challenge Handling").
        """
        self._request.connection.require(scopes)

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

    @overload
    async def elicit(self, message: str, schema_type: type[T], *, key: str | None = None) -> Elicited[T]: ...

    @overload
    async def elicit(
        self, message: str, schema_type: Any = None, *, key: str | None = None
    ) -> Elicited[Any]: ...

    async def elicit(self, message: str, schema_type: Any = None, *, key: str | None = None) -> Elicited[Any]:
        """Ask the client's user to fill in a form (MCP elicitation); checkpoints.

        `schema_type` is a class whose fields are text, numbers, bools, dates, choices (enums and Literals)
        or lists of a choice; an accepted answer is an instance of it. Any of these types alone makes a form
        of one field, and None a form without fields, to confirm something. In a background task the status is
        `input_required` meanwhile, and the first answer counts. A modern call that is no task
        ends here if there is no answer yet, and the handler is run again with the answer: see
        `once`, and docs/asking-rounds.md. `key` names the question there; without it, it is named by
        what it asks. While the client is asked, no deadline of the call comes nearer (`pause_while_asking` of
        ServerSettings).

        Raises TypeError for a type that makes no form, which names the field; ProtocolError if the client
        cannot be asked or answers with an error, ArgumentError for an answer that does not fit, ValueError
        for a `key` that names another question of the call, and ConnectionLost.
        """
        # What is asked is imported when it is first asked: few servers ask, and all start sooner.
        from trio_mcp.server.elicitation import elicit

        return await elicit(self._request, self._run, self._calls, message, schema_type, key)

    async def elicit_url(
        self, message: str, url: str, *, elicitation_id: str | None = None, key: str | None = None
    ) -> Elicited[None]:
        """Ask the client's user to open a page, for what must not pass the client; checkpoints.

        The answer says whether the person agreed to open it, not what came of it there. `elicitation_id` is
        the name of the page for `complete_elicitation`, by default one that cannot be guessed (MCP
        elicitation, "URL Mode Elicitation Requests").

        Raises as `elicit` does; ProtocolError for a client without this mode, NotSupportedByEra in revisions
        before 2025-11-25, and ValueError for what is no URL.
        """
        from trio_mcp.server.elicitation import elicit_url

        return await elicit_url(self._request, self._run, self._calls, message, url, elicitation_id, key)

    async def complete_elicitation(self, elicitation_id: str) -> None:
        """Tell the client that the person is done with a page; checkpoints.

        It may be called after the call has ended. Nothing is sent in revisions other than 2025-11-25 (MCP
        elicitation 2025-11-25, "Completion Notifications for URL Mode Elicitation").
        """
        from trio_mcp.server.elicitation import complete_elicitation

        await complete_elicitation(self._request, elicitation_id)

    async def sample(
        self,
        messages: str | Sequence[SamplingMessage],
        *,
        max_tokens: int,
        system_prompt: str | None = None,
        temperature: float | None = None,
        stop_sequences: Sequence[str] | None = None,
        model_preferences: ModelPreferences | str | Sequence[str] | None = None,
        tools: Sequence[Tool | Mapping[str, Any]] | None = None,
        tool_choice: ToolMode | None = None,
        include_context: Literal["none", "thisServer", "allServers"] | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Sampled:
        """Ask the client's model for an answer of at most `max_tokens` tokens (MCP sampling); checkpoints.

        `messages` is one user message or a conversation. `model_preferences` are names of models, the best
        first, or a `ModelPreferences`. `tools` may be used by the model: then `tool_uses` of the answer says
        which it wants, and the conversation goes on with the answer's `message` and a user message of a
        `ToolResultContent` for each. `tool_choice` says whether it may, must ("required") or must not
        ("none") use one. Raises as `elicit` does; NotSupportedByEra for tools in revisions before 2025-11-25,
        ProtocolError for tools if the client does not take them, and ValueError for messages whose results
        of tools do not fit.
        """
        from trio_mcp.server.sampling import read_options, sample

        options = read_options(
            tools,
            tool_choice,
            model_preferences,
            include_context,
            maxTokens=max_tokens,
            systemPrompt=system_prompt,
            temperature=temperature,
            stopSequences=None if stop_sequences is None else list(stop_sequences),
            metadata=metadata,
        )
        return await sample(self._request, self._run, self._calls, messages, options, key)

    async def list_roots(self, *, key: str | None = None) -> list[Root]:
        """Ask the client for the directories and files that it works with (MCP roots); checkpoints.

        They are a hint, and no access control. Raises as `elicit` does.
        """
        from trio_mcp.server.roots import list_roots

        return await list_roots(self._request, self._run, self._calls, key)

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

    def checkpoint(self, value: Any) -> Awaitable[None]:
        """Keep `value`, any JSON value, for a later attempt of this task, instead of the last; `await` it.

        A later attempt finds it in `restored`. When this returns, it is stored; if the store outlives the
        process, so does the value. While the store is away, this waits. If the store has given the task to
        another process meanwhile, the handler is cancelled here. A call that is answered directly, and a tool
        that another one calls, keep nothing. Checkpoints. Called in another thread, it has stored the value
        when it returns.

        Raises ValueError for a value that is not JSON or takes more than 1 MiB.
        """
        if self._bridge.outside:
            self._bridge.run(self._keep, value)
            return DONE
        return self._keep(value)

    async def _keep(self, value: Any) -> None:
        # Imported here: few tools keep anything, and all servers start sooner.
        from trio_mcp.server.attempts import encode_checkpoint

        raw = encode_checkpoint(value)
        if self._run is None or self._calls.path:
            await trio.lowlevel.checkpoint()
        else:
            await self._run.supervisor.handover.keep_checkpoint(self._run.live, raw)

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


def share_context(source: Context, target: Context) -> None:
    """Make `target` another face of the call of `source`: with the same progress, questions and state."""
    target._request = source._request
    target._lifespan = source._lifespan
    target._run = source._run
    target._calls = source._calls
    target._bridge = source._bridge
    target._helper = source._helper
    target._progress = source._progress
    target._state = source._state


def read_calls(context: Context) -> ChildCaller:
    """What the handler with this context may call."""
    return context._calls


def enter_server(context: Context, calls: ChildCaller, lifespan: Any) -> Context:
    """The context of the same call for a handler of another server, which is mounted in that of `context`.

    `calls` are what that handler may call, and `lifespan` is what its server's has yielded.
    """
    entered = Context(context._request, context._run, lifespan, calls, context._helper)
    entered._state = context._state
    return entered


def parts_of(context: Context) -> tuple[ServerRequest, TaskRun | None, ChildCaller]:
    """The request of `context`, its run and its calls, for handlers that are a part of trio_mcp itself."""
    return context._request, context._run, context._calls
