"""The headers of Streamable HTTP that mirror a message: their values, and their comparison.

Owns header names, the encoding of values and `x-mcp-header` (MCP 2026-07-28
transports, "Request Metadata"). Names are lower-case throughout. Knows nothing of
connections, and not which protocol versions are served.
"""

from __future__ import annotations

import functools
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from trio_mcp.wire.errors import HEADER_MISMATCH, ProtocolError
from trio_mcp.wire.frames import Request
from trio_mcp.wire.incoming_request import IncomingRequest
from trio_mcp.wire.messages import META_PROTOCOL_VERSION

VERSION_HEADER: Final = "mcp-protocol-version"
METHOD_HEADER: Final = "mcp-method"
NAME_HEADER: Final = "mcp-name"
PARAMETER_PREFIX: Final = "mcp-param-"
SESSION_HEADER: Final = "mcp-session-id"
EVENT_ID_HEADER: Final = "last-event-id"

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"

SCHEMA_KEY: Final = "x-mcp-header"

_NAME_MEMBERS: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "task_id",
    "tasks/update": "task_id",
    "tasks/cancel": "task_id",
}
"""The member of the parameters that `Mcp-Name` mirrors."""

_MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON implementation holds exactly."""

_PREFIX: Final = "=?base64?"
_SUFFIX: Final = "?="
# Compiled when a header first needs them: a server on stdio has none.
_compiled: Final = functools.cache(re.compile)
_PLAIN: Final = r"(?:[!-~](?:[ -~]*[!-~])?)?"
_VALUE: Final = r"[\t -~]*"
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NUMBER: Final = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"

_TYPES: Final = ("integer", "string", "boolean")
_NAMED_SCHEMAS: Final = frozenset({"patternProperties", "$defs", "definitions", "dependentSchemas"})
_INSTANCES: Final = frozenset({"default", "examples", "const", "enum", SCHEMA_KEY})
"""Keywords whose values are data; in them the annotation has no meaning."""


class _Meta(Struct):
    version: Any = field(name=META_PROTOCOL_VERSION, default=None)


class _Mirrored(Struct, rename="camel"):
    """The members of parameters that headers mirror; anything may stand in them."""

    name: Any = None
    uri: Any = None
    task_id: Any = None
    meta: _Meta | None = field(name="_meta", default=None)


@functools.cache  # made when the first request comes over HTTP
def _mirrored_decoder() -> msgspec.json.Decoder[_Mirrored]:
    return msgspec.json.Decoder(_Mirrored)


_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTHING: Final = _Mirrored()


def encode_header_value(value: str) -> str:
    """Encode `value` for a header: as it is, or in base64 (MCP transports, "Value Encoding").

    Raises ValueError for a lone surrogate.
    """
    if _compiled(_PLAIN).fullmatch(value) and not _is_encoded(value):
        return value
    return f"{_PREFIX}{b64encode(value.encode()).decode()}{_SUFFIX}"


def decode_header_value(value: str) -> str:
    """Decode a header value; raises ValueError for one that `encode_header_value` cannot have made."""
    if not _compiled(_VALUE).fullmatch(value):
        raise ValueError("it holds invalid characters")
    if not _is_encoded(value):
        return value
    encoded = value[len(_PREFIX) : -len(_SUFFIX)]
    try:
        decoded = b64decode(encoded, validate=True)
        text = decoded.decode()
    except ValueError:
        raise ValueError("it is not valid base64 of UTF-8") from None
    if b64encode(decoded).decode() != encoded:
        raise ValueError("it is not canonical base64")
    return text


def _is_encoded(value: str) -> bool:
    return value.startswith(_PREFIX) and value.endswith(_SUFFIX) and len(value) >= len(_PREFIX + _SUFFIX)


def standard_headers(request: Request) -> dict[str, str]:
    """The headers that a modern client sends with `request`."""
    mirrored = _read_mirrored(request)
    headers = {METHOD_HEADER: encode_header_value(request.method)}
    version, name = _read_version(mirrored), _read_name(request.method, mirrored)
    if isinstance(version, str):
        headers[VERSION_HEADER] = encode_header_value(version)
    if isinstance(name, str):
        headers[NAME_HEADER] = encode_header_value(name)
    return headers


def check_headers(headers: Mapping[str, str], request: IncomingRequest) -> None:
    """Compare a modern request with its headers, whose names are lower-case.

    Raises ProtocolError (HeaderMismatch) if a header is missing, malformed or
    differs. A header that mirrors nothing in the body is ignored.
    """
    method = request.frame.method
    version, name = _find_mirrored(request)
    if isinstance(version, str):
        _check_equal("MCP-Protocol-Version", headers.get(VERSION_HEADER), version)
    _check_equal("Mcp-Method", headers.get(METHOD_HEADER), method)
    if isinstance(name, str):
        header = headers.get(NAME_HEADER)
        _check_equal("Mcp-Name", None if header is None else _decode("Mcp-Name", header), name)


def read_parameter_headers(input_schema: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Which parameters are mirrored into headers: the name portion to the property path.

    Raises ValueError that says what is wrong (MCP transports, "Schema Extension").
    """
    paths: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for path, schema in _walk(input_schema):
        if SCHEMA_KEY not in schema:
            continue
        name = schema[SCHEMA_KEY]
        if not path:
            raise ValueError(f"{SCHEMA_KEY} {name!r} is not reachable through properties alone")
        where = ".".join(path)
        if not isinstance(name, str) or not _compiled(_TOKEN).fullmatch(name):
            raise ValueError(f"{SCHEMA_KEY} {name!r} of {where} is no HTTP field name")
        kind = schema.get("type")
        if kind not in _TYPES:
            raise ValueError(
                f"{SCHEMA_KEY} {name!r} of {where}: the type must be one of {_TYPES}, not {kind!r}"
            )
        if name.lower() in taken:
            raise ValueError(f"{SCHEMA_KEY} {name!r} of {where} is used twice")
        taken.add(name.lower())
        paths[name] = path
    return paths


def parameter_headers(paths: Mapping[str, tuple[str, ...]], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The headers that mirror `arguments`.

    Raises ValueError for an integer that not every JSON implementation can hold.
    """
    headers = {}
    for name, path in paths.items():
        text = _format(_find(arguments, path), ".".join(path))
        if text is not None:
            headers[PARAMETER_PREFIX + name.lower()] = encode_header_value(text)
    return headers


def read_mirrored_arguments(
    paths: Mapping[str, tuple[str, ...]], arguments: msgspec.Raw | msgspec.UnsetType
) -> dict[str, Any] | None:
    """Decode the arguments that headers mirror, and no others; None if they cannot be decoded.

    If the arguments are not an object, none are mirrored: their validation answers that later.
    """
    if isinstance(arguments, msgspec.UnsetType):
        return {}
    try:
        members = _members_decoder.decode(arguments)
        wanted = {path[0] for path in paths.values()} & members.keys()
        return {name: msgspec.json.decode(members[name]) for name in wanted}
    except msgspec.ValidationError:
        return {}
    except (msgspec.MsgspecError, RecursionError):
        return None


def check_parameter_headers(
    paths: Mapping[str, tuple[str, ...]], headers: Mapping[str, str], arguments: Mapping[str, Any]
) -> None:
    """Compare arguments with the headers that mirror them, whose names are lower-case.

    Raises ProtocolError (HeaderMismatch).
    """
    for name, path in paths.items():
        label = f"Mcp-Param-{name}"
        value = _find(arguments, path)
        header = headers.get(PARAMETER_PREFIX + name.lower())
        text = None if header is None else _decode(label, header)
        try:
            expected = _format(value, ".".join(path))
        except ValueError as error:
            raise ProtocolError(HEADER_MISMATCH, f"Header mismatch: {label}: {error}") from None
        if expected is None:
            if text is not None and value is None:
                raise ProtocolError(
                    HEADER_MISMATCH,
                    f"Header mismatch: {label} header value {text!r} has no value in the body",
                )
            # Otherwise the argument has a wrong type, and its validation answers that later.
        elif not (type(value) in (int, float) and text is not None and _is_number(text, value)):
            _check_equal(label, text, expected)


def _find_mirrored(request: IncomingRequest) -> tuple[Any, Any]:
    """The version and the name in the body of a request; they may be of any JSON type."""
    member = _NAME_MEMBERS.get(request.frame.method)
    if request.problem is None:
        version = request.meta.get(META_PROTOCOL_VERSION)
        if member is None:
            return version, None
        if hasattr(request.params, member):
            return version, getattr(request.params, member)
    # Parameters of a wrong type, or of a method that this side does not have, are mirrored too.
    mirrored = _read_mirrored(request.frame)
    return _read_version(mirrored), _read_name(request.frame.method, mirrored)


def _read_mirrored(request: Request) -> _Mirrored:
    if isinstance(request.params, msgspec.UnsetType):
        return _NOTHING
    try:
        return _mirrored_decoder().decode(request.params)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NOTHING  # the validation of the parameters has a better message


def _read_version(mirrored: _Mirrored) -> Any:
    return None if mirrored.meta is None else mirrored.meta.version


def _read_name(method: str, mirrored: _Mirrored) -> Any:
    member = _NAME_MEMBERS.get(method)
    return None if member is None else getattr(mirrored, member)


def _decode(label: str, value: str) -> str:
    try:
        return decode_header_value(value)
    except ValueError as error:
        message = f"Header mismatch: {label} header value {value!r} is malformed: {error}"
        raise ProtocolError(HEADER_MISMATCH, message) from None


def _check_equal(label: str, header: str | None, value: str) -> None:
    if header == value:
        return
    if header is None:
        message = f"Header mismatch: {label} header is missing, the body value is {value!r}"
    else:
        message = f"Header mismatch: {label} header value {header!r} does not match body value {value!r}"
    raise ProtocolError(HEADER_MISMATCH, message)


def _walk(root: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every schema within `root` and its property path, which is empty if there is none."""
    pending: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while pending:
        path, schema = pending.pop()
        if not isinstance(schema, Mapping):
            continue
        yield path or (), schema
        for key, value in schema.items():
            if key == "properties" and isinstance(value, Mapping):
                pending += [(None if path is None else (*path, name), sub) for name, sub in value.items()]
            elif key in _NAMED_SCHEMAS and isinstance(value, Mapping):
                pending += [(None, sub) for sub in value.values()]
            elif key not in _INSTANCES:
                pending += [(None, sub) for sub in (value if isinstance(value, list) else [value])]


def _find(arguments: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = arguments
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _format(value: Any, where: str) -> str | None:
    """The text that mirrors `value`, or None if its type is never mirrored."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        if abs(value) > _MAX_SAFE_INTEGER:
            raise ValueError(f"{where} is an integer beyond the safe range of 2**53 - 1")
        return str(int(value))
    return None


def _is_number(text: str, value: float) -> bool:
    return _compiled(_NUMBER).fullmatch(text) is not None and float(text) == value
