"""Messages on two streams of one client over HTTP are delivered in the order in which they were sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from trio_mcp import open_client
from trio_mcp.transports.http.pending_request import CATCH_UP_ROUNDS, let_read
from trio_mcp.transports.http.response import HttpResponse

SERVER = """
import sys
from functools import partial
import trio
from trio_mcp import Context, Server, serve_http

server = Server("count")

@server.tool(task=True)
async def count(ctx: Context, n: int) -> None:
    for i in range(1, n + 1):
        await ctx.report_progress(i, n)
        await trio.sleep(0)

async def main():
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        print(url, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@contextmanager
def serving() -> Iterator[str]:
    """Serve in another process, so that two streams may have data at once when the client reads."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


async def test_a_task_s_progress_is_in_order_although_it_changes_streams():
    """It moves from the session's stream to that of the requested result (MCP tasks 2025-11-25)."""
    expected = list(range(1, 21))
    with serving() as url:
        async with open_client(url, protocol="2025-11-25") as client:

            async def run() -> None:
                seen: list[float] = []
                task = await client.call_tool(
                    "count", {"n": 20}, task=True, progress_handler=lambda p, *_: seen.append(p)
                )
                await task.result()
                assert seen == expected

            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    for _ in range(50):
                        nursery.start_soon(run)


@pytest.mark.parametrize("rounds", [0, 3])
async def test_one_stream_waits_until_the_other_is_read(rounds):
    unread = rounds

    async def read() -> None:
        nonlocal unread
        while unread:
            await trio.lowlevel.checkpoint()
            unread -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await let_read(HttpResponse(200, "OK", {}, iter(()), 0, lambda: unread > 0))
        assert not unread


async def test_one_stream_does_not_wait_forever():
    looks = 0

    def has_unread() -> bool:
        nonlocal looks
        looks += 1
        return True

    await let_read(HttpResponse(200, "OK", {}, iter(()), 0, has_unread))
    assert looks == CATCH_UP_ROUNDS
    await let_read(None)
