"""The benchmark's server, made with the official SDK: `python sdk_server.py [asyncio|trio|http]`.

`trio_mcp_server.py` has the same tools.
"""

import os
import sys

import anyio
from mcp.server.mcpserver import Context, MCPServer
from tally import report_burst, report_paced, time_reports
from uvicorn_serving import serve_app


def make_server() -> MCPServer:
    server = MCPServer("benchmark", version="1.0", log_level="ERROR")

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


async def main() -> None:
    await make_server().run_stdio_async()


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        anyio.run(serve_app, make_server().streamable_http_app())
    else:
        anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
