"""The benchmark's server, made with the official SDK: `python sdk_server.py [asyncio|trio]`.

`trio_mcp_server.py` is its twin.
"""

import sys

import anyio
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


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
