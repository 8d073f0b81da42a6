"""The methods by which clients list and call tools.

Owns the steps of a tool call from its parameters to its answer: the choice between an
answer and a task, and the Context of its handler. A call that is or may become a task
goes on in `task_run.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio
from msgspec import UNSET

from trio_mcp.errors import ProtocolError, TaskOverload
from trio_mcp.outgoing.policy import find_interval
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.context import Context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.error_results import ErrorResults
from trio_mcp.server.input_rounds import InputRounds
from trio_mcp.server.pages import mark_list, read_page
from trio_mcp.server.progress_choice import ProgressChoice
from trio_mcp.server.task_choice import Choice, choose, find_owner, find_payer, read_ttl
from trio_mcp.server.task_run import TaskRun
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.tasks.stored_task import StoredTask
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
from trio_mcp.wire.messages import (
    META_IDEMPOTENCY_KEY,
    CallToolParams,
    CallToolResult,
    ListToolsResult,
    Result,
)

if TYPE_CHECKING:
    from trio_mcp.server.call_keys import CallKeys


class ToolMethods:
    """Answers the tool methods of one running server; `runs` are its task runs by the task's id.

    `calls` are what handlers may call.
    """

    def __init__(
        self,
        definition: ServerDefinition,
        supervisor: Supervisor,
        runs: MutableMapping[str, TaskRun],
        lifespan: Any,
        errors: ErrorResults,
        progress: ProgressChoice,
    ) -> None:
        self._registry = definition.tools
        self._tools = definition.tools.enabled
        self._settings = definition.settings
        self._supervisor = supervisor
        self._runs = runs
        self._lifespan = lifespan
        self._progress = progress
        self._keys: CallKeys | None = None
        # A limiter of its own: tools that block must not starve the application's own threads.
        self._limiter = trio.CapacityLimiter(self._settings.thread_limit)
        rounds = InputRounds(definition.info.name, self._settings)
        self.calls: Final = ChildCalls(
            self._tools, self._limiter, lifespan, errors, rounds, definition.server
        )
        """What handlers may call, also those of prompts; with the threads of sync functions."""

    def list_tools(self, request: ServerRequest) -> Result:
        """Answer tools/list."""
        tools, cursor = read_page(request, self._registry, self._settings)
        listings = [tool.listing_for(request.era) for tool in tools]
        result = ListToolsResult(tools=listings, next_cursor=cursor)
        return mark_list(request, result, self._settings, self._registry)

    async def call_tool(self, request: ServerRequest) -> Result:
        """Answer tools/call: with the result, with a task, or with what the client is asked first."""
        params = request.params
        assert isinstance(params, CallToolParams)
        tool = self._tools.get(params.name)
        if tool is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        if tool.scopes:
            request.connection.require(tool.scopes)
        if tool.progress is not None or self._progress.for_all:
            self._progress.settle(request, tool.progress, tool.listing.name, is_tool=True)
        arguments = None if isinstance(params.arguments, msgspec.UnsetType) else params.arguments
        continues = params.request_state is not UNSET or params.input_responses is not UNSET
        if META_IDEMPOTENCY_KEY in request.meta.values:
            choice = choose(request, params.name, tool.task)
            return await self._call_once(request, tool, arguments, choice, continues=continues)
        if continues:
            await self.calls.rounds.resume(request)
        choice = choose(request, params.name, tool.task)
        if tool.task is None or (choice is Choice.ANSWER and tool.task.gather is None):
            context = self._make_context(request, None) if tool.takes_context else None
            return await tool.call(context, arguments, self._limiter)
        run, choice = self._make_run(request, tool, tool.task, arguments, choice)
        if choice is not Choice.ANSWER and not self._supervisor.runs_tasks:
            from trio_mcp.server.queued_calls import queue_call

            return await queue_call(run, choice)
        return await run.run(choice)

    async def _call_once(
        self,
        request: ServerRequest,
        tool: ToolDefinition,
        arguments: msgspec.Raw | None,
        choice: Choice,
        *,
        continues: bool,
    ) -> Result:
        """Answer a call that has an idempotency key; checkpoints."""
        # Imported here: a server starts without what few of its clients use.
        from trio_mcp.server.call_keys import CallKeys
        from trio_mcp.server.call_names import name_call

        if self._keys is None:
            self._keys = CallKeys(self._supervisor)
        config = tool.task
        if config is None:
            config = TaskConfig(mode="forbidden")
        elif choice is Choice.ANSWER:  # which is not timed as a task is
            config = TaskConfig(ttl=config.ttl, gather=config.gather)

        def make_run() -> TaskRun:
            # Without a place, which a call that joins another does not need.
            run, _ = self._make_run(request, tool, config, arguments, Choice.ANSWER)
            return run

        name = name_call(request, tool.listing.name, arguments)
        rounds = self.calls.rounds if continues else None
        return await self._keys.call(request, name, choice, make_run, rounds)

    def run_stored(self, task: StoredTask) -> None:
        """Run a task that this process has claimed, or let it fail if it cannot be run; does not wait."""
        from trio_mcp.server.stored_runs import make_stored_run

        tool = self._tools.get(task.record.tool)
        run = make_stored_run(
            task, tool, self._supervisor, self._settings, self.calls.errors, self._make_handler
        )
        if run is not None:
            self._runs[run.live.id] = run
            run.start()

    def _make_handler(
        self, request: ServerRequest, tool: ToolDefinition, arguments: msgspec.Raw | None
    ) -> Callable[[TaskRun], Awaitable[CallToolResult]]:
        async def handle(run: TaskRun) -> CallToolResult:
            context = self._make_context(request, run) if tool.takes_context else None
            return await tool.call(context, arguments, self._limiter)

        return handle

    def _make_context(self, request: ServerRequest, run: TaskRun | None) -> Context:
        return Context(request, run, self._lifespan, self.calls)

    def _make_run(
        self,
        request: ServerRequest,
        tool: ToolDefinition,
        config: TaskConfig,
        arguments: msgspec.Raw | None,
        choice: Choice,
    ) -> tuple[TaskRun, Choice]:
        """Make the run, and say how it is answered: if there is no place, directly rather than not at all."""

        async def gather(run: TaskRun) -> Any:
            assert config.gather is not None
            values = tool.parameters.convert(arguments)
            return await config.gather(self._make_context(request, run), values)

        try:
            live = self._prepare(request, tool, config, reserves=choice is not Choice.ANSWER)
        except TaskOverload as error:
            if choice is not Choice.PROMOTE:
                raise ProtocolError(INTERNAL_ERROR, str(error)) from None
            choice = Choice.ANSWER
            live = self._prepare(request, tool, config, reserves=False)
        gatherer = None if config.gather is None else gather
        handle = self._make_handler(request, tool, arguments)
        run = TaskRun(self._supervisor, live, request, config, handle, gatherer, self.calls.errors)
        run.arguments = arguments
        self._runs[live.id] = run
        if config.retry is not None or self._supervisor.keeps_work:
            from trio_mcp.tasks.question_replay import QuestionReplay  # few tasks are begun again

            live.replay = QuestionReplay()
        return run, choice

    def _prepare(
        self, request: ServerRequest, tool: ToolDefinition, config: TaskConfig, *, reserves: bool
    ) -> LiveTask:
        """Make the live task, with a place if it `reserves` one; raises TaskOverload if there is none."""
        # A client may ask for a shorter or longer life, but for no longer one than the tool allows.
        limits = [ttl for ttl in (config.ttl, read_ttl(request)) if ttl is not None]
        live = self._supervisor.prepare(
            tool.listing.name,
            find_owner(request),
            ttl=min(limits, default=None),
            poll_interval=config.poll_interval,
            keeps_history=request.era.tasks == "extension",  # a legacy task reports by its token
            payer=find_payer(request),
            reserves=reserves,
        )
        live.min_interval = find_interval(request.call_queue.policy)
        return live
