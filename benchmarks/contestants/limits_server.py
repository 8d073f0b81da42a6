"""The benchmark's server on a network: `python limits_server.py http|websocket`.

`http` is trio_mcp on hypercorn, which accepts WebSockets too; `websocket` is trio_mcp's own WebSocket server.
It prints its URL, and serves until its standard input ends. Each line of that asks how much memory this
process holds, and how many calls of `park` wait.
"""

import sys
from functools import partial

import attrs
import trio
from sessions_footprint import answer_questions
from tally import MESSAGE
from trio_mcp_server import make_server

from trio_mcp import Context, HttpSettings, serve_http, serve_websocket

MOST = 4096
"""The limit of connections and of sessions, which all come from one address; no cell opens as many."""


@attrs.define
class Parking:
    """Calls that have reported once and wait for ever."""

    count: int = 0

    async def park(self, n: int, ctx: Context) -> str:
        """Report once, then wait until cancelled."""
        await ctx.report_progress(1, n, MESSAGE)
        self.count += 1
        try:
            await trio.sleep_forever()
        finally:
            self.count -= 1
        return "never"


async def main(kind: str) -> None:
    server, parking = make_server(), Parking()
    server.tool(parking.park)
    settings = HttpSettings(
        max_streams_per_peer=MOST, max_sessions=MOST, max_sessions_per_peer=MOST, keep_alive=600
    )
    serve = {
        "http": partial(serve_http, server, bind="127.0.0.1:0", settings=settings),
        "websocket": partial(serve_websocket, server, max_connections=MOST, max_connections_per_peer=MOST),
    }[kind]
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve)
        print(url, flush=True)
        await answer_questions(lambda: parking.count)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
