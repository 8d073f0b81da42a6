"""trio_mcp's client, kept connected: `python trio_mcp_worker.py stdio|memory|http [OPTION]`.

OPTION is one of the server, such as strict. `measurements.py` lists its measurements.
"""

import sys
from pathlib import Path
from typing import Any

import trio
from measurements import Contestant, Handler, serve_measurements, start_server
from trio_mcp_server import make_server

from trio_mcp import ClientSettings, Lossless, open_client

SERVER = Path(__file__).with_name("trio_mcp_server.py")


async def main(target: Any) -> None:
    settings = ClientSettings(progress=Lossless())
    # A protected server says which token it takes.
    target, _, token = target.partition(" ") if isinstance(target, str) else (target, "", "")
    async with open_client(target, settings=settings, **({"auth": token} if token else {})) as client:

        async def call(tool: str, arguments: dict[str, Any], handler: Handler | None) -> str:
            return (await client.call_tool(tool, arguments, progress_handler=handler)).text

        contestant = Contestant(call, trio, trio.open_nursery)
        await serve_measurements(contestant, ["trio-mcp", "trio", "msgspec"], client.protocol_version)


if __name__ == "__main__":
    _, transport, *options = sys.argv
    command = [sys.executable, str(SERVER)]
    targets = {
        "stdio": lambda: [*command, *options],
        "memory": lambda: make_server(strict=bool(options)),
        "http": lambda: start_server(*command, "http", *options),
    }
    trio.run(main, targets[transport]())
