"""The public face of a client: `open_client` and the verbs of `Client`.

Owns the signatures. The work is done by helpers, which share a `Link`; nothing here knows a frame.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import trio

from trio_mcp.call_result import CallResult
from trio_mcp.client.call_handle import CallHandle, open_call
from trio_mcp.client.change_handling import handling_changes
from trio_mcp.client.changes import ChangeChannel, ChangeHandler, make_filter
from trio_mcp.client.connector import Connector
from trio_mcp.client.elicitation import ElicitationHandler, ElicitUrlHandler
from trio_mcp.client.era_cache import EraCache
from trio_mcp.client.fault_report import ErrorHandler
from trio_mcp.client.link import check_level
from trio_mcp.client.listening import open_listening
from trio_mcp.client.log_queue import LogHandler
from trio_mcp.client.negotiation import find_era
from trio_mcp.client.roots import RootList, Roots
from trio_mcp.client.sampling import SamplingHandler
from trio_mcp.client.server_requests import Answering
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import HttpKind, Target, UrlOptions
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.client.task_reader import TaskReader
from trio_mcp.client.tool_call import ToolCall
from trio_mcp.handlers.sink import ProgressHandler, ProgressSink, as_handler
from trio_mcp.version import __version__
from trio_mcp.wire.messages import Implementation, LoggingLevel, Params

if TYPE_CHECKING:
    from typing import Unpack

    from trio_mcp.client.call_options import (
        AnyCall,
        PlainCall,
        StartCall,
        TaskCall,
    )

T = TypeVar("T")

Arguments: TypeAlias = Mapping[str, Any] | None


class Client(TaskReader):
    """A connection to one MCP server; made by `open_client`.

    Its methods may be called from many tasks at once.
    """

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[PlainCall]
    ) -> CallResult[T]: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[TaskCall]
    ) -> TaskHandle[T]: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[AnyCall]
    ) -> CallResult[T] | TaskHandle[T]: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[PlainCall]
    ) -> CallResult: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[TaskCall]
    ) -> TaskHandle: ...

    @overload
    async def call_tool(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[AnyCall]
    ) -> CallResult | TaskHandle: ...

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
        raise_on_error: bool = True,
        result_type: Any = None,
        task: bool = False,
        ttl: float | None = None,
        idempotency_key: str | None = None,
    ) -> CallResult[Any] | TaskHandle[Any]:
        """Call a tool and wait for its result (MCP tools, "Calling Tools"); checkpoints.

        `progress_handler(progress, total, message)`, sync or async, or a `ProgressSink`, replaces
        the client's own for this call. When the result is returned, the handler has finished with
        every update that will ever be delivered for this call. It never runs twice at once. If it
        raises, the exception is logged and the call continues.

        Cancelling the call, for example by `trio.fail_after`, cancels the server's handler.
        `idle_timeout` is the longest time in seconds without progress, `max_timeout` the longest
        time in all, by default ten times the idle one.

        With `ClientSettings.validate_results` the structured content is checked against the outputSchema
        of the tool. `result_type` is the type to which the result's `data` is converted, here or by the
        handle; for a class, type checkers then know the type of `data`.

        With `task=True` the tool is asked to run as a background task, kept for `ttl`
        seconds, and a `TaskHandle` is returned as soon as there is one; its `result()` then
        waits for the result. Without it, a task that the server makes unasked is waited for here,
        and cancelled if this call is.

        The server carries out one call of all that have the same `idempotency_key`, 1 to 255 visible ASCII
        characters, and the others get its answer, or its task. If an answer is lost while the connection goes
        on, as over HTTP, a call with a key is sent again, up to three times, and so is one of a tool that was
        listed as read-only or idempotent. No other call is ever sent twice.

        Raises ToolError for a result that is an error, unless `raise_on_error` is
        False; ProtocolError for a JSON-RPC error; CallTimeout; ProgressOverflow under the
        lossless policy; ConnectionLost, whose `outcome_unknown` says whether the tool may have run;
        NotSupportedByServer if the server does not know such keys; RemoteProtocolError for a result that
        is malformed or does not fit; ValueError for arguments that are not JSON, times that are none, and
        what is no key.
        """
        call = ToolCall(
            self._link,
            name,
            arguments,
            self._progress_handler if progress_handler is None else as_handler(progress_handler),
            idle_timeout,
            max_timeout,
            raise_on_error=raise_on_error,
            result_type=result_type,
            idempotency_key=idempotency_key,
        )
        return await call.start_task(ttl) if task else await call.run()

    @overload
    def start_call(
        self, name: str, arguments: Arguments = None, *, result_type: type[T], **options: Unpack[StartCall]
    ) -> AbstractAsyncContextManager[CallHandle[T]]: ...

    @overload
    def start_call(
        self, name: str, arguments: Arguments = None, *, result_type: Any = None, **options: Unpack[StartCall]
    ) -> AbstractAsyncContextManager[CallHandle]: ...

    @asynccontextmanager
    async def start_call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
        raise_on_error: bool = True,
        result_type: Any = None,
        idempotency_key: str | None = None,
    ) -> AsyncIterator[CallHandle[Any]]:
        """Call a tool concurrently with the block; its progress is read from a channel.

        Yields a `CallHandle` with `updates`, `result()` and `cancel()` (MCP tools, "Calling Tools").
        The arguments are those of `call_tool`; the client's own progress handler is not called. Leaving
        the block cancels a call that has not ended. An exception that the block raises is not
        wrapped in a group. Entering does not wait, leaving checkpoints.

        Raises ValueError for arguments that are not JSON and for what is no key, and NotSupportedByServer;
        every other error is raised by `result()`.
        """
        async with open_call(
            self._link,
            name,
            arguments,
            idle_timeout,
            max_timeout,
            raise_on_error=raise_on_error,
            result_type=result_type,
            idempotency_key=idempotency_key,
        ) as handle:
            yield handle

    @asynccontextmanager
    async def listen(
        self,
        *,
        tools: bool = False,
        prompts: bool = False,
        resources: bool = False,
        uris: Sequence[str] = (),
    ) -> AsyncIterator[ChangeChannel]:
        """Open a channel of what changes at the server, for as long as the block lasts.

        `tools`, `prompts` and `resources` ask for changes of these lists, `uris` for updates of these
        resources and of those below them. Entering waits until the server has acknowledged it. The
        channel yields `ToolsListChanged`, `PromptsListChanged`, `ResourcesListChanged` and
        `ResourceUpdated`, each once as long as it has not been read, and ends if the server ends the
        subscription. One that breaks while the connection goes on, as over HTTP, is opened again; then
        all that was asked for is told as changed, since it may have. What the server does not offer is
        logged, see `ChangeChannel.honoured`. (MCP subscriptions; MCP resources, "Subscriptions".)
        Checkpoints.

        Raises SubscriptionRefused if a modern server offers nothing of it, ProtocolError, ConnectionLost,
        CallTimeout if it does not answer, and ValueError if nothing is asked for. A connection that is lost
        later is raised by the channel.
        """
        wanted = make_filter(tools=tools, prompts=prompts, resources=resources, uris=uris)
        async with open_listening(self._link, wanted) as changes:
            yield changes

    @asynccontextmanager
    async def subscribe(self, uri: str) -> AsyncIterator[ChangeChannel]:
        """Open a channel of the updates of one resource; as `listen(uris=[uri])`."""
        async with self.listen(uris=[uri]) as changes:
            yield changes

    async def set_roots(self, roots: Roots) -> None:
        """Show other roots to the server from now on, and tell it so (MCP roots); checkpoints.

        Call it with the same function if what that returns has changed. The modern protocol has no such
        notification: a server asks each time. Raises ValueError if the client was opened without `roots`, and
        for what is no file URI.
        """
        shown = self._link.session.answering.roots
        if shown is None:
            raise ValueError("open_client was not given any roots, so this client has not declared them")
        shown.replace(roots)
        if not self._link.era.modern:
            self._link.session.notify("notifications/roots/list_changed", Params())
        await trio.lowlevel.checkpoint()

    async def wait_elicitation(self, elicitation_id: str) -> None:
        """Wait until the server tells that a person is done with a page; checkpoints.

        `elicitation_id` is that of an `ElicitUrlRequest` or of a UrlElicitationRequiredError. A server need
        not tell it, and only revision 2025-11-25 can, so use a timeout. Raises ConnectionLost (MCP
        elicitation 2025-11-25, "Completion Notifications for URL Mode Elicitation").
        """
        await self._link.session.pages.wait(elicitation_id)


@asynccontextmanager
async def open_client(
    target: Target,
    *,
    progress_handler: ProgressHandler | ProgressSink | None = None,
    log_handler: LogHandler | None = None,
    log_level: LoggingLevel = "info",
    on_error: ErrorHandler | None = None,
    change_handler: ChangeHandler | None = None,
    elicitation_handler: ElicitationHandler | None = None,
    elicitation_url_handler: ElicitUrlHandler | None = None,
    sampling_handler: SamplingHandler | None = None,
    sampling_tools: bool = False,
    roots: Roots | None = None,
    client_info: Implementation | None = None,
    protocol: str = "auto",
    settings: ClientSettings | None = None,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    http_client: Any = None,
    ssl_context: ssl.SSLContext | None = None,
    allow_redirects_to: Collection[str] | None = None,
    transport: HttpKind | None = None,
    era_cache: EraCache | None = None,
    instruments: Sequence[object] = (),
) -> AsyncIterator[Client]:
    """Connect to a server for as long as the block lasts; checkpoints.

    `target` is a `Server` (served in memory), the URL of a server (http, https, ws or
    wss), the path of a .py file, a command and its arguments as a list, or a `StdioServer`
    (these three run as a subprocess that is served over stdio).
    `progress_handler` is used by every call that has none of its own;
    `log_handler` receives a `LogMessage` for each message of at least `log_level`.
    `on_error`, which is not async, is called with each fault of the server that belongs to no call:
    a ProtocolError for an error without an id while several calls are in flight, a RemoteProtocolError
    for a message that cannot be read. They are logged as well.
    `change_handler` is called with `ToolsListChanged`, `PromptsListChanged` or `ResourcesListChanged` when
    that list has changed; for it, a modern server that declares such changes is listened to.
    `elicitation_handler` fills in the forms, `elicitation_url_handler` says whether a person opens a page,
    and `sampling_handler` answers for a model if the server asks; a client without them declares that it
    cannot. `sampling_tools` declares that this model uses tools. `roots` are the directories and files that
    the client works with, or a function that returns them.
    `protocol` is "auto" (modern first, legacy as the fall-back) or one revision. A server that
    ends the connection when it is asked for the modern one is connected to, or started, once more.
    `era_cache` is shared by clients so that a legacy origin is asked for the modern one only once.
    `headers` are sent with every request to a URL. `auth` is a bearer token as text, or a way to get tokens:
    `OAuth()`, which may ask the user, `ClientCredentials`, `JwtBearer` or `EnterpriseManaged`; for HTTP also
    an `auth` of httpx2. Calls then raise AuthorizationError if no token is got. `http_client` is an
    `httpx2.AsyncClient` to use and leave open, for HTTP only.
    `ssl_context` says which certificates https:// and wss:// trust. A redirect is followed
    within the origin of the URL, and to the origins ("https://host:port") in `allow_redirects_to`,
    which then receive the headers and credentials as well.
    An http:// or https:// URL is asked over Streamable HTTP, and over the HTTP+SSE of 2024-11-05 if it
    refuses the handshake with 400, 404 or 405; `transport` "http" or "sse" chooses one of the two.
    `instruments` are told of what the client asks: objects with hooks of `trio_mcp.instruments.Instrument`.

    Raises ImportError if the extra for a URL is not installed, ValueError or TypeError
    for arguments that make no sense, FileNotFoundError
    and PermissionError for a command that cannot be started, ConnectionLost,
    CallTimeout for a handshake without an answer, AuthorizationError if the server wants a token and
    none is got, and ProtocolError or RemoteProtocolError if there is no common protocol revision. An
    exception that the block raises is not wrapped in a group.
    """
    pinned = find_era(protocol)
    check_level(log_level)
    if transport == "sse" and pinned is not None and pinned.modern:
        raise ValueError(f"{pinned.version} has no HTTP+SSE: protocol must be an earlier one")
    handler = as_handler(progress_handler)
    options = UrlOptions(
        headers=headers,
        auth=auth,
        http_client=http_client,
        ssl_context=ssl_context,
        allow_redirects_to=allow_redirects_to,
        transport=transport,
    )
    make_connector: Callable[..., Connector] = Connector
    if instruments:
        from trio_mcp.client.instrumentation import find_connector  # few clients are observed

        make_connector = find_connector(instruments)
    connector = make_connector(
        target,
        settings or ClientSettings(),
        options,
        info=client_info or Implementation(name="trio_mcp", version=__version__),
        log_handler=log_handler,
        log_level=log_level,
        on_error=on_error,
        answering=Answering(
            elicitation_handler,
            sampling_handler,
            elicitation_url_handler,
            None if roots is None else RootList(roots),
            sampling_tools,
            options.extension,
        ),
        era_cache=era_cache,
    )
    async with connector.open(pinned) as link, handling_changes(link, change_handler):
        yield Client(link, handler)
