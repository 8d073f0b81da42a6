"""A stdio server made with trio_mcp, for the clients of other implementations to call.

`sdk_server.py` is its twin: the same tools, made with the official SDK.
"""

from collections import defaultdict

import trio

from trio_mcp import Context, Server, ToolError


def make_server() -> Server:
    server = Server("our-server", version="1.0")
    slow_cancelled: defaultdict[str, trio.Event] = defaultdict(trio.Event)

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
            await trio.sleep(seconds)
        except trio.Cancelled:
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
    async def log(text: str, ctx: Context) -> str:
        """Log the text at level info."""
        await ctx.info(text)
        return "logged"

    return server


if __name__ == "__main__":
    make_server().run()
