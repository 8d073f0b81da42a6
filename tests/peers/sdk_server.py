"""A stdio server made with the official SDK: `python sdk_server.py [asyncio|trio]`.

`our_server.py` is its twin: the same tools, made with trio_mcp.
"""

import sys
import warnings
from collections import defaultdict

import anyio
from mcp import MCPDeprecationWarning
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError


def make_server() -> MCPServer:
    server = MCPServer("sdk-server", version="1.0", log_level="ERROR")
    slow_cancelled: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    @server.tool()
    async def loop(n: int, ctx: Context) -> str:
        """Report n progress updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, f"update {i + 1}")
        return f"looped {n}"

    @server.tool()
    async def slow(seconds: float, ctx: Context, key: str = "") -> str:
        """Say that it has started, then sleep; `key` tells one call from another."""
        await ctx.report_progress(0, message="started")
        try:
            await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            slow_cancelled[key].set()
            raise
        return "slept"

    @server.tool()
    async def wait_cancelled(key: str = "") -> str:
        """Return once the call of slow() with that key has been cancelled here, in the server."""
        await slow_cancelled[key].wait()
        return "cancelled"

    @server.tool()
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    @server.tool()
    async def fail() -> str:
        """Fail, and say so."""
        raise ToolError("failed on purpose")

    @server.tool()
    async def log(text: str, ctx: Context) -> str:
        """Log the text at level info."""
        # Logging is deprecated from 2026-07-28 on, but still part of the protocol.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            await ctx.info(text)
        return "logged"

    return server


async def main() -> None:
    await make_server().run_stdio_async()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
