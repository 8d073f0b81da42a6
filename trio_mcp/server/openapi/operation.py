"""The operations of an OpenAPI document: a method, a path, and what both take and answer.

Owns how an operation is read, with what its path gives to all of its operations. Refuses to know how values
travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from trio_mcp.errors import DefinitionError
from trio_mcp.server.openapi.document import Document

_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_DEFAULT_STYLES: Final = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
STYLES: Final = {
    "path": {"simple", "label", "matrix"},
    "query": {"form", "spaceDelimited", "pipeDelimited", "deepObject"},
    "header": {"simple"},
    "cookie": {"form", "cookie"},
}


@attrs.frozen
class Operation:
    """One operation: what a program chooses and names operations by.

    `method` is in capitals, `path` the template of the document. `document` and `details` are where the rest
    is read from: `details` is the operation as it stands in the document.
    """

    method: str
    path: str
    operation_id: str | None = None
    summary: str | None = None
    description: str | None = None
    tags: Sequence[str] = ()
    is_deprecated: bool = False
    document: Document = attrs.field(kw_only=True, repr=False)
    details: Mapping[str, Any] = attrs.field(kw_only=True, repr=False)
    _of_path: Mapping[str, Any] = attrs.field(kw_only=True, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def read_parameters(self) -> list[ParameterDescription]:
        """Its parameters, those of its path included; raises DefinitionError for what is none."""
        found: dict[tuple[str, str], ParameterDescription] = {}
        for holder in (self._of_path, self.details):
            for given in _list(holder, "parameters"):
                parameter = read_parameter(self.document, given)
                found[parameter.location, parameter.name] = parameter
        return list(found.values())

    def find_server(self) -> Mapping[str, Any] | None:
        """The first server of the operation, its path or the document; None if none is named."""
        for holder in (self.details, self._of_path, self.document.root):
            for server in _list(holder, "servers"):
                return self.document.resolve(server)
        return None

    def find_request_body(self) -> Mapping[str, Any] | None:
        """The description of its body; None if it has none."""
        body = self.details.get("requestBody")
        return None if body is None else self.document.resolve(body)

    def find_responses(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The statuses that it may answer with, such as "200", "2XX" and "default", each with what comes."""
        responses = self.details.get("responses")
        if isinstance(responses, dict):
            for status, response in responses.items():
                if not status.startswith("x-"):
                    yield status, self.document.resolve(response)


@attrs.frozen
class ParameterDescription:
    """A parameter of an operation: where it travels, and in which form."""

    name: str
    location: str
    """One of "path", "query", "querystring", "header" and "cookie"."""
    schema: Any = attrs.field(repr=False)
    is_required: bool = False
    style: str = "form"
    explode: bool = True
    is_reserved_allowed: bool = False
    media_type: str | None = None
    """The type that a value is encoded in before it travels as a text; None if `style` says it all."""
    description: str | None = attrs.field(default=None, repr=False)
    is_deprecated: bool = False
    has_segments: bool = False
    """Whether a value in the path may have several parts with slashes between them."""


def read_operations(document: Document) -> Iterator[Operation]:
    """All operations of `document`, in its order; raises DefinitionError for paths that are none."""
    paths = document.root.get("paths")
    if not isinstance(paths, dict):
        if paths is None and ("components" in document.root or "webhooks" in document.root):
            return
        raise DefinitionError("the document has no paths")
    for path, item in paths.items():
        if path.startswith("x-"):
            continue
        if not path.startswith("/"):
            raise DefinitionError(f"the path {path!r} should begin with a slash")
        resolved = document.resolve(item)
        others = resolved.get("additionalOperations")
        found = {method.upper(): resolved[method] for method in _METHODS if method in resolved}
        found.update(others if isinstance(others, dict) else {})
        for method, details in found.items():
            if not isinstance(details, dict):
                raise DefinitionError(f"{method} {path} should be an object")
            yield _read_operation(document, method, path, details, resolved)


def _read_operation(
    document: Document, method: str, path: str, details: dict[str, Any], of_path: dict[str, Any]
) -> Operation:
    if not method.isascii() or not method.isalpha():
        raise DefinitionError(f"{method!r} of {path} is no method")
    return Operation(
        method=method,
        path=path,
        operation_id=_text(details, "operationId"),
        summary=_text(details, "summary") or _text(of_path, "summary"),
        description=_text(details, "description") or _text(of_path, "description"),
        tags=tuple(tag for tag in _list(details, "tags") if isinstance(tag, str)),
        is_deprecated=details.get("deprecated") is True,
        document=document,
        details=details,
        of_path=of_path,
    )


def read_parameter(document: Document, given: Any) -> ParameterDescription:
    """A parameter as it stands in the document; raises DefinitionError for what is none."""
    raw = document.resolve(given)
    name, location = raw.get("name"), raw.get("in")
    if not isinstance(name, str) or not isinstance(location, str):
        raise DefinitionError("a parameter needs a name and where it is (in)")
    if location not in (*STYLES, "querystring"):
        raise DefinitionError(f"parameter {name!r} is in {location!r}, which OpenAPI 3 does not have")
    style = raw.get("style") or _DEFAULT_STYLES.get(location, "form")
    if style not in STYLES.get(location, {"form"}):
        raise DefinitionError(f"parameter {name!r} in {location} cannot have the style {style!r}")
    explode = raw.get("explode")
    schema, media_type = raw.get("schema", {}), None
    content = raw.get("content")
    if isinstance(content, dict) and content:
        media_type, described = next(iter(content.items()))
        schema = document.resolve(described).get("schema", {})
    allowed = raw.get("allowReserved") is True
    return ParameterDescription(
        name=name,
        location=location,
        schema=schema,
        is_required=location == "path" or raw.get("required") is True,
        style=style,
        explode=style in ("form", "cookie", "deepObject") if explode is None else explode is True,
        is_reserved_allowed=allowed,
        media_type=media_type,
        description=_text(raw, "description"),
        is_deprecated=raw.get("deprecated") is True,
        has_segments=allowed or raw.get("x-multi-segment") is True,
    )


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _list(holder: Mapping[str, Any], key: str) -> list[Any]:
    value = holder.get(key)
    return value if isinstance(value, list) else []
