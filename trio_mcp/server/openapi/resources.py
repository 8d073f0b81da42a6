"""Operations that are read by URI: resources, and templates whose variables are parameters.

Owns their URIs and the functions behind them. Whether an operation is one is the choice of the program.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import quote

from trio_mcp.errors import ResourceNotFound
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.server.context import Context
from trio_mcp.server.openapi.arguments import ArgumentPlan
from trio_mcp.server.openapi.exchange import ApiClient
from trio_mcp.server.openapi.operation import Operation, ParameterDescription
from trio_mcp.server.openapi.replies import ApiError, make_contents
from trio_mcp.server.openapi.schemas import unique_name
from trio_mcp.server.openapi.styles import as_text
from trio_mcp.server.resource import ResourceDefinition, define_resource
from trio_mcp.wire.content import ResourceContents
from trio_mcp.wire.uri_template import UriTemplate, parse_template

_TYPES: Final[Mapping[Any, Any]] = {"integer": int, "number": float, "boolean": bool, "string": str}
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_]+")
_NOT_FOUND: Final = (404, 410)


class OperationResource:
    """The function of a resource or template; its signature has the variables of the URI."""

    def __init__(
        self,
        operation: Operation,
        api: ApiClient,
        arguments: ArgumentPlan,
        accept: str,
        template: UriTemplate,
        variables: Mapping[str, str],
    ) -> None:
        """`variables` are those of the template, each with its argument."""
        self._operation = operation
        self._api = api
        self._arguments = arguments
        self._accept = accept
        self._template = template
        self._variables = variables
        # What is registered reads its parameters here.
        self.__signature__ = _make_signature(arguments.parameters, variables)

    def __repr__(self) -> str:
        return f"<OperationResource {self._operation}>"

    async def __call__(self, ctx: Context, **values: Any) -> ResourceContents:
        """Send the request; checkpoints. Raises ArgumentError, ToolError and ResourceNotFound."""
        given = {name: value for name, value in values.items() if value is not None}
        parts = self._arguments.fill({self._variables[name]: given[name] for name in given}, self._api.http)
        try:
            reply = await self._api.ask(ctx, self._operation, parts, self._accept)
        except ApiError as error:
            if error.status in _NOT_FOUND:
                raise ResourceNotFound(error.message) from error
            raise
        return make_contents(self._template.expand({name: as_text(given[name]) for name in given}), reply)


def can_be_resource(operation: Operation, arguments: ArgumentPlan) -> bool:
    """Whether an operation is a GET that needs nothing but what a URI can hold."""
    if operation.method != "GET" or operation.find_request_body() is not None:
        return False
    return all(
        _is_simple(p) or not (p.is_required or p.location == "path") for p in arguments.parameters.values()
    )


def _is_simple(parameter: ParameterDescription) -> bool:
    return parameter.location in ("path", "query") and _find_type(parameter) is not None


def _find_type(parameter: ParameterDescription) -> Any:
    schema = parameter.schema
    kind = schema.get("type", "string") if isinstance(schema, dict) else "string"
    return _TYPES.get(kind) if isinstance(kind, str) else None


def define_operation_resource(
    operation: Operation,
    name: str,
    api: ApiClient,
    arguments: ArgumentPlan,
    accept: str,
    progress: ServerPolicy | None,
    scopes: Collection[str],
) -> ResourceDefinition:
    """An operation as a resource, or as a template if it has parameters.

    Raises ResourceDefinitionError if its URI cannot be one.
    """
    variables: dict[str, str] = {}
    in_path: list[str] = []
    in_query: list[str] = []
    for argument, parameter in arguments.parameters.items():
        if not _is_simple(parameter):
            continue
        variable = unique_name(_UNSAFE.sub("_", argument), variables)
        if not variable.isidentifier():
            variable = f"_{variable}"
        variables[variable] = argument
        (in_path if parameter.location == "path" else in_query).append(variable)
    uri = "/".join([f"resource://{quote(name, safe='')}", *(f"{{{variable}}}" for variable in in_path)])
    if in_query:
        uri += f"{{?{','.join(in_query)}}}"
    template = parse_template(uri)
    is_single = "," not in accept and "*" not in accept
    return define_resource(
        uri,
        OperationResource(operation, api, arguments, accept, template, variables),
        name=name,
        title=operation.summary if operation.description else None,
        description=operation.description or operation.summary or str(operation),
        mime_type=accept if is_single else None,
        size=None,
        annotations=None,
        icons=None,
        meta=None,
        cache=None,
        progress=progress,
        scopes=scopes,
        tags=filter(None, operation.tags),
    )


def _make_signature(
    parameters: Mapping[str, ParameterDescription], variables: Mapping[str, str]
) -> inspect.Signature:
    kind = inspect.Parameter.KEYWORD_ONLY
    made = [inspect.Parameter("ctx", kind, annotation=Context)]
    for variable, argument in variables.items():
        parameter = parameters[argument]
        found = _find_type(parameter)
        if parameter.is_required:
            made.append(inspect.Parameter(variable, kind, annotation=found))
        else:
            made.append(inspect.Parameter(variable, kind, default=None, annotation=found | None))
    return inspect.Signature(made, return_annotation=ResourceContents)
