"""The server of `our_task_server.py` over HTTP, until its standard input, a pipe, ends."""

import sys
from functools import partial

import trio
from our_task_server import make_server

from trio_mcp import serve_http


async def main() -> None:
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, make_server(), bind="127.0.0.1:0"))
        print(url, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
