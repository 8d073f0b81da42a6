"""The client of the official SDK's 1.x line, kept connected: `python sdk1_worker.py stdio|memory|http`.

`measurements.py` lists its measurements.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.memory import create_connected_server_and_client_session
from measurements import Contestant, Handler, serve_measurements, start_server
from sdk1_server import make_server

SERVER = Path(__file__).with_name("sdk1_server.py")


@asynccontextmanager
async def open_session(transport: str) -> AsyncIterator[tuple[ClientSession, str]]:
    """A session that has shaken hands, and its protocol version."""
    if transport == "memory":
        async with create_connected_server_and_client_session(make_server()) as session:
            yield session, ""
        return
    if transport == "http":
        streams = streamable_http_client(start_server(sys.executable, str(SERVER), "http"))
    else:
        streams = stdio_client(StdioServerParameters(command=sys.executable, args=[str(SERVER)]))
    async with streams as (read, write, *_), ClientSession(read, write) as session:
        yield session, (await session.initialize()).protocolVersion


async def main(transport: str) -> None:
    async with open_session(transport) as (session, protocol):

        async def call(tool: str, arguments: dict[str, Any], handler: Handler | None) -> str:
            result = await session.call_tool(tool, arguments, progress_callback=handler)
            return result.content[0].text

        contestant = Contestant(call, anyio, anyio.create_task_group)
        await serve_measurements(contestant, ["mcp"], protocol)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
