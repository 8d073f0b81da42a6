"""Serving a file over the network: `trio-mcp run --http ... --ws ...`.

Owns the reading of addresses, and the notes that say where the server listens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import trio

from trio_mcp.cli.output import print_note
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.server.http import serve_http
from trio_mcp.server.running import open_server
from trio_mcp.server.server import Server
from trio_mcp.server.websocket import serve_websocket
from trio_mcp.transports.asgi.settings import HttpSettings

Address: TypeAlias = tuple[str, int]

LOOPBACK = "127.0.0.1"


def read_address(text: str) -> Address:
    """Read HOST:PORT; without a host it is the loopback address. Raises CommandError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise CommandError(f"{text!r} is no address: say :PORT or HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


async def serve_network(
    server: Server,
    http: Address | None,
    ws: Address | None,
    *,
    sse: bool = False,
    access_log: bool,
    runs_tasks: bool = True,
    entrance: Mapping[str, Any] | None = None,
) -> int:
    """Serve over HTTP and WebSocket, with one set of background tasks, until cancelled; checkpoints.

    With `sse`, the HTTP address has the HTTP+SSE of 2024-11-05 as well. Without `runs_tasks`, tasks are left
    to workers. `entrance` are the keyword arguments of `serve_http` that say who is let in. Raises
    CommandError if it cannot listen at an address, and TaskStoreError.
    """
    async with open_server(server, runs_tasks=runs_tasks) as running, open_unwrapping_nursery() as nursery:
        urls: list[str] = []
        if http is not None:
            bind = _format(http)
            settings = HttpSettings(access_log=access_log)
            options = {"settings": settings, "sse": sse, **(entrance or {})}
            serve_both = partial(serve_http, running, bind=bind, **options)
            found = await _listen(nursery, serve_both, bind)
            urls += found
            if sse:
                urls += [url.removesuffix("mcp") + "sse" for url in found]
        if ws is not None:
            serve = partial(serve_websocket, running, *ws, access_log=access_log)
            urls += await _listen(nursery, serve, _format(ws))
        for url in urls:
            print_note(f"{server.name} serves MCP at {url}; Ctrl-C ends it.")
    return SUCCEEDED


async def serve_stdio_queueing(server: Server) -> int:
    """Serve over stdin and stdout until the client closes them, and leave tasks to workers; checkpoints.

    Raises TaskStoreError.
    """
    # Imported here, as in `serve_stdio`: Windows does not have it.
    from trio_mcp.transports.stdio import open_stdio_transport

    settings = server.settings
    async with (
        open_server(server, runs_tasks=False) as running,
        open_stdio_transport(
            max_frame_bytes=settings.max_frame_bytes, max_values=settings.max_values
        ) as transport,
    ):
        await running.serve(transport)
    return SUCCEEDED


async def _listen(nursery: trio.Nursery, serve: Callable[..., Awaitable[object]], address: str) -> list[str]:
    try:
        urls: list[str] = await nursery.start(serve)
    except OSError as error:
        raise CommandError(f"cannot listen at {address}: {error.strerror or error}") from None
    return urls


def _format(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
