"""A server of HTTP+SSE made with the official SDK's 1.x line: `python sdk1_sse_server.py`.

It prints the URL of its event stream, and serves until its standard input ends. It has the tools of
`sdk_server.py` that the tests of HTTP+SSE call.
"""

from collections import defaultdict

import anyio
from listening import serve
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError


async def main() -> None:
    server = FastMCP("sdk1-server", log_level="ERROR")
    slow_cancelled: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    @server.tool()
    async def loop(n: int, ctx: Context) -> str:  # type: ignore[type-arg]  # what it is generic in is not used
        """Report n progress updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, f"update {i + 1}")
        return f"looped {n}"

    @server.tool()
    async def slow(seconds: float, ctx: Context, key: str = "") -> str:  # type: ignore[type-arg]  # what it is generic in is not used
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

    await serve(server.sse_app(), "/sse")


if __name__ == "__main__":
    anyio.run(main)
