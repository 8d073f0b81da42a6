"""The body of a request: which media type it gets, and how values become its bytes.

Owns JSON, forms, multipart with files, texts and plain bytes. How a multipart body is written is the business
of the HTTP client.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import msgspec

from trio_mcp.errors import ArgumentError, DefinitionError
from trio_mcp.server.openapi.document import Document
from trio_mcp.server.openapi.operation import STYLES, Operation, ParameterDescription
from trio_mcp.server.openapi.styles import as_text, bare_type, is_json, write_query

FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
OCTETS: Final = "application/octet-stream"

FILE_SCHEMA: Final[dict[str, Any]] = {
    "description": "A file: its text, or an object that has its bytes in base64.",
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "base64": {"type": "string", "contentEncoding": "base64"},
                "filename": {"type": "string"},
                "content_type": {"type": "string"},
            },
            "oneOf": [{"required": ["text"]}, {"required": ["base64"]}],
            "additionalProperties": False,
        },
    ],
}

_MEDIA_TYPE: Final = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(\s*;\s*[\w-]+=(?:[\w!#$&^.+-]+|\"[^\"\r\n\\]*\"))*", re.A
)
_BLANK: Final = re.compile(r"\s+")


@attrs.frozen
class BodyDescription:
    """The body that an operation takes, in the one of its media types that is used."""

    media_type: str
    schema: Any = attrs.field(repr=False)
    encoding: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    is_required: bool = False
    description: str | None = attrs.field(default=None, repr=False)
    files: frozenset[str] = frozenset()
    """The fields of a multipart form that are files, or lists of files."""

    @property
    def bare_type(self) -> str:
        """The media type without its parameters, in lower case."""
        return bare_type(self.media_type)

    @property
    def is_json(self) -> bool:
        """Whether it is JSON."""
        return is_json(self.media_type)

    @property
    def has_fields(self) -> bool:
        """Whether a value is an object that may be given field by field."""
        return self.is_json or self.bare_type in (FORM, MULTIPART)

    @property
    def is_text(self) -> bool:
        """Whether it is a text of another kind, such as XML."""
        kind = self.bare_type
        return kind.startswith("text/") or kind.endswith(("/xml", "+xml", "/yaml", "+yaml", "/graphql"))

    def describe_field(self, name: str) -> Mapping[str, Any]:
        """What the document says of how a field of a form travels."""
        found = self.encoding.get(name)
        return found if isinstance(found, dict) else {}


@attrs.frozen
class Content:
    """An encoded body."""

    media_type: str
    data: bytes = attrs.field(repr=False)


@attrs.frozen
class _File:
    data: bytes = attrs.field(repr=False)
    filename: str | None
    media_type: str | None


def find_body(operation: Operation) -> BodyDescription | None:
    """The body that `operation` takes; None if it takes none. Raises DefinitionError for a malformed one."""
    given = operation.find_request_body()
    if given is None:
        return None
    content = given.get("content")
    if not isinstance(content, dict) or not content:
        return None
    document = operation.document
    name = min(content, key=_rank)
    media = document.resolve(content[name])
    schema, encoding = media.get("schema", {}), media.get("encoding")
    if "*" in name:
        is_binary = is_file(document, schema, name)
        name = OCTETS if is_binary else "application/json"
    if not _MEDIA_TYPE.fullmatch(name):
        raise DefinitionError(f"{name!r} is no media type")
    description = given.get("description")
    encoding = encoding if isinstance(encoding, dict) else {}
    return BodyDescription(
        media_type=name,
        schema=schema,
        encoding=encoding,
        is_required=given.get("required") is True,
        description=description.strip() or None if isinstance(description, str) else None,
        files=frozenset(_find_files(document, schema, encoding))
        if bare_type(name) == MULTIPART
        else frozenset(),
    )


def _find_files(
    document: Document, schema: Any, encoding: Mapping[str, Any], depth: int = 0
) -> Iterator[str]:
    """The fields of a schema and of those that it is made of which are files, or lists of files."""
    found = document.resolve(schema) if isinstance(schema, dict) else {}
    properties = found.get("properties")
    for name, described in properties.items() if isinstance(properties, dict) else ():
        resolved = document.resolve(described) if isinstance(described, dict) else {}
        item = resolved.get("items", {}) if resolved.get("type") == "array" else resolved
        how = encoding.get(name)
        if is_file(document, item, str(how.get("contentType", "")) if isinstance(how, dict) else ""):
            yield name
    for part in found.get("allOf", ()) if depth < 8 else ():
        yield from _find_files(document, part, encoding, depth + 1)


def _rank(media_type: str) -> int:
    """The place of a media type among those of an operation: what says most about its values comes first."""
    kind = bare_type(media_type)
    known = (kind == "application/json", is_json(kind), kind == MULTIPART, kind == FORM, "*" in kind)
    return known.index(True) if True in known else len(known)


def is_file(document: Document, schema: Any, media_type: str = "") -> bool:
    """Whether a value of this schema is a file: bytes that no JSON holds as they are."""
    found = document.resolve(schema) if isinstance(schema, dict) else {}
    if found.get("format") == "binary":
        return True
    if found.get("type") not in (None, "string") or "contentEncoding" in found:
        return False
    kind = found.get("contentMediaType") or media_type
    if kind and "," not in kind:
        bare = bare_type(kind)
        return bare.startswith(("image/", "audio/", "video/")) or bare in (
            OCTETS,
            "application/pdf",
            "application/zip",
        )
    return False


def encode_body(client: Any, body: BodyDescription, value: Any) -> Content:
    """`value` as the bytes of a body; raises ArgumentError for what cannot be one."""
    if body.is_json:
        return Content(body.media_type, msgspec.json.encode(value))
    if body.bare_type == FORM:
        pairs = [pair for name, item in _items(value) for pair in _write_form(body, name, item)]
        return Content(body.media_type, "&".join(pairs).encode())
    if body.bare_type == MULTIPART:
        return _encode_multipart(client, body, value)
    if body.is_text and isinstance(value, str):
        media_type = body.media_type if ";" in body.media_type else f"{body.media_type}; charset=utf-8"
        return Content(media_type, value.encode())
    file = _read_file("body", value)
    return Content(file.media_type or body.media_type, file.data)


def _items(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise ArgumentError("body: a form is an object")
    return [(name, item) for name, item in value.items() if item is not None]


def _write_form(body: BodyDescription, name: str, value: Any) -> list[str]:
    how = body.describe_field(name)
    style = how.get("style", "form")
    parameter = ParameterDescription(
        name,
        "query",
        {},
        style=style if style in STYLES["query"] else "form",
        explode=how.get("explode", style == "form") is True,
        is_reserved_allowed=how.get("allowReserved") is True,
    )
    if isinstance(value, dict) and "style" not in how:
        value = as_text(value)
    return write_query(parameter, value)


def _encode_multipart(client: Any, body: BodyDescription, value: Any) -> Content:
    parts: list[tuple[str, tuple[str | None, bytes, str | None]]] = []
    for name, item in _items(value):
        kind = _find_kind(body, name)
        for single in item if isinstance(item, list) else [item]:
            if name in body.files:
                file = _read_file(name, single)
                parts.append((name, (file.filename or name, file.data, file.media_type or kind)))
            else:
                kind = kind or ("application/json" if isinstance(single, (dict, list)) else None)
                parts.append((name, (None, as_text(single).encode(), kind)))
    if not parts:
        raise ArgumentError("body: a multipart form needs at least one field")
    draft = client.build_request("POST", "http://draft.invalid/", files=parts)
    return Content(draft.headers["content-type"], draft.read())


def _find_kind(body: BodyDescription, name: str) -> str | None:
    """The media type of a field, if the document names a single one."""
    kind = body.describe_field(name).get("contentType")
    return kind if isinstance(kind, str) and _MEDIA_TYPE.fullmatch(kind) and "*" not in kind else None


def _read_file(argument: str, value: Any) -> _File:
    if isinstance(value, str):
        return _File(value.encode(), None, None)
    if not isinstance(value, dict):
        raise ArgumentError(f"{argument}: a file is a text, or an object with its bytes in base64")
    media_type = value.get("content_type")
    if media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
        raise ArgumentError(f"{argument}.content_type: {media_type!r:.100} is no media type")
    if isinstance(value.get("text"), str):
        return _File(value["text"].encode(), value.get("filename"), media_type)
    try:
        data = base64.b64decode(_BLANK.sub("", value.get("base64", "")), validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ArgumentError(f"{argument}.base64: it is no base64: {error}") from None
    return _File(data, value.get("filename"), media_type)
