"""Trio as a guest of asyncio: an MCP server and a client in a program that runs asyncio.

The same call works for any event loop that can run a function soon from another thread, such
as that of a GUI toolkit: see `trio.lowlevel.start_guest_run`. It prints:

    asyncio: the guest serves
    trio: 3 photos resized
    asyncio: its own task went on
    asyncio: the guest has ended
"""

import asyncio
from collections.abc import Callable
from functools import partial

import trio
from outcome import Outcome

from trio_mcp import Context, Server, open_client, serve_http

server = Server("photos")


@server.tool
async def resize(ctx: Context, photos: int) -> str:
    """Resize photos, one after the other."""
    for done in range(1, photos + 1):
        await trio.sleep(0.02)  # the real work goes here
        await ctx.report_progress(done, photos)
    return f"{photos} photos resized"


async def guest(say_serving: Callable[[], object]) -> None:
    """Run the server and a client, on Trio."""
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        say_serving()
        async with open_client(url) as client:
            print("trio:", (await client.call_tool("resize", {"photos": 3})).data)
        nursery.cancel_scope.cancel()


async def main() -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome[None]] = loop.create_future()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while not ended.done():
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    trio.lowlevel.start_guest_run(
        guest,
        partial(print, "asyncio: the guest serves"),
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=ended.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    outcome = await ended
    await ticking
    print("asyncio: its own task went on" if ticks > 3 else f"asyncio: only {ticks} ticks")
    outcome.unwrap()  # raises the guest's exception
    print("asyncio: the guest has ended")


if __name__ == "__main__":
    asyncio.run(main())
