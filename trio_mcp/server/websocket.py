"""Serving over WebSocket on a listening socket, without an ASGI host.

Owns `serve_websocket` and its defaults. Knows nothing of how frames travel.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from contextlib import nullcontext

import trio

from trio_mcp.server.definition import HasDefinition
from trio_mcp.server.running import RunningServer, open_server
from trio_mcp.validators import require_count, require_seconds
from trio_mcp.wire.origin import Doorkeeper


async def serve_websocket(  # noqa: ASYNC128  # listen starts it
    server: HasDefinition | RunningServer,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    path: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    ping_interval: float = 20.0,
    max_connections: int = 1000,
    max_connections_per_peer: int = 500,
    allowed_hosts: Iterable[str] | None = None,
    allowed_origins: Iterable[str] | None = None,
    access_log: bool = True,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `server` over WebSocket until cancelled; checkpoints.

    `addresses = await nursery.start(serve_websocket, server)` returns the URLs to connect to;
    port 0 is any free one. With `ssl_context` they are wss://. With `path`, every other path
    gets 404. A server on a loopback address accepts loopback names only as Host and Origin;
    `allowed_hosts` and `allowed_origins` replace these lists ("name", "name:port", "name:*"; "*"
    alone allows all), everything else gets 403. Beyond `max_connections`, or
    `max_connections_per_peer` from one address, the handshake gets 503. Refusals are counted in
    `RunningServer.refusals`. With `access_log`, each connection is logged at INFO to the logger
    `trio_mcp.access` when it has ended. A connection is pinged after `ping_interval` seconds of silence and
    dropped after twice as many. A disconnect cancels the handlers of that connection. When
    cancelled, it closes with code 1001, and returns within twice the server's `drain_timeout`,
    also if clients do not read.

    It asks for no access tokens; `serve_http(auth=)` does, and serves WebSocket at its endpoint too.

    Raises OSError if it cannot listen, ValueError for a malformed list or number, and
    ModuleNotFoundError without the extra `websocket`.
    """
    # Imported here: trio-websocket is an extra, and `import trio_mcp` works without it.
    from trio_mcp.transports.websocket.server import WebSocketService

    require_seconds("ping_interval", ping_interval)
    require_count("max_connections", max_connections)
    require_count("max_connections_per_peer", max_connections_per_peer)
    doorkeeper = Doorkeeper.for_bind(host, allowed_hosts, allowed_origins)
    opening = nullcontext(server) if isinstance(server, RunningServer) else open_server(server)
    async with opening as running:
        service = WebSocketService(
            lambda transport, headers, peer: running.serve(transport, headers=headers, peer=peer),
            running.settings.max_frame_bytes,
            doorkeeper,
            path,
            ping_interval,
            max_connections,
            max_connections_per_peer,
            running.settings.max_values,
            running.refusals,
            access_log,
        )
        await service.listen(host, port, ssl_context, task_status=task_status)
