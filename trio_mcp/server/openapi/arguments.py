"""The arguments of one operation: their schema, and where in a request each of them travels.

Owns the names of arguments: one that several places use gets the place behind it, as in `id__path`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from trio_mcp.errors import ArgumentError, DefinitionError
from trio_mcp.server.openapi.bodies import (
    FILE_SCHEMA,
    BodyDescription,
    Content,
    encode_body,
    find_body,
)
from trio_mcp.server.openapi.document import Document
from trio_mcp.server.openapi.operation import Operation, ParameterDescription
from trio_mcp.server.openapi.schemas import SchemaTranslator, unique_name
from trio_mcp.server.openapi.styles import (
    Slashes,
    write_cookie,
    write_header,
    write_path,
    write_query,
)

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
_TOKEN: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.A)

_OWN_HEADERS: Final = frozenset(
    {
        # OpenAPI says that parameters of these names mean nothing;
        *("accept", "content-type", "authorization"),
        # and these belong to the connection, not to a model.
        *("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"),
        *("keep-alive", "proxy-authorization", "proxy-connection", "cookie", "accept-encoding"),
    }
)
_NOTES: Final = frozenset(
    {
        *("title", "description", "example", "examples", "deprecated", "xml", "externalDocs", "default"),
        *("nullable", "readOnly", "writeOnly", "discriminator"),
    }
)
_PLAIN: Final = frozenset({"type", "properties", "required", "additionalProperties", "allOf"})


@attrs.frozen
class RequestParts:
    """What the arguments of one call make of a request; `path` begins with a slash and has the query."""

    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    cookies: Mapping[str, str] = attrs.field(repr=False)
    content: Content | None = attrs.field(repr=False)


@attrs.frozen
class _Fields:
    """The body as its fields: which argument is which; all others go there too if `takes_rest`."""

    names: Mapping[str, str]
    takes_rest: bool


@attrs.frozen
class ArgumentPlan:
    """The arguments of an operation, made once for all calls; `schema` is what clients see of them."""

    operation: Operation
    schema: dict[str, Any] = attrs.field(repr=False)
    parameters: Mapping[str, ParameterDescription] = attrs.field(repr=False)
    _slashes: Slashes
    _body: BodyDescription | None = attrs.field(repr=False)
    _fields: _Fields | None = attrs.field(repr=False)
    """None if the body is one argument."""

    def fill(self, arguments: Mapping[str, Any], client: Any) -> RequestParts:
        """The parts of a request with these arguments; raises ArgumentError for a value that fits nowhere.

        `client` encodes multipart bodies.
        """
        path, query = self.operation.path, list[str]()
        headers: dict[str, str] = {}
        cookies: dict[str, str] = {}
        in_path: dict[str, str] = {}
        for argument, parameter in self.parameters.items():
            if argument not in arguments:
                continue
            value = arguments[argument]
            if parameter.location == "path":
                in_path[parameter.name] = write_path(parameter, argument, value, self._slashes)
            elif value is None:
                continue
            elif parameter.location == "header":
                headers[parameter.name] = write_header(parameter, argument, value)
            elif parameter.location == "cookie":
                cookies[parameter.name] = write_cookie(parameter, argument, value)
            else:
                query += write_query(parameter, value)
        path = _VARIABLE.sub(lambda variable: in_path[variable[1]], path)
        if any(segment in (".", "..") for segment in path.split("/")):
            raise ArgumentError(f"the arguments make a path that leads elsewhere: {path:.100}")
        query_mark = "&" if "?" in path else "?"  # some documents have a part of the query in the path
        target = f"{path}{query_mark}{'&'.join(query)}" if query else path
        return RequestParts(target, headers, cookies, self._encode_body(arguments, client))

    def _encode_body(self, arguments: Mapping[str, Any], client: Any) -> Content | None:
        body = self._body
        if body is None:
            return None
        if self._fields is None:
            if BODY not in arguments:
                return None
            value = arguments[BODY]
        else:
            names = self._fields.names
            value = {names[name]: item for name, item in arguments.items() if name in names}
            if self._fields.takes_rest:
                rest = {k: v for k, v in arguments.items() if k not in names and k not in self.parameters}
                value |= rest
            if not value and not body.is_required:
                return None
        return encode_body(client, body, value)


BODY: Final = "body"
"""The argument of a body that is not given field by field."""


def plan_arguments(
    operation: Operation, translator: SchemaTranslator, *, slashes: Slashes, dereference: bool
) -> ArgumentPlan:
    """The arguments of `operation`; raises DefinitionError if its description is malformed."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    required: list[str] = []
    body = find_body(operation)
    body_properties: dict[str, Any] = {}
    fields = None
    if body is not None:
        fields = _describe_body(operation.document, body, translator, schema, body_properties, required)
    parameters = _name_parameters(operation, body_properties)
    for argument, parameter in parameters.items():
        schema["properties"][argument] = _describe_parameter(parameter, translator)
    schema["properties"] |= body_properties
    required = [name for name, p in parameters.items() if p.is_required] + required
    if required:
        schema["required"] = required
    schema.setdefault("additionalProperties", False)
    whole = translator.complete(schema, dereference=dereference)
    return ArgumentPlan(operation, whole, parameters, slashes, body, fields)


def _name_parameters(operation: Operation, taken: Mapping[str, Any]) -> dict[str, ParameterDescription]:
    """The parameters by their arguments, those of the path first."""
    given = operation.read_parameters()
    variables = set(_VARIABLE.findall(operation.path))
    named = {parameter.name for parameter in given if parameter.location == "path"}
    if variables - named:
        raise DefinitionError(f"the path has {{{min(variables - named)}}}, but no parameter of that name")
    found: dict[str, ParameterDescription] = {}
    for parameter in sorted(given, key=lambda parameter: parameter.location != "path"):
        if parameter.location == "path" and parameter.name not in variables:
            continue
        if parameter.location == "header":
            if parameter.name.lower() in _OWN_HEADERS:
                continue
            if not _TOKEN.fullmatch(parameter.name):
                raise DefinitionError(f"{parameter.name!r} is no name of a header")
        if parameter.location == "cookie" and not _TOKEN.fullmatch(parameter.name):
            raise DefinitionError(f"{parameter.name!r} is no name of a cookie")
        name = _safe_name(parameter.name)
        if name in found or name in taken:
            name = f"{name[:48]}__{parameter.location}"
        found[unique_name(name, {*found, *taken})] = parameter
    return found


def _safe_name(name: str) -> str:
    """A name that hosts take for an argument: "filter[name]" has characters that several refuse."""
    return _UNSAFE.sub("_", name).strip("_")[:64] or "value"


def _describe_parameter(parameter: ParameterDescription, translator: SchemaTranslator) -> dict[str, Any]:
    translated = translator.translate(parameter.schema)
    schema: dict[str, Any] = translated if isinstance(translated, dict) else {}
    if parameter.description is not None:
        schema = {**schema, "description": parameter.description}
    return {**schema, "deprecated": True} if parameter.is_deprecated else schema


def _describe_body(
    document: Document,
    body: BodyDescription,
    translator: SchemaTranslator,
    schema: dict[str, Any],
    properties: dict[str, Any],
    required: list[str],
) -> _Fields | None:
    """Put the body's arguments into `properties` and `required`; None if it is one argument."""
    plain = _find_object(document, body.schema) if body.has_fields else None
    if plain is None:
        properties[BODY] = _describe_whole_body(body, translator)
        if body.is_required:
            required.append(BODY)
        return None
    names: dict[str, str] = {}
    for name, described in plain.properties.items():
        if translator.is_hidden(described):
            continue
        argument = unique_name(_safe_name(name), properties)
        names[argument] = name
        properties[argument] = _describe_field(document, body, name, described, translator)
    needed = [argument for argument, name in names.items() if name in plain.required]
    if body.is_required:
        required += needed
    elif needed:  # no body at all, or a complete one
        schema["dependentRequired"] = {
            argument: [other for other in needed if other != argument]
            for argument in names
            if any(other != argument for other in needed)
        }
    takes_rest = plain.additional is not None and plain.additional is not False
    if takes_rest:
        schema["additionalProperties"] = translator.translate(plain.additional)
    return _Fields(names, takes_rest)


def _describe_field(
    document: Document, body: BodyDescription, name: str, described: Any, translator: SchemaTranslator
) -> Any:
    if name not in body.files:
        return translator.translate(described)
    resolved = document.resolve(described)
    is_list = resolved.get("type") == "array"
    text = resolved.get("description")
    notes = {"description": f"{text} ({FILE_SCHEMA['description']})"} if isinstance(text, str) else {}
    return {"type": "array", "items": FILE_SCHEMA, **notes} if is_list else {**FILE_SCHEMA, **notes}


def _describe_whole_body(body: BodyDescription, translator: SchemaTranslator) -> Any:
    if body.has_fields:
        described = translator.translate(body.schema)
    else:
        described = {"type": "string"} if body.is_text else FILE_SCHEMA
    if body.description is None or not isinstance(described, dict):
        return described
    return {**described, "description": body.description}


@attrs.frozen
class _PlainObject:
    properties: Mapping[str, Any]
    required: Sequence[str]
    additional: Any = None


def _find_object(document: Document, schema: Any, depth: int = 0) -> _PlainObject | None:
    """The properties of a schema that says nothing else; None if it does, or is no object."""
    if not isinstance(schema, dict) or depth > 8:
        return None
    found = document.resolve(schema)
    if any(key not in _PLAIN and key not in _NOTES and not key.startswith("x-") for key in found):
        return None
    if found.get("type", "object") not in ("object", ["object"]):
        return None
    own, needed = found.get("properties", {}), found.get("required", [])
    if not isinstance(own, dict):
        return None
    properties, required = dict(own), list(needed) if isinstance(needed, list) else []
    additional = found.get("additionalProperties")
    for part in found.get("allOf", ()):
        inner = _find_object(document, part, depth + 1)
        if inner is None or inner.additional is not None:
            return None
        if any(
            name in properties and properties[name] != inner.properties[name] for name in inner.properties
        ):
            return None
        properties |= inner.properties
        required += inner.required
    if not properties and depth == 0:
        return None
    return _PlainObject(properties, required, additional)
