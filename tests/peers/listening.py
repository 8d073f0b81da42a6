"""Runs the HTTP servers of other implementations on uvicorn, until standard input ends."""

import socket
import sys
from typing import Any

import anyio
import uvicorn


def listen() -> tuple[socket.socket, str]:
    """A socket on a free port, and its origin, for a server that must know its own URL."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    return listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


async def serve(app: Any, path: str, listening: socket.socket | None = None) -> None:
    """Print the URL of the endpoint at `path`, and serve until standard input, a pipe, ends."""
    listening = listening or listen()[0]
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    # Clients that connect from now on wait in the backlog until the server has started.
    print(f"http://127.0.0.1:{listening.getsockname()[1]}{path}", flush=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        await anyio.wait_readable(sys.stdin)
        server.should_exit = True
