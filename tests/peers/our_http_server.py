"""A server of HTTP, HTTP+SSE and WebSocket made with trio_mcp, for other implementations to call.

It prints the URL of its endpoint, and serves until its standard input, a pipe, ends. It has the
tools of `our_server.py`.
"""

import sys
from functools import partial

import trio
from our_server import make_server

from trio_mcp.server.http import serve_http


async def main() -> None:
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, make_server(), bind="127.0.0.1:0", sse=True))
        print(url, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
