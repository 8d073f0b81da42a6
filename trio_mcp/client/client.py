"""The public face of a client: `open_client` and the verbs of `Client`.

Owns the signatures. The work is done by helpers, which share a `Link`; nothing here knows a frame.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, overload

import trio

from trio_mcp.call_result import CallResult
from trio_mcp.client.call_answer import TaskStarted
from trio_mcp.client.call_handle import CallHandle, open_call
from trio_mcp.client.connector import Connector
from trio_mcp.client.era_cache import EraCache
from trio_mcp.client.fault_report import ErrorHandler
from trio_mcp.client.link import Link
from trio_mcp.client.log_queue import LogHandler
from trio_mcp.client.negotiation import find_era
from trio_mcp.client.progress_request import ProgressRequest
from trio_mcp.client.prompts import make_completion_params, make_prompt_params, read_completion, read_prompt
from trio_mcp.client.resource_reading import ReadResult, list_resources, list_templates, read_resource
from trio_mcp.client.server_requests import Answering, ElicitationHandler, SamplingHandler
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Target, UrlOptions
from trio_mcp.client.task_following import watch
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.client.tool_call import ToolCall
from trio_mcp.errors import TaskNotFound
from trio_mcp.handlers.sink import ProgressHandler, ProgressSink, as_handler
from trio_mcp.version import __version__
from trio_mcp.wire.messages import (
    LOGGING_LEVELS,
    Implementation,
    LoggingLevel,
    Params,
    PromptReference,
    ResourceTemplateReference,
    Tool,
)
from trio_mcp.wire.prompts import Completion, GetPromptResult, Prompt
from trio_mcp.wire.resources import Resource, ResourceTemplate


class Client:
    """A connection to one MCP server; made by `open_client`.

    Its methods may be called from many tasks at once.
    """

    def __init__(self, link: Link, progress_handler: ProgressHandler | ProgressSink | None) -> None:
        self._link = link
        self._progress_handler = progress_handler

    def __repr__(self) -> str:
        info = self._link.agreement.server_info
        server = "an unnamed server" if info is None else f"{info.name!r} {info.version}"
        return f"<Client of {server}, protocol {self.protocol_version}, {self._link.session!r}>"

    @property
    def protocol_version(self) -> str:
        """The protocol revision of this connection, for example "2026-07-28"."""
        return self._link.era.version

    @property
    def server_info(self) -> Implementation | None:
        """Name and version of the server, for display; None if it does not give them."""
        return self._link.agreement.server_info

    @property
    def server_capabilities(self) -> Mapping[str, Any]:
        """The capabilities that the server declares (MCP lifecycle)."""
        return self._link.agreement.capabilities

    @property
    def instructions(self) -> str | None:
        """The server's instructions for a model, or None."""
        return self._link.agreement.instructions

    async def ping(self) -> None:
        """Make one round trip to the server; checkpoints.

        The modern protocol has no ping, so server/discover is requested there. Raises
        ConnectionLost and ProtocolError.
        """
        await self._link.request("server/discover" if self._link.era.modern else "ping", Params())

    async def list_tools(self) -> list[Tool]:
        """List all tools, page by page (MCP tools, "Listing Tools"); checkpoints.

        Over modern HTTP a tool whose `x-mcp-header` annotations are invalid is left out.
        Raises ConnectionLost, ProtocolError, and RemoteProtocolError for a malformed list.
        """
        return await self._link.list_tools()

    async def list_resources(self) -> list[Resource]:
        """List all resources, page by page (MCP resources, "Listing Resources"); checkpoints.

        Those that follow a template are listed by `list_resource_templates`. Raises ConnectionLost,
        ProtocolError, for example if the server has no resources, and RemoteProtocolError for a malformed
        list.
        """
        return await list_resources(self._link)

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """List all templates of resources, page by page (MCP resources, "Resource Templates"); checkpoints.

        Raises as `list_resources` does.
        """
        return await list_templates(self._link)

    async def read_resource(
        self,
        uri: str,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
    ) -> ReadResult:
        """Read a resource (MCP resources, "Reading Resources"); checkpoints.

        `progress_handler`, `idle_timeout` and `max_timeout` are as in `call_tool`; when the result is
        returned, the handler has finished with every update. Cancelling the call cancels the server's
        function.

        Raises ProtocolError if there is no such resource (code -32602 in the modern revision, -32002 in
        the legacy ones) or it cannot be read; CallTimeout; ProgressOverflow under the lossless policy;
        ConnectionLost; RemoteProtocolError for a malformed result; ValueError for times that are none.
        """
        handler = self._progress_handler if progress_handler is None else as_handler(progress_handler)
        return await read_resource(self._link, uri, handler, idle_timeout, max_timeout)

    @overload
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
        task: Literal[False] = False,
        ttl: float | None = None,
    ) -> CallResult: ...

    @overload
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
        task: Literal[True],
        ttl: float | None = None,
    ) -> TaskHandle: ...

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
    ) -> CallResult | TaskHandle:
        """Call a tool and wait for its result (MCP tools, "Calling Tools"); checkpoints.

        `progress_handler(progress, total, message)`, sync or async, or a `ProgressSink`, replaces
        the client's own for this call. When the result is returned, the handler has finished with
        every update that will ever be delivered for this call. It never runs twice at once. If it
        raises, the exception is logged and the call continues.

        Cancelling the call, for example by `trio.fail_after`, cancels the server's handler.
        `idle_timeout` is the longest time in seconds without progress, `max_timeout` the longest
        time in all, by default ten times the idle one.

        `result_type` is the type to which the result's `data` is converted.

        With `task=True` the tool is asked to run as a background task, kept for `ttl`
        seconds, and a `TaskHandle` is returned as soon as there is one; its `result()` then
        waits for the result. Without it, a task that the server makes unasked is waited for here,
        and cancelled if this call is.

        Raises ToolError for a result that is an error, unless `raise_on_error` is
        False; ProtocolError for a JSON-RPC error; CallTimeout; ProgressOverflow under the
        lossless policy; ConnectionLost; ValueError for arguments that are not JSON, and
        for times that are none.
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
        )
        return await call.start_task(ttl) if task else await call.run()

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
    ) -> AsyncIterator[CallHandle]:
        """Call a tool concurrently with the block; its progress is read from a channel.

        Yields a `CallHandle` with `updates`, `result()` and `cancel()` (MCP tools, "Calling Tools").
        The arguments are those of `call_tool`; the client's own progress handler is not called. Leaving
        the block cancels a call that has not ended. An exception that the block raises is not
        wrapped in a group. Entering does not wait, leaving checkpoints.

        Raises ValueError for arguments that are not JSON; every other error is raised by `result()`.
        """
        async with open_call(
            self._link,
            name,
            arguments,
            idle_timeout,
            max_timeout,
            raise_on_error=raise_on_error,
            result_type=result_type,
        ) as handle:
            yield handle

    async def list_prompts(self) -> list[Prompt]:
        """List all prompts, page by page (MCP prompts, "Listing Prompts"); checkpoints.

        Raises ConnectionLost, RemoteProtocolError for a malformed list, and ProtocolError, which a server
        without prompts answers.
        """
        return await self._link.list_prompts()

    async def get_prompt(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
    ) -> GetPromptResult:
        """Get the messages of a prompt (MCP prompts, "Getting a Prompt"); checkpoints.

        A text among the `arguments` is sent as it is, every other value as its JSON text. Progress,
        timeouts and cancellation are as in `call_tool`. Raises ProtocolError if the server has no such
        prompt, if the arguments do not fit, or if the prompt failed; ConnectionLost; CallTimeout;
        RemoteProtocolError for malformed messages; ValueError for arguments that are not JSON.
        """
        params = make_prompt_params(name, arguments)
        handler = self._progress_handler if progress_handler is None else as_handler(progress_handler)
        what = f"prompt {name!r}"
        request = ProgressRequest(self._link, "prompts/get", params, what, handler, idle_timeout, max_timeout)
        return read_prompt(await request.run())

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: Mapping[str, str],
        context_arguments: Mapping[str, Any] | None = None,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
    ) -> Completion:
        """Ask for values of an argument of a prompt or a resource template (MCP completion); checkpoints.

        `argument` is `{"name": ..., "value": ...}` with what has been typed so far, and
        `context_arguments` are the other arguments that have a value. Progress, timeouts and cancellation
        are as in `call_tool`. Raises ProtocolError for what the server does not know, ConnectionLost,
        CallTimeout, RemoteProtocolError, and ValueError for an `argument` that is none.
        """
        params = make_completion_params(ref, argument, context_arguments)
        handler = self._progress_handler if progress_handler is None else as_handler(progress_handler)
        what = f"the completion of {params.argument.name!r}"
        request = ProgressRequest(
            self._link, "completion/complete", params, what, handler, idle_timeout, max_timeout
        )
        return read_completion(await request.run())

    async def fetch_task(self, task_id: str) -> TaskSnapshot:
        """Ask for the state of a task (tasks/get); checkpoints.

        Raises TaskNotFound, NotSupportedByEra in revisions without tasks, ConnectionLost, ProtocolError.
        """
        return (await self._link.fetch_task(task_id)).snapshot

    async def await_task(self, task: TaskHandle | str, **options: Any) -> CallResult:
        """Wait for the result of a task, given by its handle or id; see `TaskHandle.result`.

        `options` are the keyword arguments of that method, and `progress_handler`.
        """
        if isinstance(task, TaskHandle):
            task.use_handler(options.pop("progress_handler", None))
            return await task.result(**options)
        handler = as_handler(options.pop("progress_handler", None)) or self._progress_handler
        started = TaskStarted(TaskSnapshot(id=task, status="working"))
        return await TaskHandle(self._link, None, started, handler, is_known=False).result(**options)

    async def cancel_task(self, task: TaskHandle | str) -> None:
        """Ask the server to cancel a task (tasks/cancel); checkpoints.

        A task that has ended does not change. Raises TaskNotFound, ConnectionLost, ProtocolError.
        """
        task_id = task.id if isinstance(task, TaskHandle) else task
        if task_id is None:
            await trio.lowlevel.checkpoint()
        elif isinstance(task, TaskHandle):
            await task.cancel()
        else:
            await self._link.cancel_task(task_id)

    async def list_tasks(self) -> list[TaskSnapshot]:
        """List all tasks of this client, newest first (tasks/list, 2025-11-25 only); checkpoints.

        Raises NotSupportedByEra in other protocol revisions, ConnectionLost and ProtocolError.
        """
        return await self._link.list_tasks()

    @asynccontextmanager
    async def watch_task(
        self, task: TaskHandle | str
    ) -> AsyncIterator[trio.MemoryReceiveChannel[TaskSnapshot]]:
        """Open a channel of a task's snapshots: the present state, and each change until it has ended.

        A slow reader misses snapshots, but never the last one. The channel ends early if the task
        expires or the connection is lost. Checkpoints. Raises TaskNotFound.
        """
        task_id = task.id if isinstance(task, TaskHandle) else task
        if task_id is None:
            raise TaskNotFound("the server answered at once, so there is no task")
        opened = task.updates() if isinstance(task, TaskHandle) else watch(self._link, task_id)
        async with opened as snapshots:
            yield snapshots


@asynccontextmanager
async def open_client(
    target: Target,
    *,
    progress_handler: ProgressHandler | ProgressSink | None = None,
    log_handler: LogHandler | None = None,
    log_level: LoggingLevel = "info",
    on_error: ErrorHandler | None = None,
    elicitation_handler: ElicitationHandler | None = None,
    sampling_handler: SamplingHandler | None = None,
    client_info: Implementation | None = None,
    protocol: str = "auto",
    settings: ClientSettings | None = None,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    http_client: Any = None,
    ssl_context: ssl.SSLContext | None = None,
    allow_redirects_to: Collection[str] | None = None,
    era_cache: EraCache | None = None,
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
    `elicitation_handler` fills in the forms and `sampling_handler` answers for a model
    if the server asks; a client without them declares that it cannot.
    `protocol` is "auto" (modern first, legacy as the fall-back) or one revision. A server that
    ends the connection when it is asked for the modern one is connected to, or started, once more.
    `era_cache` is shared by clients so that a legacy origin is asked for the modern one only once.
    `headers` are sent with every request to a URL. `auth` is an `auth` of httpx2, and
    `http_client` an `httpx2.AsyncClient` to use and leave open; both for HTTP only.
    `ssl_context` says which certificates https:// and wss:// trust. A redirect is followed
    within the origin of the URL, and to the origins ("https://host:port") in `allow_redirects_to`,
    which then receive the headers and credentials as well.

    Raises ImportError if the extra for a URL is not installed, ValueError or TypeError
    for arguments that make no sense, FileNotFoundError
    and PermissionError for a command that cannot be started, ConnectionLost,
    CallTimeout for a handshake without an answer, and ProtocolError or
    RemoteProtocolError if there is no common protocol revision. An exception
    that the block raises is not wrapped in a group.
    """
    pinned = find_era(protocol)
    if log_level not in LOGGING_LEVELS:
        raise ValueError(f"log_level must be one of {', '.join(LOGGING_LEVELS)}, not {log_level!r}")
    handler = as_handler(progress_handler)
    connector = Connector(
        target,
        settings or ClientSettings(),
        UrlOptions(
            headers=headers,
            auth=auth,
            http_client=http_client,
            ssl_context=ssl_context,
            allow_redirects_to=allow_redirects_to,
        ),
        info=client_info or Implementation(name="trio_mcp", version=__version__),
        log_handler=log_handler,
        log_level=log_level,
        on_error=on_error,
        answering=Answering(elicitation_handler, sampling_handler),
        era_cache=era_cache,
    )
    async with connector.open(pinned) as link:
        yield Client(link, handler)
