"""A Streamable HTTP server made with FastMCP, for our client to call.

It prints the URL of its endpoint, and serves until its standard input ends. It has the tools of
`our_server.py` that need nothing of the other implementations, and one whose progress decreases.
"""

import logging
from collections import defaultdict

import anyio
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from listening import serve


def make_server() -> FastMCP:
    server = FastMCP("fastmcp-server", version="1.0")
    slow_cancelled: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    @server.tool
    async def loop(n: int, ctx: Context) -> str:
        """Report n progress updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, f"update {i + 1}")
        return f"looped {n}"

    @server.tool
    async def slow(seconds: float, ctx: Context, key: str = "") -> str:
        """Say that it has started, then sleep; `key` tells one call from another."""
        await ctx.report_progress(0, message="started")
        try:
            await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            slow_cancelled[key].set()
            raise
        return "slept"

    @server.tool
    async def wait_cancelled(key: str = "") -> str:
        """Return once the call of slow() with that key has been cancelled here, in the server."""
        await slow_cancelled[key].wait()
        return "cancelled"

    @server.tool
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    @server.tool
    async def fail() -> str:
        """Fail, and say so."""
        raise ToolError("failed on purpose")

    @server.tool
    async def detour(ctx: Context) -> str:
        """Report a number, a smaller one, and the first again, twice."""
        for progress in (60, 10, 60, 60):
            await ctx.report_progress(progress, 100)
        return "arrived"

    return server


if __name__ == "__main__":
    # It logs what tools raise, also on purpose.
    logging.getLogger("fastmcp").setLevel(logging.CRITICAL)
    anyio.run(serve, make_server().http_app(path="/mcp"), "/mcp")
