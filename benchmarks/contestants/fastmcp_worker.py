"""FastMCP's client, kept connected: `python fastmcp_worker.py stdio|memory|http`.

`measurements.py` lists its measurements.
"""

import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp_server import make_server
from measurements import Contestant, Handler, serve_measurements, start_server

SERVER = Path(__file__).with_name("fastmcp_server.py")


async def main(target: Any) -> None:
    async with Client(target) as client:

        async def call(tool: str, arguments: dict[str, Any], handler: Handler | None) -> str:
            result = await client.call_tool(tool, arguments, progress_handler=handler)
            return result.content[0].text

        contestant = Contestant(call, anyio, anyio.create_task_group)
        await serve_measurements(contestant, ["fastmcp"], client.session.protocol_version)


if __name__ == "__main__":
    targets = {
        "stdio": lambda: StdioTransport(sys.executable, [str(SERVER)]),
        "memory": make_server,
        "http": lambda: start_server(sys.executable, str(SERVER), "http"),
    }
    anyio.run(main, targets[sys.argv[1]]())
