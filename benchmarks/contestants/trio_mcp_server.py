"""The benchmark's server, made with trio_mcp: `python trio_mcp_server.py [http] [strict] [at-once]`.

`sdk_server.py` has the same tools. Over HTTP it prints the URL of its endpoint, and serves until its
standard input ends. If strict, each report is a schedule point. If at-once, the writer never waits for
further messages, which shows what waiting costs.
"""

import os
import sys
from functools import partial

import trio
from tally import report_burst, report_paced
from trio_mcp_loops import add_loops

from trio_mcp import Context, Lossless, Server, ServerSettings
from trio_mcp.outgoing import outbox


def make_server(*, strict: bool = False) -> Server:
    # Lossless, because the rivals have no other policy: every update of the burst has to arrive.
    settings = ServerSettings(progress=Lossless(), strict_yield=strict)
    server = Server("benchmark", version="1.0", settings=settings)

    @server.tool
    async def burst(n: int, ctx: Context) -> str:
        """Report n updates in a tight loop."""
        await report_burst(ctx.report_progress, n)
        return "done"

    @server.tool
    async def paced(n: int, rate: float, ctx: Context) -> str:
        """Report n updates at `rate` a second, each with the time."""
        await report_paced(ctx.report_progress, trio.sleep, n, rate)
        return "done"

    @server.tool
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    @server.tool
    async def pid() -> str:
        """Return the number of this process."""
        return str(os.getpid())

    add_loops(server)
    return server


async def serve(server: Server) -> None:
    from trio_mcp import serve_http  # a server on stdio starts without it

    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        print(url, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if "at-once" in sys.argv[1:]:
        outbox.QUIET_ROUNDS = 0  # type: ignore[misc]
    chosen = make_server(strict="strict" in sys.argv[1:])
    if "http" in sys.argv[1:]:
        trio.run(serve, chosen)
    else:
        chosen.run()
