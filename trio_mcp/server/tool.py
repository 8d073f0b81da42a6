"""One tool: a function, how it is listed, and how it is called.

Owns the choice between running in place and in a worker thread. Knows nothing of requests.
"""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from trio_mcp.errors import ToolDefinitionError
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.schema.docstrings import read_docstring
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import Returns, read_returns
from trio_mcp.schema.signatures import Subject, unwrap
from trio_mcp.server.context import Context
from trio_mcp.server.functions import (
    ADD_BOUND,
    NO_SCOPES,
    check_bound,
    check_policy,
    find_injected,
    find_name,
    is_generator,
    read_icons,
    read_part,
    read_scopes,
)
from trio_mcp.server.results import CONTENT_TYPES, make_result, reads_files
from trio_mcp.server.tags import NO_TAGS, read_tags
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.wire.content import Icon
from trio_mcp.wire.eras import Era
from trio_mcp.wire.http import read_parameter_headers
from trio_mcp.wire.messages import CallToolResult, Tool, ToolAnnotations, ToolExecution

if TYPE_CHECKING:  # hardly any server gives schemas
    from trio_mcp.schema.verbatim import VerbatimParameters

_HOSTS_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class ToolDefinition(msgspec.Struct, frozen=True):
    """A tool of a server; `listing` is what clients see of it.

    `headers` are the arguments that HTTP clients repeat in headers: name to path.
    """

    listing: Tool
    function: Callable[..., Any]
    parameters: Parameters | VerbatimParameters
    returns: Returns
    is_async: bool
    task: TaskConfig | None = None
    headers: Mapping[str, tuple[str, ...]] = {}
    progress: ServerPolicy | None = None
    scopes: frozenset[str] = NO_SCOPES
    """What a client must be allowed to list and call it."""
    takes_context: bool = False
    """Whether `call` needs a context, for the function or for what is around it."""
    tags: frozenset[str] = NO_TAGS

    holds_thread: bool = False
    """Whether a worker thread may wait for the tools that the function calls: that of a sync function."""

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""
        return None

    def listing_for(self, era: Era) -> Tool:
        """How clients of `era` see the tool."""
        if self.task is None or era.tasks != "legacy":
            return self.listing
        return msgspec.structs.replace(self.listing, execution=ToolExecution(task_support=self.task.mode))

    async def call(
        self, context: Context | None, arguments: msgspec.Raw | None, limiter: trio.CapacityLimiter
    ) -> CallToolResult:
        """Convert the arguments, run the function, convert what it returns.

        `context` is None unless the tool `takes_context`. A sync function runs in a worker thread, which
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
        if reads_files(value, self.returns):
            return await trio.to_thread.run_sync(make_result, value, self.returns, limiter=limiter)
        return make_result(value, self.returns)


def define_tool(
    function: Callable[..., Any],
    *,
    name: str | None,
    title: str | None,
    description: str | None,
    annotations: ToolAnnotations | Mapping[str, Any] | None,
    icons: Sequence[Icon | Mapping[str, Any]] | None = None,
    meta: Mapping[str, Any] | None = None,
    task: TaskConfig | bool | None,
    progress: ServerPolicy | None = None,
    dereference_schemas: bool = True,
    refuse_unknown: bool = True,
    input_schema: Mapping[str, Any] | None = None,
    output_schema: Mapping[str, Any] | None = None,
    validate: bool = True,
    scopes: Collection[str] = (),
    tags: str | Iterable[str] = (),
) -> ToolDefinition:
    """Make a tool of `function`; raises ToolDefinitionError if it cannot be one."""
    if not callable(function):
        raise ToolDefinitionError(
            f"{function!r} cannot be a tool: it is no function. {ADD_BOUND.format('tool', '')}"
        )
    inner = unwrap(function)
    name = find_name(function, name, ToolDefinitionError)
    check_name(name)
    if is_generator(inner):
        raise ToolDefinitionError(
            f"tool {name!r} is a generator: return a value, and report progress instead"
        )
    subject = Subject(f"tool {name!r}")
    check_policy(progress, subject)
    check_bound(function, "tool", subject)
    injected = find_injected(function, subject)
    if injected is not None:
        function = injected.function
    parameters: Parameters | VerbatimParameters
    if input_schema is None:
        parameters = read_parameters(
            function, Context, subject, dereference=dereference_schemas, refuse_unknown=refuse_unknown
        )
    else:
        parameters = _read_input_schema(function, input_schema, subject, validate)
    if output_schema is None:
        returns = read_returns(
            function,
            CONTENT_TYPES,
            subject,
            dereference=dereference_schemas,
            refuse_unknown=refuse_unknown,
        )
    else:
        returns = _read_output_schema(output_schema, subject, validate)
    listing = Tool(
        name=name,
        title=title,
        description=description or read_docstring(function).description,
        input_schema=parameters.schema,
        output_schema=returns.schema,
        annotations=read_part(annotations, ToolAnnotations, "annotations", subject),
        icons=read_icons(icons, subject),
        meta=None if meta is None else dict(meta),
    )
    try:
        headers = read_parameter_headers(parameters.schema)
    except ValueError as error:
        raise subject.flaw(str(error)) from None
    config = TaskConfig() if task is True else task or None
    is_async = inspect.iscoroutinefunction(inner)
    return ToolDefinition(
        listing,
        function,
        parameters,
        returns,
        is_async or injected is not None,
        config,
        headers,
        progress,
        read_scopes(scopes, subject),
        parameters.context_name is not None,
        tags=read_tags(tags, subject),
        holds_thread=not is_async if injected is None else injected.holds_thread,
    )


def _read_input_schema(
    function: Callable[..., Any], schema: Mapping[str, Any], subject: Subject, validate: bool
) -> VerbatimParameters:
    # Imported here: hardly any server gives schemas.
    from trio_mcp.schema.verbatim import read_verbatim_parameters

    return read_verbatim_parameters(function, Context, schema, subject, validate=validate)


def _read_output_schema(schema: Mapping[str, Any], subject: Subject, validate: bool) -> Returns:
    from trio_mcp.schema.verbatim import read_verbatim_returns

    return read_verbatim_returns(schema, subject, validate=validate)


def check_name(name: Any) -> None:
    """Refuse a name that cannot be shown, and warn of one that hosts refuse (MCP tools, "Tool Names")."""
    if not isinstance(name, str):
        raise ToolDefinitionError(f"the name of a tool must be text, not {name!r}")
    if not name.strip():
        raise ToolDefinitionError(f"the name of a tool must not be empty: {name!r}")
    if _CONTROL.search(name):
        raise ToolDefinitionError(f"the name of a tool must not have control characters: {name!r}")
    if not _HOSTS_NAME.fullmatch(name):
        warnings.warn(
            f"tool {name!r}: several hosts refuse a tool whose name is not of 1 to 64 of the characters "
            "A-Z, a-z, 0-9, _ and -",
            stacklevel=_caller_level(),
        )


def _caller_level() -> int:
    """The `stacklevel` of the first frame outside of this package, where the tool is registered."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("trio_mcp."):
        level, frame = level + 1, frame.f_back
    return level
