"""Shows what the Python clients do with slow handlers: `python overlapping_handlers.py PEER TARGET...`.

PEER is mcp or fastmcp, TARGET the command of a stdio server with the tools of `our_server.py`. Each handler
waits until the call has returned, and then for the end of the handler of the next update. It prints how
many had begun and ended when the call returned, and in which order they ended, as one JSON object.
"""

import json
import sys
from typing import Any

import anyio

UPDATES = 5
SECONDS = 60
"""After so long a handler waits no more, so that a client that waits for handlers comes to an end."""


def connect(peer: str, command: str, args: list[str]) -> tuple[Any, str]:
    """A client, and what it calls a progress handler."""
    if peer == "mcp":
        from mcp import Client, StdioServerParameters

        return Client(StdioServerParameters(command=command, args=args)), "progress_callback"
    import fastmcp
    from fastmcp.client.transports import StdioTransport

    return fastmcp.Client(StdioTransport(command, args)), "progress_handler"


async def main(peer: str, command: str, *args: str) -> None:
    returned = anyio.Event()
    ends = [anyio.Event() for _ in range(UPDATES + 1)]
    ends[UPDATES].set()  # no update comes after the last
    begun, ended = 0, []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        nonlocal begun
        begun += 1
        with anyio.move_on_after(SECONDS):
            await returned.wait()
            await ends[int(progress)].wait()
        ended.append(progress)
        ends[int(progress) - 1].set()

    client, name = connect(peer, command, list(args))
    async with client:
        await client.call_tool("echo", {"text": "warm"})
        await client.call_tool("loop", {"n": UPDATES}, **{name: on_progress})
        at_return = {"begun": begun, "ended": len(ended)}
        returned.set()
        with anyio.fail_after(SECONDS):
            await ends[0].wait()
    print(json.dumps({"at_return": at_return, "ended": ended}))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
