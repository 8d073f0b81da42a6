"""Serving the authorization server for development on a loopback address.

Owns that it binds no other address. Refuses to know OAuth.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from trio_mcp.concurrency.nursery import open_service_nursery
from trio_mcp.testing.authorization.server import DevAuthorizationServer
from trio_mcp.transports.hypercorn import serve_asgi
from trio_mcp.wire.origin import is_loopback_host


@asynccontextmanager
async def open_authorization_server(
    *, bind: str = "127.0.0.1:0", path: str = "", **options: Any
) -> AsyncIterator[DevAuthorizationServer]:
    """Serve an authorization server for development during the block; NOT for production. Checkpoints.

    `server.issuer` is its URL, with the real port and with `path` behind it ("/tenant"). `options` are those
    of `DevAuthorizationServer`. Raises ValueError for an address that is not a loopback one, OSError if it
    cannot be bound, and ImportError without joserfc (extra "auth") or hypercorn (extra "http").
    """
    host = bind.rpartition(":")[0]
    if not is_loopback_host(host):
        raise ValueError(
            f"an authorization server for development is served on a loopback address only, not {bind!r}"
        )
    if path and not path.startswith("/"):
        raise ValueError(f"path must begin with a slash, not {path!r}")
    server = DevAuthorizationServer(f"http://{bind}{path}", **options)
    async with open_service_nursery() as nursery:
        try:
            (url,) = await nursery.start(partial(serve_asgi, server, bind=bind, shutdown_grace=0.0))
            server.issuer = f"{url}{path}"
            yield server
        finally:
            nursery.cancel_scope.cancel()
