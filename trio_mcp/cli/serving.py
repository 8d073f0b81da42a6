"""Serving a file over the network: `trio-mcp run --http ... --ws ...`.

Owns the reading of addresses and what is said when the server is reached.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import trio

from trio_mcp.cli.output import print_note
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.server.http import serve_http
from trio_mcp.server.running import open_server
from trio_mcp.server.server import Server
from trio_mcp.server.websocket import serve_websocket

Address: TypeAlias = tuple[str, int]

LOOPBACK = "127.0.0.1"


def read_address(text: str) -> Address:
    """Read HOST:PORT; without a host it is this machine only. Raises CommandError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise CommandError(f"{text!r} is no address: say :PORT or HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


async def serve_network(server: Server, http: Address | None, ws: Address | None) -> int:
    """Serve over HTTP and WebSocket, with one set of background tasks, until cancelled; checkpoints."""
    try:
        async with open_server(server) as running, trio.open_nursery() as nursery:
            urls: list[str] = []
            if http is not None:
                host, port = http
                bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                urls += await nursery.start(partial(serve_http, running, bind=bind))
            if ws is not None:
                urls += await nursery.start(serve_websocket, running, *ws)
            for url in urls:
                print_note(f"{server.name} serves MCP at {url}; Ctrl-C ends it.")
    except* ModuleNotFoundError as group:
        missing = group.exceptions[0]
        raise CommandError(str(missing)) from None
    except* OSError as group:
        raise CommandError(str(group.exceptions[0])) from None
    return SUCCEEDED
