"""Serves the Python rivals over HTTP with uvicorn on asyncio, as their users do."""

import socket
import sys
from typing import Any

import anyio
import anyio.to_thread


async def serve_app(app: Any) -> None:
    """Print the URL of the endpoint, and serve until standard input ends."""
    import uvicorn  # a server on stdio starts without it

    # The protocol is named, as in uvicorn's own sockets: asyncio sets TCP_NODELAY only then.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        server.should_exit = True
