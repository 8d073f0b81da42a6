"""What a client reads from its server: what it is, its lists, resources, prompts and completions.

Owns the signatures of these verbs, which `Client` has as well. The work is done by helpers, which share a
`Link`; nothing here knows a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_mcp.client.link import Link
from trio_mcp.client.progress_request import ProgressRequest
from trio_mcp.client.prompts import make_completion_params, make_prompt_params, read_completion, read_prompt
from trio_mcp.client.resource_reading import ReadResult, list_resources, list_templates, read_resource
from trio_mcp.errors import ConnectionLost
from trio_mcp.handlers.sink import ProgressHandler, ProgressSink, as_handler
from trio_mcp.wire.messages import (
    Implementation,
    LoggingLevel,
    Params,
    PromptReference,
    ResourceTemplateReference,
    Tool,
)
from trio_mcp.wire.prompts import Completion, GetPromptResult, Prompt
from trio_mcp.wire.resources import Resource, ResourceTemplate


class ServerReader:
    """The part of a `Client` that reads from its server."""

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
    def takes_idempotency_keys(self) -> bool:
        """Whether the server knows the idempotency keys of `call_tool`."""
        return self._link.knows_keys

    @property
    def instructions(self) -> str | None:
        """The server's instructions for a model, or None."""
        return self._link.agreement.instructions

    async def wait_lost(self) -> ConnectionLost:
        """Wait until the connection has ended, and return the reason; checkpoints.

        Over HTTP a connection ends only with the block of `open_client`.
        """
        return await self._link.session.life.wait_lost()

    async def ping(self) -> None:
        """Make one round trip to the server; checkpoints.

        The modern protocol has no ping, so server/discover is requested there. Raises
        ConnectionLost and ProtocolError.
        """
        await self._link.request("server/discover" if self._link.era.modern else "ping", Params())

    async def set_log_level(self, level: LoggingLevel) -> None:
        """Set the lowest level of the messages that the log handler gets (MCP logging); checkpoints.

        In the modern protocol the level goes with each request from now on; a legacy server is told at
        once. Raises ValueError for an unknown level, ConnectionLost, and ProtocolError, which a legacy server
        without logging answers.
        """
        await self._link.set_log_level(level)

    async def list_tools(self, *, refresh: bool = False) -> list[Tool]:
        """List all tools, page by page (MCP tools, "Listing Tools"); checkpoints.

        A page that the server lets clients keep is asked for again when its time is over (MCP caching), or
        at once with `refresh`; so are the other lists and resources, up to `ClientSettings.cache_bytes`.
        Over modern HTTP a tool whose `x-mcp-header` annotations are invalid is left out.
        Raises ConnectionLost, ProtocolError, and RemoteProtocolError for a malformed list.
        """
        return await self._link.list_tools(refresh=refresh)

    async def list_resources(self, *, refresh: bool = False) -> list[Resource]:
        """List all resources, page by page (MCP resources, "Listing Resources"); checkpoints.

        Those that follow a template are listed by `list_resource_templates`. Raises ConnectionLost,
        ProtocolError, for example if the server has no resources, and RemoteProtocolError for a malformed
        list.
        """
        return await list_resources(self._link, refresh=refresh)

    async def list_resource_templates(self, *, refresh: bool = False) -> list[ResourceTemplate]:
        """List all templates of resources, page by page (MCP resources, "Resource Templates"); checkpoints.

        Raises as `list_resources` does.
        """
        return await list_templates(self._link, refresh=refresh)

    async def read_resource(
        self,
        uri: str,
        *,
        progress_handler: ProgressHandler | ProgressSink | None = None,
        idle_timeout: float | None = None,
        max_timeout: float | None = None,
        refresh: bool = False,
    ) -> ReadResult:
        """Read a resource (MCP resources, "Reading Resources"); checkpoints.

        `progress_handler`, `idle_timeout` and `max_timeout` are as in `call_tool`; when the result is
        returned, the handler has finished with every update. Cancelling the call cancels the server's
        function. `refresh` is as in `list_tools`.

        Raises ProtocolError if there is no such resource (code -32602 in the modern revision, -32002 in
        the legacy ones) or it cannot be read; CallTimeout; ProgressOverflow under the lossless policy;
        ConnectionLost; RemoteProtocolError for a malformed result; ValueError for times that are none.
        """
        handler = self._progress_handler if progress_handler is None else as_handler(progress_handler)
        return await read_resource(self._link, uri, handler, idle_timeout, max_timeout, refresh=refresh)

    async def list_prompts(self, *, refresh: bool = False) -> list[Prompt]:
        """List all prompts, page by page (MCP prompts, "Listing Prompts"); checkpoints.

        Raises ConnectionLost, RemoteProtocolError for a malformed list, and ProtocolError, which a server
        without prompts answers.
        """
        return await self._link.list_prompts(refresh=refresh)

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


def link_of(client: ServerReader) -> Link:
    """The connection of `client`, for what is itself a part of trio_mcp."""
    return client._link
