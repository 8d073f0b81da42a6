"""How the operations of an OpenAPI document become tools and resources of a server.

Owns which operations are taken, and what each is called. An operation is described once, when it is
registered; nothing of its description is left to the first call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias, TypedDict
from urllib.parse import quote

import attrs
import httpx2
import msgspec

from trio_mcp.errors import DefinitionError, ToolDefinitionError
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.schema.signatures import Subject
from trio_mcp.schema.verbatim import read_verbatim_parameters, read_verbatim_returns
from trio_mcp.server.context import Context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.openapi.arguments import ArgumentPlan, plan_arguments
from trio_mcp.server.openapi.document import Document
from trio_mcp.server.openapi.exchange import ApiClient
from trio_mcp.server.openapi.operation import Operation, read_operations
from trio_mcp.server.openapi.replies import ReplyPlan, make_tool_result, plan_reply
from trio_mcp.server.openapi.resources import can_be_resource, define_operation_resource
from trio_mcp.server.openapi.schemas import SchemaTranslator, numbered_name
from trio_mcp.server.openapi.styles import Slashes
from trio_mcp.server.registry import Registry
from trio_mcp.server.resource import ResourceDefinition
from trio_mcp.server.results import ToolResult
from trio_mcp.server.tool import ToolDefinition, define_tool
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.validators import check_count
from trio_mcp.wire.messages import ToolAnnotations

Selection: TypeAlias = Collection[str] | Callable[[Operation], bool]
"""Operations by their operationIds or "METHOD /path", with `*` for any text; or a function that chooses."""

Names: TypeAlias = Mapping[str, str] | Callable[[Operation], str | None]

MAX_BYTES: Final = 8 * 1024 * 1024
_LONGEST_NAME: Final = 64
_NUMBERED: Final = 60  # leaves room for a number behind the name
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
_READ_ONLY: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_IDEMPOTENT: Final = _READ_ONLY | {"PUT", "DELETE"}


@attrs.frozen
class OperationTool:
    """The function of a tool: one call is one request."""

    _operation: Operation
    _api: ApiClient
    _arguments: ArgumentPlan
    _reply: ReplyPlan

    async def __call__(self, ctx: Context, arguments: dict[str, Any]) -> ToolResult:
        """Send the request; checkpoints. Raises ArgumentError, ToolError and ReturnError."""
        parts = self._arguments.fill(arguments, self._api.http)
        reply = await self._api.ask(ctx, self._operation, parts, self._reply.accept)
        return make_tool_result(self._operation, self._reply, reply)


class OpenApiOptions(TypedDict, total=False):
    """What a program may say about the operations of a document; see `Server.add_openapi`."""

    include: Selection | None
    exclude: Selection
    names: Names
    as_resources: Selection
    max_bytes: int
    slashes: Slashes
    validate: bool
    validate_output: bool
    task: TaskConfig | bool | None
    progress: ServerPolicy | None
    scopes: Collection[str]


@attrs.frozen(kw_only=True)
class _Options:
    include: Selection | None = None
    exclude: Selection = ()
    names: Names = attrs.field(factory=dict)
    as_resources: Selection = ()
    max_bytes: int = attrs.field(default=MAX_BYTES, validator=check_count)
    slashes: Slashes = attrs.field(default="refuse", validator=attrs.validators.in_(("refuse", "encode")))
    validate: bool = True
    validate_output: bool = True
    task: TaskConfig | bool | None = None
    progress: ServerPolicy | None = None
    scopes: Collection[str] = ()


def add_operations(
    server: ServerDefinition, document: Document, client: Any, options: OpenApiOptions
) -> None:
    """Register the operations of a document; registers nothing if one of them cannot be described.

    Raises DefinitionError, which names the operation.
    """
    chosen = _Options(**options)
    if not callable(getattr(client, "build_request", None)) or not callable(getattr(client, "send", None)):
        raise TypeError(f"client must be an httpx2.AsyncClient, not {client!r}")
    taken = _TakenNames(server.tools)
    translators = _Translators.make(document, check=chosen.validate)
    pending: list[ToolDefinition | ResourceDefinition] = []
    for operation in _choose(document, chosen):
        try:
            name = _find_name(operation, chosen.names, taken)
            pending.append(_describe(server, operation, name, client, translators, chosen))
        except ToolDefinitionError:
            raise
        except DefinitionError as error:
            raise DefinitionError(f"{operation}: {error}") from None
        except RecursionError:
            raise DefinitionError(f"{operation}: its schemas are nested too deeply") from None
        taken.own.add(name)
    _register(server, pending)


@attrs.frozen
class _Translators:
    incoming: SchemaTranslator
    outgoing: SchemaTranslator

    @classmethod
    def make(cls, document: Document, *, check: bool) -> _Translators:
        return cls(
            SchemaTranslator(document, outgoing=False, check=check),
            SchemaTranslator(document, outgoing=True, check=check),
        )


@attrs.frozen
class _TakenNames(Container[str]):
    """The names of the tools of a server, those that are disabled included, and of what is to become some."""

    _tools: Registry[ToolDefinition]
    own: set[str] = attrs.field(factory=set)

    def __contains__(self, name: object) -> bool:
        return name in self.own or (isinstance(name, str) and self._tools.has(name))


def _register(server: ServerDefinition, found: Sequence[ToolDefinition | ResourceDefinition]) -> None:
    """Register all of `found`; if one is refused, take away those before it."""
    with ExitStack() as undone:
        for definition in found:
            if isinstance(definition, ToolDefinition):
                server.add_tool(definition)
                undone.callback(server.remove, "tools", definition.listing.name)
            else:
                server.add_resource(definition)
                undone.callback(server.remove, "resources", definition.uri)
        undone.pop_all()


def _choose(document: Document, options: _Options) -> Iterator[Operation]:
    for operation in read_operations(document):
        wanted = options.include is None or _is_selected(operation, options.include)
        if wanted and not _is_selected(operation, options.exclude):
            yield operation


def _is_selected(operation: Operation, selection: Selection) -> bool:
    if callable(selection):
        return bool(selection(operation))
    texts = [selection] if isinstance(selection, str) else selection
    known = (operation.operation_id or "", str(operation))
    return any(fnmatchcase(name, text) for text in texts for name in known)


def _find_name(operation: Operation, names: Names, taken: Container[str]) -> str:
    """The name of the tool: unique, and one that every host takes."""
    chosen = names(operation) if callable(names) else names.get(operation.operation_id or "")
    if chosen is None:
        by_path = f"{operation.method.lower()}{operation.path}"
        chosen = _make_safe(operation.operation_id or "") or _make_safe(by_path)
        return numbered_name(chosen[:_NUMBERED], taken) if chosen in taken else chosen
    if chosen in taken:
        raise DefinitionError(f"the name {chosen!r} is taken")
    return chosen


def _make_safe(name: str) -> str:
    return _UNSAFE.sub("_", name).strip("_")[:_LONGEST_NAME]


def _describe(
    server: ServerDefinition,
    operation: Operation,
    name: str,
    client: Any,
    translators: _Translators,
    options: _Options,
) -> ToolDefinition | ResourceDefinition:
    """The tool or resource of an operation, which is registered once all are known to be well."""
    dereference = server.settings.dereference_schemas
    api = ApiClient(client, _find_base_url(operation, client), options.max_bytes)
    arguments = plan_arguments(
        operation, translators.incoming, slashes=options.slashes, dereference=dereference
    )
    reply = plan_reply(
        operation, translators.outgoing, describe=options.validate_output, dereference=dereference
    )
    if can_be_resource(operation, arguments) and _is_selected(operation, options.as_resources):
        return define_operation_resource(
            operation, name, api, arguments, reply.accept, options.progress, options.scopes
        )
    function = OperationTool(operation, api, arguments, reply)
    tool = define_tool(
        function,
        name=name,
        title=operation.summary if operation.description else None,
        description=_describe_purpose(operation),
        annotations=ToolAnnotations(
            read_only_hint=operation.method in _READ_ONLY,
            destructive_hint=None
            if operation.method in _READ_ONLY
            else operation.method in ("DELETE", "PUT"),
            idempotent_hint=operation.method in _IDEMPOTENT,
            open_world_hint=True,
        ),
        task=server.default_task if options.task is None else options.task,
        progress=options.progress,
        input_schema=arguments.schema,
        output_schema=reply.schema,
        validate=False,
        scopes=options.scopes,
        tags=filter(None, operation.tags),
    )
    return _with_checks(tool, function, reply) if options.validate else tool


def _with_checks(tool: ToolDefinition, function: OperationTool, reply: ReplyPlan) -> ToolDefinition:
    """The tool, with checks of its arguments and results by schemas that were examined already."""
    subject = Subject(f"tool {tool.listing.name!r}")
    schema = tool.listing.input_schema
    parameters = read_verbatim_parameters(
        function, Context, schema, subject, validate=True, is_known_good=True
    )
    returns = tool.returns
    if reply.schema is not None:
        returns = read_verbatim_returns(reply.schema, subject, validate=True, is_known_good=True)
    return msgspec.structs.replace(tool, parameters=parameters, returns=returns)


def _describe_purpose(operation: Operation) -> str:
    text = operation.description or operation.summary or str(operation)
    return f"Deprecated. {text}" if operation.is_deprecated else text


def _find_base_url(operation: Operation, client: Any) -> str:
    """Where the path of an operation begins: the client's own base URL, or else the document's server."""
    given = str(getattr(client, "base_url", "") or "")
    if not given:
        server = operation.find_server()
        given = "" if server is None else _fill_server(server)
    url = httpx2.URL(given)
    if url.scheme not in ("http", "https") or not url.host:
        raise DefinitionError(
            f"no server is known: give the client a base_url, because the document says {given!r}"
        )
    if url.query or url.fragment:
        raise DefinitionError(f"the URL of the server has a query or a fragment: {given!r}")
    return str(url).rstrip("/")


def _fill_server(server: Mapping[str, Any]) -> str:
    """The URL of a server, with the defaults of its variables."""
    variables = server.get("variables")
    known = variables if isinstance(variables, dict) else {}

    def fill(variable: re.Match[str]) -> str:
        found = known.get(variable[1])
        default = found.get("default") if isinstance(found, dict) else None
        if default is None:
            raise DefinitionError(f"the variable {variable[1]!r} of the server has no default")
        return quote(str(default), safe=":/.-_~@")

    return _VARIABLE.sub(fill, str(server.get("url", "")))
