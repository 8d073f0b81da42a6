"""A Quart-Trio application with its own routes, and the MCP endpoint beside them.

Quart-Trio is an ASGI application like the MCP endpoint. `Site` sends each request to
one of them by its path, and the MCP server runs in the lifespan of Quart-Trio. To serve it
with hypercorn's command: `hypercorn -k trio quart_trio_app:site`. It prints:

    GET /: 0 visits before this one
    resize: 2 photos resized, 1 visits
    POST /elsewhere: 404
"""

from functools import partial
from typing import Any

import httpx2
import trio
from quart_trio import QuartTrio

from trio_mcp import AsgiApp, Context, Server, asgi_app, open_client, open_server
from trio_mcp.transports.hypercorn import serve_asgi

server = Server("photos")
pages = QuartTrio(__name__)
visits = 0


@server.tool
async def resize(ctx: Context, photos: int) -> str:
    """Resize photos; the tool shares its state with the pages."""
    for done in range(1, photos + 1):
        await ctx.report_progress(done, photos)
    return f"{photos} photos resized, {visits} visits"


@pages.get("/")
async def index() -> str:
    global visits
    visits += 1
    return f"{visits - 1} visits before this one"


class Site:
    """Sends /mcp to the MCP endpoint, and all other paths and the lifespan to Quart-Trio."""

    mcp: AsgiApp

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            async with open_server(server) as running:
                self.mcp = asgi_app(running)
                await pages(scope, receive, send)
        elif scope["path"] == "/mcp":
            await self.mcp(scope, receive, send)
        else:
            await pages(scope, receive, send)


site = Site()


async def main() -> None:
    async with trio.open_nursery() as nursery:
        (origin,) = await nursery.start(partial(serve_asgi, site, bind="127.0.0.1:0"))
        async with httpx2.AsyncClient(base_url=origin) as browser:
            print("GET /:", (await browser.get("/")).text)
            async with open_client(f"{origin}/mcp") as client:
                print("resize:", (await client.call_tool("resize", {"photos": 2})).data)
            print("POST /elsewhere:", (await browser.post("/elsewhere")).status_code)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
