"""What the sessions of one running server serve: its methods, and the answers to failures.

Owns the two tables of methods, and the answers to the handshake. Knows nothing of sessions or
wires. To add a request type: its parameters and its result go into `wire/messages.py`, and its name
into the table of each revision that has it, in `wire/eras.py`. Here its function goes into `immediate`,
if it never waits (the reader of the wire answers it in order; it may raise only ProtocolError), or into
`handlers`, if it runs in a task of its own. What a client must know of it goes into `_capabilities`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import trio

from trio_mcp.errors import ProtocolError, TaskStoreError
from trio_mcp.server.changes import LIST_CHANGES, Change, ListKind
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.error_results import ErrorResults, HasErrors, suit
from trio_mcp.server.progress_choice import ProgressChoice
from trio_mcp.server.running_mounts import RunningMounts
from trio_mcp.server.task_methods import TaskMethods
from trio_mcp.server.task_run import TaskRun
from trio_mcp.server.tool_methods import ToolMethods
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.server_session import ServerSession
from trio_mcp.tasks.stored_task import StoredTask
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.wire.eras import ERAS, Era
from trio_mcp.wire.errors import INTERNAL_ERROR, METHOD_NOT_FOUND
from trio_mcp.wire.http import check_parameter_headers, read_mirrored_arguments
from trio_mcp.wire.incoming_request import IncomingRequest
from trio_mcp.wire.messages import (
    META_IDEMPOTENCY_KEY,
    CallToolParams,
    CompleteParams,
    DiscoverResult,
    EmptyResult,
    GetPromptParams,
    InitializeResult,
    PromptReference,
    ReadResourceParams,
    Result,
    SetLevelParams,
)
from trio_mcp.wire.tasks import EXTENSION

if TYPE_CHECKING:  # a server starts without the modules that its clients may not need
    from trio_mcp.server.completion_methods import CompletionMethods
    from trio_mcp.server.prompt_methods import PromptMethods
    from trio_mcp.server.resource_methods import ResourceMethods
    from trio_mcp.server.subscription_methods import SubscriptionMethods

UNAVAILABLE: Final = 503
"""The status in the errors of a store: the same request may succeed later, and clients repeat it."""


class ServerApplication:
    """Serves one definition for as long as the server runs; heartbeats wait in `nursery`."""

    def __init__(
        self,
        definition: ServerDefinition,
        supervisor: Supervisor,
        nursery: trio.Nursery,
        lifespan: Any = None,
        mounts: RunningMounts | None = None,
    ) -> None:
        self._definition = definition
        self.make_session: Callable[[ServerConnection, trio.Nursery], ServerSession] = partial(
            ServerSession, self
        )
        self.settings = definition.settings
        self.info = definition.info
        self.errors = ErrorResults(self.settings.show_errors)
        runs: WeakValueDictionary[str, TaskRun] = WeakValueDictionary()
        self._progress = ProgressChoice(self.settings, nursery)
        tools = ToolMethods(definition, supervisor, runs, lifespan, self.errors, self._progress, mounts)
        tasks = TaskMethods(supervisor, runs, definition.tools)
        self._supervisor = supervisor
        self._tools = tools
        self._tasks = tasks
        self._lifespan = lifespan
        self._prompts: PromptMethods | None = None
        self._completion: CompletionMethods | None = None
        self._resources: ResourceMethods | None = None
        self._subscriptions: SubscriptionMethods | None = None
        self.audience = definition.changes.make_audience()
        definition.changes.attach(self.audience)
        # The lists of whose changes each legacy client is told: those that it was offered.
        self._sessions: dict[ServerConnection, Sequence[ListKind]] = {}
        self.immediate: Mapping[str, Callable[[ServerRequest], Result]] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "ping": lambda request: EmptyResult(),
            "logging/setLevel": _set_level,
            "tools/list": tools.list_tools,
            "prompts/list": lambda request: self._find_prompts(request).list_prompts(request),
            "resources/list": lambda request: self._find_resources(request).list_resources(request),
            "resources/templates/list": lambda request: self._find_resources(request).list_templates(request),
            "resources/subscribe": lambda request: self._find_subscriptions().subscribe(request),
            "resources/unsubscribe": lambda request: self._find_subscriptions().unsubscribe(request),
        }
        self.handlers: Mapping[str, Callable[[ServerRequest], Awaitable[Result]]] = {
            "tools/call": tools.call_tool,
            "prompts/get": lambda request: self._find_prompts(request).get_prompt(request),
            "completion/complete": lambda request: self._find_completion(request).complete(request),
            "resources/read": lambda request: self._find_resources(request).read(request),
            "tasks/get": tasks.get,
            "tasks/result": tasks.wait_result,
            "tasks/list": tasks.list_page,
            "tasks/cancel": tasks.cancel,
            "tasks/update": tasks.update,
            "subscriptions/listen": lambda request: self._find_subscriptions().listen(request),
        }
        if "requests" in definition.layers:
            self._put_around_requests()

    def _put_around_requests(self) -> None:
        # Imported here: a server without middleware starts sooner.
        from trio_mcp.server.request_middleware import LayeredMethods

        layered = LayeredMethods(
            self._definition.layers["requests"],
            {**self.immediate, "initialize": self._initialize_late},
            self.handlers,
            self._lifespan,
            self._tools.calls,
        )

        def initialize(request: ServerRequest) -> Result:
            self._end_session(request.connection.home)  # what ends it later must not end the new one
            return layered.defer(request)

        self.immediate = {**layered.immediate, "initialize": initialize}
        self.handlers = layered.handlers

    def run_stored(self, task: StoredTask) -> None:
        """Run a task that was claimed from the store; does not wait."""
        self._tools.run_stored(task)

    def close(self) -> None:
        """Tell of no change any more, begin no more heartbeats, and log how often each failure has come."""
        self._definition.changes.detach(self.audience)
        self._progress.close()
        self.errors.close()

    def begin_session(self, connection: ServerConnection) -> None:
        """Tell the legacy client at `connection` of each change of a list, until it is gone."""
        if not self._sessions:
            for change in LIST_CHANGES.values():
                self.audience.subscribe(self, change)
        self._sessions[connection] = self._listed()

    def _end_session(self, connection: ServerConnection) -> None:
        if self._sessions.pop(connection, None) is not None and not self._sessions:
            for change in LIST_CHANGES.values():
                self.audience.unsubscribe(self, change)
        if self._subscriptions is not None:
            self._subscriptions.forget_session(connection)

    def note(self, change: Change) -> None:
        """Tell every legacy client of the change of a list."""
        subscriptions = self._find_subscriptions()
        for connection, kinds in self._sessions.items():
            if any(LIST_CHANGES[kind] == change for kind in kinds):
                subscriptions.tell_session(connection, change)

    def check_headers(self, headers: Mapping[str, str], request: IncomingRequest) -> None:
        """Compare the headers that repeat arguments of a tool (MCP streamable HTTP, "Custom Headers").

        Raises ProtocolError if one differs.
        """
        if request.frame.method != "tools/call":
            return
        if request.problem is not None:
            if any(tool.headers for tool in self._definition.tools.all()):
                raise request.problem
            return
        assert isinstance(request.params, CallToolParams)
        tool = self._definition.tools.enabled.get(request.params.name)
        if tool is None or not tool.headers:
            return
        arguments = read_mirrored_arguments(tool.headers, request.params.arguments)
        if arguments is not None:
            check_parameter_headers(tool.headers, headers, arguments)

    def describe_failure(self, request: ServerRequest, failure: BaseException) -> Result:
        """The result that tells the client of `failure`; raises ProtocolError for a JSON-RPC error."""
        failure = suit(failure, request.era)
        if isinstance(failure, TaskStoreError):
            self._supervisor.store_calls.note_failure(failure)
            raise ProtocolError(INTERNAL_ERROR, str(failure), {"status": UNAVAILABLE})
        if isinstance(request.params, CallToolParams):
            tool = self._definition.tools.find(request.params.name)
            return self._errors_of(tool).describe(request.params.name, failure)
        if isinstance(request.params, GetPromptParams):
            prompt = self._definition.prompts.find(request.params.name)
            raise self._errors_of(prompt).explain(f"prompt {request.params.name!r}", failure)
        if isinstance(request.params, CompleteParams):
            subject = self._find_completed(request.params)
            text = f"the completion of {request.params.argument.name!r}"
            raise self._errors_of(subject).explain(text, failure)
        if isinstance(failure, ProtocolError):
            raise failure
        if isinstance(request.params, ReadResourceParams):
            self._find_resources(request).describe_failure(request, failure)
        self.errors.log_method(request.method, failure)
        raise ProtocolError(INTERNAL_ERROR, f"{request.method!r} failed")

    def _errors_of(self, definition: HasErrors | None) -> ErrorResults:
        """Those of the server at which it was registered, if that is mounted here."""
        return self.errors if definition is None else self.errors.showing(definition.shows_errors)

    def _find_completed(self, params: CompleteParams) -> HasErrors | None:
        if isinstance(params.ref, PromptReference):
            return self._definition.prompts.find(params.ref.name)
        table = self._definition.resources
        return None if table is None else table.templates.find(params.ref.uri)

    def _find_prompts(self, request: ServerRequest) -> PromptMethods:
        """The methods of prompts; raises ProtocolError if the server has no prompts."""
        if not self._has_prompts:
            raise ProtocolError(METHOD_NOT_FOUND, f"{request.method!r} is for servers with prompts")
        if self._prompts is None:
            # Imported here: a server without prompts starts sooner without that module.
            from trio_mcp.server.prompt_methods import PromptMethods

            self._prompts = PromptMethods(self._definition, self._lifespan, self._tools.calls, self._progress)
        return self._prompts

    def _find_completion(self, request: ServerRequest) -> CompletionMethods:
        """The method of completion; raises ProtocolError if the server has nothing to complete."""
        if not (self._has_prompts or self._has_resources or "completions" in self._definition.offers):
            raise ProtocolError(
                METHOD_NOT_FOUND, f"{request.method!r} is for servers with prompts or resources"
            )
        if self._completion is None:
            from trio_mcp.server.completion_methods import CompletionMethods

            self._completion = CompletionMethods(
                self._definition, self._lifespan, self._tools.calls, self._progress
            )
        return self._completion

    def _find_resources(self, request: ServerRequest) -> ResourceMethods:
        """The methods of resources; raises ProtocolError if the server has no resources."""
        if not self._has_resources:
            raise ProtocolError(METHOD_NOT_FOUND, f"{request.method!r} is for servers with resources")
        if self._resources is None:
            from trio_mcp.server.resource_methods import ResourceMethods

            self._resources = ResourceMethods(
                self._definition.open_resources(),
                self.settings,
                self._lifespan,
                self._tools.calls,
                self.errors,
                self._progress,
            )
        return self._resources

    @property
    def _has_prompts(self) -> bool:
        return self._definition.prompts.has_begun or "prompts" in self._definition.offers

    @property
    def _has_resources(self) -> bool:
        table = self._definition.resources
        return (table is not None and table.has_begun) or "resources" in self._definition.offers

    @property
    def _completes(self) -> bool:
        table = self._definition.resources
        return (
            "completions" in self._definition.offers
            or any(prompt.completers for prompt in self._definition.prompts.all())
            or (table is not None and any(template.completers for template in table.templates.all()))
        )

    def _find_subscriptions(self) -> SubscriptionMethods:
        if self._subscriptions is None:
            # Imported here: a server to which nobody subscribes starts sooner without that module.
            from trio_mcp.server.subscription_methods import SubscriptionMethods

            self._subscriptions = SubscriptionMethods(
                self._definition, self.audience, self._tasks, self._listed
            )
        return self._subscriptions

    def _listed(self) -> Sequence[ListKind]:
        """The lists that the server has, of whose changes it tells."""
        kinds: list[ListKind] = ["tools"]
        if self._has_prompts:
            kinds.append("prompts")
        if self._has_resources:
            kinds.append("resources")
        return kinds

    def _capabilities(self, era: Era) -> dict[str, Any]:
        capabilities: dict[str, Any] = {"logging": {}, "experimental": {META_IDEMPOTENCY_KEY: {}}}
        for kind in self._listed():
            capabilities[kind] = {"listChanged": True}
        if "resources" in capabilities:
            capabilities["resources"]["subscribe"] = True
        if self._completes:
            capabilities["completions"] = {}
        if any(tool.task is not None for tool in self._definition.tools.all()):
            if era.tasks == "legacy":
                capabilities["tasks"] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
            elif era.tasks == "extension":
                capabilities["extensions"] = {EXTENSION: {}}
        return capabilities

    def _initialize(self, request: ServerRequest) -> Result:
        home = request.connection.home
        self._end_session(home)  # one that the client had on this wire before
        home.call_when_lost(self._end_session)
        return InitializeResult(
            protocol_version=request.era.version,
            capabilities=self._capabilities(request.era),
            server_info=self.info,
            instructions=self._definition.instructions,
        )

    def _initialize_late(self, request: ServerRequest) -> Result:
        """Answer initialize in a task of its own: the client may have ended its handshake meanwhile."""
        home = request.connection.home
        had_begun = home in self._sessions
        result = self._initialize(request)
        if had_begun:
            self.begin_session(home)
        return result

    def _discover(self, request: ServerRequest) -> Result:
        return DiscoverResult(
            supported_versions=list(ERAS),
            capabilities=self._capabilities(request.era),
            instructions=self._definition.instructions,
        )


def _set_level(request: ServerRequest) -> Result:
    assert isinstance(request.params, SetLevelParams)
    assert request.session is not None, "only legacy eras have logging/setLevel"
    request.session.log_level = request.params.level
    return EmptyResult()
