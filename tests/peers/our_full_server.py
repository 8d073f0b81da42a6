"""A server made with trio_mcp that has tools, resources and prompts, over stdio, or over HTTP with `http`.

Over HTTP it prints its URL, and serves until its standard input, a pipe, ends.
"""

import sys
from functools import partial
from typing import Literal

import trio

from trio_mcp import Context, Server, serve_http

server = Server("our-full-server", version="1.0")


@server.tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool
async def count(n: int, ctx: Context) -> str:
    """Count, with progress."""
    for i in range(n):
        await ctx.report_progress(i + 1, n, f"step {i + 1}")
    return f"counted {n}"


@server.resource("config://app")
def config() -> dict[str, int]:
    return {"level": 3}


@server.resource("users://{user_id}/profile")
def profile(user_id: int) -> str:
    return f"user {user_id}"


@server.prompt
def greet(name: str, style: Literal["short", "long"] = "short") -> str:
    """Ask for a greeting."""
    return f"Greet {name}, {style}"


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
