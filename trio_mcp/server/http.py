"""Serving over HTTP on hypercorn.

Owns how an ASGI application and its listeners begin and end together. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.server.asgi import asgi_app
from trio_mcp.server.definition import HasDefinition
from trio_mcp.server.running import RunningServer
from trio_mcp.transports.asgi.guard import Authenticate, Guard
from trio_mcp.transports.asgi.settings import HttpSettings

if TYPE_CHECKING:
    from trio_mcp.transports.hypercorn import TLS

ROOM: Final = 65_536
"""In bytes: hypercorn accepts so much more of a body than the endpoint, whose refusal is clearer."""


async def serve_http(
    target: HasDefinition | RunningServer,
    *,
    bind: str | Sequence[str] = "127.0.0.1:8000",
    path: str = "/mcp",
    tls: TLS | None = None,
    settings: HttpSettings | None = None,
    allowed_hosts: Collection[str] | None = None,
    allowed_origins: Collection[str] | None = None,
    cors_origins: Collection[str] = (),
    authenticate: Authenticate | None = None,
    auth: Guard | None = None,
    sse: bool = False,
    shutdown_grace: float = 3.0,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve Streamable HTTP and WebSocket until cancelled; checkpoints.

    `bind` is an address or several: "127.0.0.1:8000", "[::1]:0", "unix:/run/mcp.sock"; port 0
    is any free one. `urls = await nursery.start(serve_http, server)` returns the URLs of the
    endpoint once connections are accepted. `tls` makes it HTTPS, with HTTP/2. The other options
    are those of `asgi_app`.

    When cancelled, it refuses new requests, ends event streams as the protocol says, gives
    requests `shutdown_grace` seconds to end, and then closes all connections. Raises
    ModuleNotFoundError without the extra `http`, OSError if it cannot listen on an address, and
    what the server's lifespan raises.
    """
    # Imported here: only servers on HTTP need hypercorn.
    from trio_mcp.transports.hypercorn import serve_asgi

    settings = settings or HttpSettings()
    app = asgi_app(
        target,
        path=path,
        settings=settings,
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        cors_origins=cors_origins,
        authenticate=authenticate,
        auth=auth,
        sse=sse,
    )
    async with open_unwrapping_nursery() as nursery:
        serve = partial(
            serve_asgi,
            app,
            bind=bind,
            tls=tls,
            shutdown_grace=shutdown_grace,
            on_shutdown=app.shut_down,
            max_body_bytes=settings.max_body_bytes + ROOM,
            max_buffered_bytes=settings.max_buffered_bytes,
            max_buffered_bytes_per_peer=settings.max_buffered_bytes_per_peer,
        )
        task_status.started([f"{origin}{path}" for origin in await nursery.start(serve)])
