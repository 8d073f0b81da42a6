"""One tool: a function, how it is listed, and how it is called.

Owns the choice between running in place and in a worker thread. Knows nothing of requests.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import msgspec
import trio

from trio_mcp.errors import ToolDefinitionError
from trio_mcp.outgoing.policy import Conflate, Lossless, ProgressPolicy
from trio_mcp.schema.docstrings import read_docstring
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import Returns, read_returns
from trio_mcp.server.context import Context
from trio_mcp.server.results import CONTENT_TYPES, make_result, reads_files
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.wire.eras import Era
from trio_mcp.wire.http import read_parameter_headers
from trio_mcp.wire.messages import CallToolResult, Tool, ToolAnnotations, ToolExecution


@attrs.frozen
class ToolDefinition:
    """A tool of a server; `listing` is what clients see of it.

    `headers` are the arguments that HTTP clients repeat in headers: name to path.
    """

    listing: Tool
    function: Callable[..., Any]
    parameters: Parameters
    returns: Returns
    is_async: bool
    task: TaskConfig | None = None
    headers: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    progress: ProgressPolicy | None = None

    def listing_for(self, era: Era) -> Tool:
        """How clients of `era` see the tool."""
        if self.task is None or era.tasks != "legacy":
            return self.listing
        return msgspec.structs.replace(self.listing, execution=ToolExecution(task_support=self.task.mode))

    async def call(
        self, context: Context | None, arguments: msgspec.Raw | None, limiter: trio.CapacityLimiter
    ) -> CallToolResult:
        """Convert the arguments, run the function, convert what it returns.

        `context` is for a function that takes one. A sync function runs in a worker thread, which
        is abandoned if the call is cancelled. Raises ArgumentError, ReturnError and what the function raises.
        """
        kwargs = self.parameters.convert(arguments)
        if self.parameters.context_name is not None:
            kwargs[self.parameters.context_name] = context
        if self.is_async:
            value = await self.function(**kwargs)
        else:
            value = await trio.to_thread.run_sync(
                functools.partial(self.function, **kwargs), abandon_on_cancel=True, limiter=limiter
            )
            if inspect.isawaitable(value):  # for example a lambda around an async function
                value = await value
        if reads_files(value):
            return await trio.to_thread.run_sync(make_result, value, self.returns, limiter=limiter)
        return make_result(value, self.returns)


def define_tool(
    function: Callable[..., Any],
    *,
    name: str | None,
    title: str | None,
    description: str | None,
    annotations: ToolAnnotations | None,
    task: TaskConfig | bool | None,
    progress: ProgressPolicy | None = None,
) -> ToolDefinition:
    """Make a tool of `function`; raises ToolDefinitionError if it cannot be one."""
    inner = _unwrap(function)
    if name is None:
        name = getattr(function, "__name__", None) or getattr(inner, "__name__", None) or type(inner).__name__
    if name == "<lambda>":
        raise ToolDefinitionError("a lambda has no name: pass name=...")
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise ToolDefinitionError(
            f"tool {name!r} is a generator: return a value, and report progress instead"
        )
    if not isinstance(progress, (Conflate, Lossless, type(None))):
        raise ToolDefinitionError(f"tool {name!r}: progress must be a policy, not {progress!r}")
    parameters = read_parameters(function, Context)
    returns = read_returns(function, CONTENT_TYPES)
    listing = Tool(
        name=name,
        title=title,
        description=description or read_docstring(function).description,
        input_schema=parameters.schema,
        output_schema=returns.schema,
        annotations=annotations,
    )
    try:
        headers = read_parameter_headers(parameters.schema)
    except ValueError as error:
        raise ToolDefinitionError(f"tool {name!r}: {error}") from None
    config = TaskConfig() if task is True else task or None
    is_async = inspect.iscoroutinefunction(inner)
    return ToolDefinition(listing, function, parameters, returns, is_async, config, headers, progress)


def _unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that decides whether a call is async."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return type(function).__call__
