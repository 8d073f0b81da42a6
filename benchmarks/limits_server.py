"""The benchmark's server on a network: `python limits_server.py http|websocket`.

Over HTTP it is trio_mcp on hypercorn, which takes WebSockets too; `websocket` is the server that
stands alone. It prints its URL, and serves until its standard input ends. Each line of that is a
question to this process: `memory`, how much it holds, or `release`, which lets all calls of `park`
return; each is answered with a line of JSON.
"""

import gc
import json
import re
import sys
from functools import partial
from pathlib import Path

import trio
from trio_mcp_server import make_server

from trio_mcp import Context, HttpSettings, Server, serve_http, serve_websocket

MOST = 4096
"""Connections and sessions, all from one address; more than any cell opens."""


class Parking:
    """Where calls wait."""

    def __init__(self) -> None:
        self.count = 0
        self._released = trio.Event()

    async def wait(self) -> None:
        self.count += 1
        try:
            await self._released.wait()
        finally:
            self.count -= 1

    def release(self) -> None:
        self._released.set()
        self._released = trio.Event()


def add_park(server: Server, parking: Parking) -> None:
    @server.tool
    async def park(n: int, ctx: Context) -> str:
        """Report once, then wait until the calls are released."""
        await ctx.report_progress(1, n, "working")
        await parking.wait()
        return "done"


def memory() -> dict[str, int]:
    """What this process alone holds, in bytes, after a collection."""
    gc.collect()
    rollup = Path("/proc/self/smaps_rollup").read_text()
    private = sum(int(kilobytes) for kilobytes in re.findall(r"Private_\w+:\s+(\d+) kB", rollup))
    return {"bytes": private * 1024}


async def answer_questions(parking: Parking) -> None:
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        if line.strip() == "release":
            parking.release()
            print(json.dumps({}), flush=True)
        else:
            print(json.dumps({**memory(), "parked": parking.count}), flush=True)


async def main(kind: str) -> None:
    server, parking = make_server(), Parking()
    add_park(server, parking)
    settings = HttpSettings(
        max_streams_per_peer=MOST, max_sessions=MOST, max_sessions_per_peer=MOST, keep_alive=600
    )
    serve = {
        "http": partial(serve_http, server, bind="127.0.0.1:0", settings=settings),
        "websocket": partial(
            serve_websocket, server, max_connections=MOST, max_connections_per_peer=MOST
        ),
    }[kind]
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve)
        print(url, flush=True)
        await answer_questions(parking)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
