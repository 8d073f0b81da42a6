"""Serves a program of docs/examples/moved: `python bookshop.py fastmcp_server|trio_mcp_server`.

It prints the URL of the endpoint, and serves until its standard input ends.
"""

import importlib
import logging
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples" / "moved"))


async def serve_fastmcp(program: Any) -> None:
    from listening import serve

    await serve(program.mcp.http_app(path="/mcp"), "/mcp")


async def serve_trio_mcp(program: Any) -> None:
    import trio

    from trio_mcp import serve_http

    async with trio.open_nursery() as nursery:
        options = {"bind": "127.0.0.1:0", "auth": program.auth}
        (url,) = await nursery.start(partial(serve_http, program.mcp, **options))
        print(url, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    name = sys.argv[1]
    program = importlib.import_module(name)
    # The tests expect an empty stderr, and make calls fail.
    logging.getLogger("fastmcp").setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    if name.startswith("fastmcp"):
        import anyio

        anyio.run(serve_fastmcp, program)
    else:
        import trio

        trio.run(serve_trio_mcp, program)
