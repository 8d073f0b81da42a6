"""The official SDK's client, kept connected: `python sdk_worker.py stdio|memory|legacy|http asyncio|trio`.

`measurements.py` lists its measurements. Over memory it dispatches calls without any
framing; `legacy` sends messages over memory streams instead.
"""

import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters
from measurements import Contestant, Handler, serve_measurements, start_server
from sdk_server import make_server

SERVER = Path(__file__).with_name("sdk_server.py")


async def main(target: Any, mode: str) -> None:
    async with Client(target, mode=mode) as client:

        async def call(tool: str, arguments: dict[str, Any], handler: Handler | None) -> str:
            result = await client.call_tool(tool, arguments, progress_callback=handler)
            return result.content[0].text

        contestant = Contestant(call, anyio, anyio.create_task_group)
        await serve_measurements(contestant, ["mcp", "anyio", "trio"], client.protocol_version)


if __name__ == "__main__":
    _, transport, backend = sys.argv
    stdio = StdioServerParameters(command=sys.executable, args=[str(SERVER), backend])
    targets = {
        "stdio": lambda: stdio,
        "memory": make_server,
        "legacy": make_server,
        "http": lambda: start_server(sys.executable, str(SERVER), "http"),
    }
    anyio.run(main, targets[transport](), "legacy" if transport == "legacy" else "auto", backend=backend)
