"""A server with one tool that echoes and one that reports, to which tests add their own."""

from __future__ import annotations

from typing import Any

from trio_mcp import Context, Server, ServerSettings


def make_reporting_server(**settings: Any) -> Server:
    """A server with the tools `echo(text)` and `report(count)`, which reports 1 to `count`."""
    server = Server("reporting", settings=ServerSettings(**settings))

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def report(ctx: Context, count: int) -> str:
        for number in range(1, count + 1):
            await ctx.report_progress(number, count)
        return "reported"

    return server
