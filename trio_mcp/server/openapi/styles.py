"""How the values of parameters are written into a URL, a header or a cookie (OpenAPI, "Style Values").

Owns the styles, and that a value stays where it belongs: none can leave its part of the path, begin another
parameter, or end a header. What would is refused with an ArgumentError that names the argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import msgspec

from trio_mcp.errors import ArgumentError
from trio_mcp.server.openapi.operation import ParameterDescription

Slashes: TypeAlias = Literal["refuse", "encode"]

_RESERVED: Final = ":/?@!$'()*,;[]"
"""What a value may keep under `allowReserved`; "&", "=", "+", "#" and "%" would change what follows them."""

_HEADER: Final = re.compile(r"[\t\x20-\x7e]*")
_COOKIE: Final = re.compile(r"[!#-+\--:<-\[\]-~]*")
_SEPARATORS: Final = re.compile(r"[/\\]")
_DELIMITERS: Final = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}


def write_path(parameter: ParameterDescription, argument: str, value: Any, slashes: Slashes) -> str:
    """A value for the path; raises ArgumentError for one that would lead to another path."""

    def encode(item: Any) -> str:
        text = as_text(item)
        parts = _SEPARATORS.split(text)
        if len(parts) > 1 and slashes == "refuse" and not parameter.has_segments:
            raise ArgumentError(
                f"{argument}: it is one part of a path, and cannot have slashes: {text!r:.100}"
            )
        if any(part.strip() in (".", "..") for part in parts):
            raise ArgumentError(f"{argument}: it would lead to another path: {text!r:.100}")
        _refuse_controls(argument, text)
        return quote(text, safe="/" if parameter.has_segments else "")

    if parameter.media_type is not None:
        written = encode(_as_media(parameter.media_type, value))
    else:
        written = _PATH_STYLES[parameter.style](parameter, value, encode)
    if not written:
        raise ArgumentError(f"{argument}: it is a part of a path, and cannot be empty")
    return written


def _refuse_controls(argument: str, text: str) -> None:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ArgumentError(f"{argument}: a path cannot have control characters: {text!r:.100}")


def _write_simple(parameter: ParameterDescription, value: Any, encode: Callable[[Any], str]) -> str:
    return ",".join(_flatten(value, encode, explode=parameter.explode))


def _write_label(parameter: ParameterDescription, value: Any, encode: Callable[[Any], str]) -> str:
    delimiter = "." if parameter.explode else ","
    return "." + delimiter.join(_flatten(value, encode, explode=parameter.explode))


def _write_matrix(parameter: ParameterDescription, value: Any, encode: Callable[[Any], str]) -> str:
    name = quote(parameter.name, safe="")
    if parameter.explode and isinstance(value, dict):
        return "".join(f";{quote(key, safe='')}={encode(item)}" for key, item in value.items())
    if parameter.explode and isinstance(value, list):
        return "".join(f";{name}={encode(item)}" for item in value)
    return f";{name}=" + ",".join(_flatten(value, encode, explode=False))


_PATH_STYLES: Final = {"simple": _write_simple, "label": _write_label, "matrix": _write_matrix}


def _flatten(value: Any, encode: Callable[[Any], str], *, explode: bool) -> list[str]:
    """The parts of a list, or the keys and values of an object; a single value is one part."""
    if isinstance(value, dict):
        if explode:
            return [f"{encode(key)}={encode(item)}" for key, item in value.items()]
        return [encode(part) for pair in value.items() for part in pair]
    return [encode(item) for item in value] if isinstance(value, list) else [encode(value)]


def write_query(parameter: ParameterDescription, value: Any) -> list[str]:
    """The pairs "name=value" of a query or a form, percent-encoded, in their order."""
    if parameter.location == "querystring":
        return _write_whole_query(parameter, value)

    def encode(item: Any) -> str:
        return quote(as_text(item), safe=_RESERVED if parameter.is_reserved_allowed else "")

    name = quote(parameter.name, safe="")
    if parameter.media_type is not None:
        return [f"{name}={encode(_as_media(parameter.media_type, value))}"]
    if not isinstance(value, (list, dict)):
        return [f"{name}={encode(value)}"]
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if item is not None}
    if parameter.style == "deepObject":
        return [f"{key}={encode(item)}" for key, item in _walk_deep(name, value)]
    if parameter.style == "form" and parameter.explode:
        if isinstance(value, list):
            return [f"{name}={encode(item)}" for item in value]
        return [f"{quote(key, safe='')}={encode(item)}" for key, item in value.items()]
    delimiter = _DELIMITERS.get(parameter.style, ",")
    # A comma in a value stays apart from the commas between them.
    parts = _flatten(value, lambda item: encode(item).replace(",", "%2C"), explode=False)
    return [f"{name}={delimiter.join(parts)}"]


def _write_whole_query(parameter: ParameterDescription, value: Any) -> list[str]:
    if isinstance(value, dict) and (parameter.media_type or "").endswith("x-www-form-urlencoded"):
        pairs: list[str] = []
        for key, item in value.items():
            for single in item if isinstance(item, list) else [item]:
                pairs.append(f"{quote(key, safe='')}={quote(as_text(single), safe='')}")
        return pairs
    return [quote(as_text(value), safe="")]


def _walk_deep(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [
            pair
            for key, item in value.items()
            for pair in _walk_deep(f"{name}%5B{quote(key, safe='')}%5D", item)
        ]
    if isinstance(value, list):
        return [pair for item in value for pair in _walk_deep(name, item)]
    return [(name, value)]


def write_header(parameter: ParameterDescription, argument: str, value: Any) -> str:
    """The value of a header; raises ArgumentError for characters that it cannot have."""
    if parameter.media_type is not None:
        text = _as_media(parameter.media_type, value)
    else:
        text = ",".join(_flatten(value, as_text, explode=parameter.explode))
    if not _HEADER.fullmatch(text):
        raise ArgumentError(f"{argument}: a header has visible characters of ASCII only: {text!r:.100}")
    return text.strip()


def write_cookie(parameter: ParameterDescription, argument: str, value: Any) -> str:
    """The value of a cookie; raises ArgumentError if a cookie of the style "cookie" cannot have it."""
    if parameter.media_type is not None:
        return quote(_as_media(parameter.media_type, value), safe="")
    if parameter.style == "form":
        return ",".join(_flatten(value, lambda item: quote(as_text(item), safe=""), explode=False))
    text = (
        ",".join(_flatten(value, as_text, explode=False))
        if isinstance(value, (list, dict))
        else as_text(value)
    )
    if not _COOKIE.fullmatch(text):
        raise ArgumentError(f"{argument}: a cookie cannot have these characters: {text!r:.100}")
    return text


def as_text(value: Any) -> str:
    """A value of JSON as the text that stands for it in a URL; what has parts becomes JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _as_media(media_type: str, value: Any) -> str:
    return msgspec.json.encode(value).decode() if is_json(media_type) else as_text(value)


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON, whatever its parameters."""
    bare = bare_type(media_type)
    return bare in ("application/json", "text/json") or bare.endswith("+json")


def bare_type(media_type: str) -> str:
    """A media type in lower case, without its parameters."""
    return media_type.partition(";")[0].strip().lower()
