"""trio_mcp's client of tasks in a store: `python trio_mcp_store_worker.py stdio|queue URL`.

With `stdio` one server runs the tasks. With `queue` the server of this process only queues them, and a worker
process runs them. It understands `results N`, `followed N`, `updates N` and `queued N`, and answers as
`trio_mcp_task_worker.py` does.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio
from lifeline import run_beside
from trio_mcp_store_server import make_store_server
from trio_mcp_task_worker import followed, results, timed

from trio_mcp import Client, open_client, open_server

SERVER = Path(__file__).with_name("trio_mcp_store_server.py")
UPDATING = 10


async def queued(client: Client, n: int) -> dict[str, Any]:
    """Create n tasks at once that report nothing, and wait for the result of each."""
    return await run_tasks(client, n, 0)


async def updates(client: Client, n: int) -> dict[str, Any]:
    """Ten tasks at once that together report n updates, and wait for the result of each."""
    sample = await run_tasks(client, UPDATING, n // UPDATING)
    return {**sample, "count": sample["count"] * (n // UPDATING)}


async def run_tasks(client: Client, n: int, reports: int) -> dict[str, Any]:
    count = 0

    async def run() -> None:
        nonlocal count
        task = await client.call_tool("count", {"n": reports}, task=True)
        result = await task.result()
        count += result.data == reports

    return await timed(client, n, run, lambda: {"count": count, "correct": True})


@asynccontextmanager
async def connect(transport: str, url: str) -> AsyncIterator[Client]:
    if transport == "stdio":
        async with open_client([sys.executable, str(SERVER), "stdio", url]) as client:
            yield client
        return
    with run_beside([sys.executable, str(SERVER), "worker", url]):
        async with (
            open_server(make_store_server(url), runs_tasks=False) as server,
            open_client(server) as client,
        ):
            yield client


async def main(transport: str, url: str) -> None:
    measurements = {"results": results, "followed": followed, "updates": updates, "queued": queued}
    async with connect(transport, url) as client:
        versions = {"trio-mcp": version("trio-mcp"), "trio": version("trio")}
        print(json.dumps({"versions": versions, "protocol": client.protocol_version}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await measurements[name](client, int(n))), flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
