"""A server made with trio_mcp whose lists and resources change; over stdio, or with the argument `http`.

Over HTTP it prints the URL of its endpoint, and serves until its standard input, a pipe, ends.
"""

import sys
from functools import partial

import trio

from trio_mcp import Context, Server
from trio_mcp.server.http import serve_http

server = Server("our-changing", version="1.0")


@server.tool
def hidden() -> str:
    """Be listed only if somebody shows it."""
    return "seen"


server.disable(tools="hidden")


@server.resource("config://app")
async def config() -> str:
    return "debug = true"


@server.tool
async def show(ctx: Context) -> str:
    """Show the tool that is hidden."""
    ctx.server.enable(tools="hidden")
    return "shown"


@server.tool
async def touch() -> str:
    """Change the resource."""
    server.notify_resource_updated("config://app")
    return "touched"


async def serve() -> None:
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        print(url, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        trio.run(serve)
    else:
        server.run()
