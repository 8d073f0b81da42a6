"""The benchmark's server, made with the official SDK's 1.x line: `python sdk1_server.py [http]`.

`trio_mcp_server.py` has the same tools.
"""

import os
import sys

import anyio
from mcp.server.fastmcp import Context, FastMCP
from tally import report_burst, report_paced, time_reports
from uvicorn_serving import serve_app


def make_server() -> FastMCP:
    server = FastMCP("benchmark", log_level="ERROR")

    @server.tool()
    async def burst(n: int, ctx: Context) -> str:
        """Report n updates in a tight loop."""
        await report_burst(ctx.report_progress, n)
        return "done"

    @server.tool()
    async def paced(n: int, rate: float, ctx: Context) -> str:
        """Report n updates at `rate` a second, each with the time."""
        await report_paced(ctx.report_progress, anyio.sleep, n, rate)
        return "done"

    @server.tool()
    async def reports(n: int, ctx: Context) -> str:
        """Report n updates in a tight loop, and return its processor time."""
        return await time_reports(ctx.report_progress, n)

    @server.tool()
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    @server.tool()
    async def pid() -> str:
        """Return the number of this process."""
        return str(os.getpid())

    return server


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        anyio.run(serve_app, make_server().streamable_http_app())
    else:
        anyio.run(make_server().run_stdio_async)
