"""The benchmark's server, made with trio_mcp: `python trio_mcp_server.py [http]`.

`sdk_server.py` is its twin. Over HTTP it prints the URL of its endpoint, and serves until its
standard input ends.
"""

import sys
from functools import partial

import trio
from tally import MESSAGE

from trio_mcp import Context, Lossless, Server, ServerSettings, serve_http


def make_server() -> Server:
    # Lossless, because the SDK is: every update of the burst has to arrive.
    server = Server("benchmark", version="1.0", settings=ServerSettings(progress=Lossless()))

    @server.tool
    async def burst(n: int, ctx: Context) -> str:
        """Report n updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, MESSAGE)
        return "done"

    @server.tool
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    return server


async def serve() -> None:
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, make_server(), bind="127.0.0.1:0"))
        print(url, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        trio.run(serve)
    else:
        make_server().run()
