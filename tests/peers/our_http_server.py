"""An HTTP and WebSocket server made with trio_mcp, for the clients of other implementations to call.

It prints the URL of its endpoint, and serves until its standard input, a pipe, ends. It has the
tools of `our_server.py`.
"""

import sys
from functools import partial

import trio
from our_server import make_server

from trio_mcp.server.asgi import asgi_app
from trio_mcp.transports.hypercorn import serve_asgi


async def main() -> None:
    async with trio.open_nursery() as nursery:
        app = asgi_app(make_server())
        (url,) = await nursery.start(partial(serve_asgi, app, bind="127.0.0.1:0", on_shutdown=app.shut_down))
        print(url + "/mcp", flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
