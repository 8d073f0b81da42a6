"""The benchmark's server, made with the official SDK: `python sdk_server.py [asyncio|trio|http]`.

`trio_mcp_server.py` is its twin. Over HTTP it runs on uvicorn and asyncio, as its users run it.
"""

import socket
import sys

import anyio
import anyio.to_thread
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from tally import MESSAGE


def make_server() -> MCPServer:
    server = MCPServer("benchmark", version="1.0", log_level="ERROR")

    @server.tool()
    async def burst(n: int, ctx: Context) -> str:
        """Report n updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, MESSAGE)
        return "done"

    @server.tool()
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    return server


async def main() -> None:
    await make_server().run_stdio_async()


async def serve() -> None:
    # With the protocol named, as uvicorn's own sockets have it: asyncio sets TCP_NODELAY on no others.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)
    config = uvicorn.Config(make_server().streamable_http_app(), log_level="error", access_log=False)
    server = uvicorn.Server(config)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        server.should_exit = True


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        anyio.run(serve)
    else:
        anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
