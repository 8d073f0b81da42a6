"""What the sessions of one running server serve: methods, handlers, failures.

Owns the answers to MCP methods and the words in which failures reach clients.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from trio_mcp.errors import ArgumentError, ProtocolError, ReturnError, ToolError
from trio_mcp.runtime.border import leaves
from trio_mcp.runtime.request import ServerRequest
from trio_mcp.server.context import Context
from trio_mcp.wire.content import TextContent
from trio_mcp.wire.eras import ERAS
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
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

if TYPE_CHECKING:
    from trio_mcp.server.server import Server

logger = logging.getLogger("trio_mcp")


class ServerApplication:
    """Serves the definition `server`; one for as long as the server runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.settings = server.settings
        self.info = server.info
        # A limiter of its own: tools that block must not starve the application's own threads.
        self._limiter = trio.CapacityLimiter(server.settings.thread_limit)
        self.immediate: Mapping[str, Callable[[ServerRequest], Result]] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "ping": lambda request: EmptyResult(),
            "logging/setLevel": _set_level,
            "tools/list": self._list_tools,
        }
        self.handlers: Mapping[str, Callable[[ServerRequest], Awaitable[Result]]] = {
            "tools/call": self._call_tool,
        }

    def describe_failure(self, request: ServerRequest, failure: BaseException) -> Result:
        """Tell the client of `failure` as far as it is meant to know (MCP tools, "Error Handling")."""
        if isinstance(failure, ProtocolError):
            raise failure
        if not isinstance(request.params, CallToolParams):
            raise ProtocolError(INTERNAL_ERROR, f"{request.method!r} failed: {failure}")
        found = list(leaves(failure))
        if all(isinstance(leaf, (ToolError, ArgumentError, ReturnError)) for leaf in found):
            return _error_result("\n".join(str(leaf) for leaf in found))
        name = request.params.name
        for leaf in found:
            logger.error("tool %r failed", name, exc_info=leaf)
        text = f"Error in tool {name!r}"
        if self.settings.show_errors:
            text += ": " + "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in found)
        return _error_result(text)

    @property
    def _capabilities(self) -> dict[str, Any]:
        return {"logging": {}, "tools": {}}

    def _initialize(self, request: ServerRequest) -> Result:
        return InitializeResult(
            protocol_version=request.era.version,
            capabilities=self._capabilities,
            server_info=self.info,
            instructions=self._server.instructions,
        )

    def _discover(self, request: ServerRequest) -> Result:
        return DiscoverResult(
            supported_versions=list(ERAS),
            capabilities=self._capabilities,
            instructions=self._server.instructions,
        )

    def _list_tools(self, request: ServerRequest) -> Result:
        assert isinstance(request.params, ListParams)
        if request.params.cursor is not None:
            # Every page is the last one, so no cursor was ever given out.
            raise ProtocolError(INVALID_PARAMS, f"unknown cursor {request.params.cursor!r}")
        return ListToolsResult(tools=[tool.listing for tool in self._server.tools.values()])

    async def _call_tool(self, request: ServerRequest) -> Result:
        params = request.params
        assert isinstance(params, CallToolParams)
        tool = self._server.tools.get(params.name)
        if tool is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        arguments = None if isinstance(params.arguments, msgspec.UnsetType) else params.arguments
        return await tool.call(Context(request), arguments, self._limiter)


def _set_level(request: ServerRequest) -> Result:
    assert isinstance(request.params, SetLevelParams)
    assert request.session is not None, "only legacy eras have logging/setLevel"
    request.session.log_level = request.params.level
    return EmptyResult()


def _error_result(text: str) -> CallToolResult:
    # A message with a lone surrogate could not be sent; what it says still can.
    text = text.encode(errors="backslashreplace").decode()
    return CallToolResult(content=[TextContent(text=text)], is_error=True)
