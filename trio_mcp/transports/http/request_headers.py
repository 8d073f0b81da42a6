"""The headers that mirror a modern request, and the arguments of its tool (MCP transports).

Owns which request has them. Refuses to know how a header is written (`wire/http.py` does) and who sends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from trio_mcp.wire.frames import Request
from trio_mcp.wire.http import VERSION_HEADER, parameter_headers, standard_headers
from trio_mcp.wire.messages import CallToolParams

ParameterPaths: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Which arguments of which tool are mirrored: tool name to header name to property path."""


class UnmirroredError(Exception):
    """The arguments of a call hold a value that no header can mirror."""


def mirror_request(request: Request) -> dict[str, str]:
    """The standard headers of a modern request; empty for a legacy one, which names no version."""
    headers = standard_headers(request)
    return headers if VERSION_HEADER in headers else {}


def mirror_arguments(
    request: Request, headers: Mapping[str, str], tools: ParameterPaths
) -> Mapping[str, str]:
    """`headers` and those that mirror the arguments of a tool call, if any. Raises UnmirroredError."""
    if request.method != "tools/call" or not tools:
        return headers
    params = msgspec.json.decode(request.params, type=CallToolParams)  # type: ignore[arg-type]
    paths = tools.get(params.name)
    if not paths or isinstance(params.arguments, msgspec.UnsetType):
        return headers
    try:
        return {**headers, **parameter_headers(paths, msgspec.json.decode(params.arguments))}
    except ValueError as error:
        raise UnmirroredError(f"tool {params.name!r} cannot be called over HTTP: {error}") from None
