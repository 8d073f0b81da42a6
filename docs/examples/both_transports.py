"""HTTP and WebSocket at once, with one set of background tasks.

The client on HTTP starts a task, the client on WebSocket watches it to its end: both
transports serve the same running server. In protocol 2026-07-28 a client that has the id of
a task may see the task, on any connection. It prints:

    made over http: working
    watched over ws: completed 3/3
    result over http: 3 films encoded
"""

from functools import partial

import trio

from trio_mcp import Context, Server, TaskConfig, open_client, open_server, serve_http, serve_websocket

server = Server("films")
is_watched = trio.Event()


@server.tool(task=TaskConfig(mode="required"))
async def encode(ctx: Context, films: int) -> str:
    """Encode films, one after the other."""
    await is_watched.wait()
    for done in range(1, films + 1):
        await trio.sleep(0.01)  # the real work goes here
        await ctx.report_progress(done, films)
    return f"{films} films encoded"


async def main() -> None:
    async with open_server(server) as running, trio.open_nursery() as nursery:
        (http_url,) = await nursery.start(partial(serve_http, running, bind="127.0.0.1:0"))
        (ws_url,) = await nursery.start(serve_websocket, running)

        async with open_client(http_url) as one, open_client(ws_url) as other:
            task = await one.call_tool("encode", {"films": 3}, task=True)
            made = await task.status()
            assert made is not None  # this tool is never answered at once
            print("made over http:", made.status)

            last = made
            async with other.watch_task(made.id) as snapshots:
                async for snapshot in snapshots:
                    is_watched.set()
                    last = snapshot
            print("watched over ws:", last.status, f"{last.current}/{last.total}")

            print("result over http:", (await task.result()).data)

        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
