"""Starlette on Trio, with the MCP server in its lifespan and the endpoint below a mount.

Starlette does not run the lifespan of a mounted application, so this one opens the MCP server
in its own. The mount is /tools, so the endpoint is /tools/mcp, for HTTP and for WebSocket. To
serve it with hypercorn's command: `hypercorn -k trio starlette_app:app`. It prints:

    GET /: a page
    resize over http: 2 photos resized
    resize over ws: 3 photos resized
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx2
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from trio_mcp import Context, Server, asgi_app, open_client, open_server
from trio_mcp.transports.hypercorn import serve_asgi

server = Server("photos")


@server.tool
async def resize(ctx: Context, photos: int) -> str:
    """Resize photos, one after the other."""
    for done in range(1, photos + 1):
        await ctx.report_progress(done, photos)
    return f"{photos} photos resized"


async def index(request: Request) -> PlainTextResponse:
    return PlainTextResponse("a page")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with open_server(server) as running:
        app.routes.append(Mount("/tools", asgi_app(running)))
        yield


app = Starlette(routes=[Route("/", index)], lifespan=lifespan)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        (origin,) = await nursery.start(partial(serve_asgi, app, bind="127.0.0.1:0"))
        async with httpx2.AsyncClient(base_url=origin) as browser:
            print("GET /:", (await browser.get("/")).text)
        async with open_client(f"{origin}/tools/mcp") as client:
            print("resize over http:", (await client.call_tool("resize", {"photos": 2})).data)
        async with open_client(f"{origin}/tools/mcp".replace("http", "ws", 1)) as client:
            print("resize over ws:", (await client.call_tool("resize", {"photos": 3})).data)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
