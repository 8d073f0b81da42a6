"""trio-websocket, and all that is taken of its internals.

Owns the import, so that only this module has to say what is missing, and the two private attributes that
are read, each with its reason. Nothing else of trio-websocket's internals is touched.
"""

from __future__ import annotations

import trio

try:
    import trio_websocket as trio_websocket  # named twice, because others take it from here
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "WebSocket needs trio-websocket: pip install 'trio-mcp[websocket]'", name=error.name
    ) from error


def find_messages(connection: trio_websocket.WebSocketConnection) -> trio.MemoryReceiveChannel[str | bytes]:
    """The messages that have come on a connection.

    `get_message` alone would take one message in each scheduling round, however many are there.
    """
    messages: trio.MemoryReceiveChannel[str | bytes] = connection._recv_channel
    return messages


def find_host(request: trio_websocket.WebSocketRequest) -> str:
    """The Host header of a handshake.

    trio-websocket hands out every header but this one; without it no client would be let in.
    """
    host: str = request._event.host
    return host


def read_headers(request: trio_websocket.WebSocketRequest) -> dict[str, str]:
    """The headers of a handshake by lower-case names; repeated ones are joined (RFC 9110, section 5.3)."""
    headers = {"host": find_host(request)}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
