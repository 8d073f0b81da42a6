"""What kind of transport an object is, for those who observe a connection.

Owns the names. Imports no transport, since most programs have few of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trio_mcp.instruments import Transport
from trio_mcp.outgoing.transport import FrameTransport

_KINDS: Final[Mapping[str, Transport]] = {
    "trio_mcp.transports.memory": "memory",
    "trio_mcp.transports.newline_stream": "stdio",
    "trio_mcp.transports.process": "stdio",
    "trio_mcp.transports.stdio": "stdio",
    "trio_mcp.transports.websocket.transport": "websocket",
    "trio_mcp.transports.asgi.websocket": "websocket",
    "trio_mcp.transports.asgi.sse_stream": "sse",
    "trio_mcp.transports.http.transport": "http",
    "trio_mcp.transports.http.sse_transport": "sse",
}


def find_kind(transport: FrameTransport) -> Transport:
    """The kind of `transport`; "other" for one that is not ours."""
    return _KINDS.get(type(transport).__module__, "other")
