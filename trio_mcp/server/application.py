"""What the sessions of one running server serve: methods, handlers, failures.

Owns the answers to MCP methods and the words in which failures reach clients.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import trio

from trio_mcp.errors import ProtocolError, TaskOverload
from trio_mcp.outgoing.policy import Conflate, Lossless, ProgressCall, find_interval
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.context import Context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.error_results import describe_failure
from trio_mcp.server.input_rounds import StateSeal
from trio_mcp.server.task_methods import TaskMethods
from trio_mcp.server.task_run import TaskRun, decide, find_owner, read_ttl
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.wire.eras import ERAS, Era
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
from trio_mcp.wire.http import check_parameter_headers, read_mirrored_arguments
from trio_mcp.wire.incoming_request import IncomingRequest
from trio_mcp.wire.messages import (
    CallToolParams,
    CallToolResult,
    DiscoverResult,
    EmptyResult,
    InitializeResult,
    ListParams,
    ListToolsResult,
    Result,
    SetLevelParams,
)
from trio_mcp.wire.tasks import EXTENSION

logger = logging.getLogger("trio_mcp")


class ServerApplication:
    """Serves one definition; one for as long as the server runs."""

    def __init__(self, definition: ServerDefinition, supervisor: Supervisor, lifespan: Any = None) -> None:
        self._definition = definition
        self._lifespan = lifespan
        self._supervisor = supervisor
        self._seal = StateSeal()
        self._runs: WeakValueDictionary[str, TaskRun] = WeakValueDictionary()
        self.settings = definition.settings
        self.info = definition.info
        # A limiter of its own: tools that block must not starve the application's own threads.
        self._limiter = trio.CapacityLimiter(definition.settings.thread_limit)
        self._calls = ChildCalls(definition.tools, self._limiter, lifespan, definition.settings.show_errors)
        self.immediate: Mapping[str, Callable[[ServerRequest], Result]] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "ping": lambda request: EmptyResult(),
            "logging/setLevel": _set_level,
            "tools/list": self._list_tools,
        }
        self.handlers: Mapping[str, Callable[[ServerRequest], Awaitable[Result]]] = {
            "tools/call": self._call_tool,
            **TaskMethods(supervisor, self._runs, definition.info).handlers,
        }

    def check_headers(self, headers: Mapping[str, str], request: IncomingRequest) -> None:
        """Compare the headers that repeat arguments of a tool (MCP streamable HTTP, "Custom Headers")."""
        if request.frame.method != "tools/call":
            return
        if request.problem is not None:
            if any(tool.headers for tool in self._definition.tools.values()):
                raise request.problem
            return
        assert isinstance(request.params, CallToolParams)
        tool = self._definition.tools.get(request.params.name)
        if tool is None or not tool.headers:
            return
        arguments = read_mirrored_arguments(tool.headers, request.params.arguments)
        if arguments is not None:
            check_parameter_headers(tool.headers, headers, arguments)

    def describe_failure(self, request: ServerRequest, failure: BaseException) -> Result:
        """Tell the client of `failure` as far as it is meant to know."""
        if isinstance(request.params, CallToolParams):
            return describe_failure(request.params.name, failure, show_errors=self.settings.show_errors)
        if isinstance(failure, ProtocolError):
            raise failure
        logger.error("%s failed", request.method, exc_info=failure)
        raise ProtocolError(INTERNAL_ERROR, f"{request.method!r} failed")

    def _capabilities(self, era: Era) -> dict[str, Any]:
        capabilities: dict[str, Any] = {"logging": {}, "tools": {}}
        if any(tool.task is not None for tool in self._definition.tools.values()):
            if era.tasks == "legacy":
                capabilities["tasks"] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
            elif era.tasks == "extension":
                capabilities["extensions"] = {EXTENSION: {}}
        return capabilities

    def _initialize(self, request: ServerRequest) -> Result:
        return InitializeResult(
            protocol_version=request.era.version,
            capabilities=self._capabilities(request.era),
            server_info=self.info,
            instructions=self._definition.instructions,
        )

    def _discover(self, request: ServerRequest) -> Result:
        return DiscoverResult(
            supported_versions=list(ERAS),
            capabilities=self._capabilities(request.era),
            instructions=self._definition.instructions,
        )

    def _list_tools(self, request: ServerRequest) -> Result:
        assert isinstance(request.params, ListParams)
        if request.params.cursor is not None:
            # Every page is the last one, so no cursor was ever given out.
            raise ProtocolError(INVALID_PARAMS, f"unknown cursor {request.params.cursor!r}")
        tools = [tool.listing_for(request.era) for tool in self._definition.tools.values()]
        return ListToolsResult(tools=tools)

    async def _call_tool(self, request: ServerRequest) -> Result:
        params = request.params
        assert isinstance(params, CallToolParams)
        tool = self._definition.tools.get(params.name)
        if tool is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        if tool.progress is not None or self.settings.choose_progress is not None:
            self._choose_progress(request, tool)
        arguments = None if isinstance(params.arguments, msgspec.UnsetType) else params.arguments
        decision = decide(request, params.name, tool.task)
        if tool.task is None or (decision == "direct" and tool.task.gather is None):
            context = None if tool.parameters.context_name is None else self._context(request, None)
            return await tool.call(context, arguments, self._limiter)
        run = self._make_run(request, params, tool, arguments)
        run.is_direct = decision == "direct"
        started = False
        try:
            question = await self._gather(run, request, tool, arguments)
            started = question is None and not run.is_direct
        finally:
            if not started:
                self._supervisor.release()
        if question is not None:
            return question
        if run.is_direct:
            return await tool.call(self._context(request, run), arguments, self._limiter)
        return await (run.start_task() if decision == "task" else run.run_promotable())

    def _context(self, request: ServerRequest, run: TaskRun | None) -> Context:
        return Context(request, run, self._lifespan, self._calls)

    def _choose_progress(self, request: ServerRequest, tool: ToolDefinition) -> None:
        """Let the call queue follow the policy of the tool, or what the server's own function chooses."""
        policy = tool.progress or self.settings.progress
        choose = self.settings.choose_progress
        if choose is not None:
            policy = choose(
                ProgressCall(
                    tool=tool.listing.name,
                    policy=policy,
                    client_info=request.meta.client_info,
                    principal=request.connection.principal,
                    session_state=None if request.session is None else request.session.state,
                )
            )
            if not isinstance(policy, (Conflate, Lossless)):
                raise TypeError(f"choose_progress must return a policy, not {policy!r}")
        request.call_queue.follow(policy)

    async def _gather(
        self, run: TaskRun, request: ServerRequest, tool: ToolDefinition, arguments: msgspec.Raw | None
    ) -> Result | None:
        gather = None if tool.task is None else tool.task.gather
        if gather is None:
            return None
        values = tool.parameters.convert(arguments)
        return await run.gather(lambda: gather(self._context(request, run), values), self._seal)

    def _make_run(
        self,
        request: ServerRequest,
        params: CallToolParams,
        tool: ToolDefinition,
        arguments: msgspec.Raw | None,
    ) -> TaskRun:
        config = tool.task or TaskConfig()
        # A client may ask for a shorter or longer life, but for no longer one than the tool allows.
        limits = [ttl for ttl in (config.ttl, read_ttl(request)) if ttl is not None]
        try:
            live = self._supervisor.prepare(
                params.name,
                find_owner(request),
                ttl=min(limits, default=None),
                poll_interval=config.poll_interval,
                keeps_history=request.era.tasks == "extension",  # elsewhere the token goes on
            )
        except TaskOverload as error:
            raise ProtocolError(INTERNAL_ERROR, str(error)) from None
        live.min_interval = find_interval(request.call_queue.policy)

        async def handle(run: TaskRun) -> CallToolResult:
            return await tool.call(self._context(request, run), arguments, self._limiter)

        run = TaskRun(self._supervisor, live, request, config, handle, self.settings.show_errors)
        self._runs[live.id] = run
        return run


def _set_level(request: ServerRequest) -> Result:
    assert isinstance(request.params, SetLevelParams)
    assert request.session is not None, "only legacy eras have logging/setLevel"
    request.session.log_level = request.params.level
    return EmptyResult()
