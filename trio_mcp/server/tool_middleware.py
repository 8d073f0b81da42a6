"""Middleware around the runs of tools: what it is given, and the tool that it runs around.

Owns the arguments as middleware sees and replaces them. Knows nothing of requests. It is imported when a
server is first given middleware for its tools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
import trio

from trio_mcp.schema.flaws import encode_json
from trio_mcp.server.context import Context, share_context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.layers import Layers
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.wire.codec import UNENCODABLE
from trio_mcp.wire.eras import Era
from trio_mcp.wire.messages import CallToolResult, Tool

_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class ToolContext(Context):
    """What middleware around tools is given: the Context of the run, with the tool and its arguments."""

    __slots__ = ("_context", "_decoded", "_limiter", "_raw", "tool")

    def __init__(
        self,
        context: Context,
        tool: ToolDefinition,
        arguments: msgspec.Raw | None,
        limiter: trio.CapacityLimiter,
    ) -> None:
        """`context` is that of the function; `arguments` are decoded when they are first asked for."""
        share_context(context, self)
        self.tool = tool
        """The tool, as it is in `server.tools`: with its listing, its scopes and its `task`."""
        self._context = context
        self._raw = arguments
        self._decoded: dict[str, Any] | None = None
        self._limiter = limiter

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.tool.listing.name

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, as JSON values; what is changed in here is what the tool is called with."""
        if self._decoded is None:
            try:
                decoded = {} if self._raw is None else msgspec.json.decode(self._raw)
            except _UNDECODABLE:
                decoded = None
            if not isinstance(decoded, dict):
                return {}  # the tool refuses them, as it does without middleware
            self._decoded = decoded
        return self._decoded

    def replace(self, *, arguments: Mapping[str, Any]) -> ToolContext:
        """The same run with other arguments, for `call_next`; the function's own checks follow."""
        replaced = ToolContext(self._context, self.tool, self._raw, self._limiter)
        replaced._decoded = dict(arguments)
        return replaced

    def _encode(self) -> msgspec.Raw:
        try:
            return encode_json(self._decoded)
        except UNENCODABLE as error:
            raise ValueError(f"the arguments of tool {self.name!r} are not JSON: {error}") from None


CallNextTool: TypeAlias = Callable[[ToolContext], Awaitable[CallToolResult]]
ToolMiddleware: TypeAlias = Callable[[ToolContext, CallNextTool], Awaitable[CallToolResult]]
"""An async function of the context and of `call_next`, which runs the tool and what is further inside."""


async def _run_tool(context: ToolContext) -> CallToolResult:
    arguments = context._raw if context._decoded is None else context._encode()
    return await context.tool.call(context._context, arguments, context._limiter)


class LayeredTool(ToolDefinition, frozen=True, kw_only=True):
    """A tool with middleware around it; `inner` is the tool itself."""

    inner: ToolDefinition
    layers: Layers[ToolContext, CallToolResult]

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""
        return self.inner.shows_errors

    def listing_for(self, era: Era) -> Tool:
        """How clients of `era` see the tool."""
        return self.inner.listing_for(era)

    async def call(
        self, context: Context | None, arguments: msgspec.Raw | None, limiter: trio.CapacityLimiter
    ) -> CallToolResult:
        """Run the middleware, and the tool where they say so; raises what they raise."""
        assert context is not None, "the tool takes a context"
        return await self.layers.run(ToolContext(context, self.inner, arguments, limiter))


def make_tool_layers() -> Layers[ToolContext, CallToolResult]:
    """Layers around the tools of one server."""
    return Layers(_run_tool, ToolContext, CallToolResult)


def put_around_tools(definition: ServerDefinition, layers: Layers[ToolContext, CallToolResult]) -> None:
    """Let all tools of a server, those of later too, run inside of `layers`; once is enough."""

    def wrap(tool: ToolDefinition) -> ToolDefinition:
        fields = {name: getattr(tool, name) for name in ToolDefinition.__struct_fields__}
        return LayeredTool(**{**fields, "takes_context": True}, inner=tool, layers=layers)

    definition.tools.wrap_all(wrap)
