"""FastMCP's client of the task benchmark: `python fastmcp_task_worker.py stdio|memory [URL]`.

Tasks are kept in memory, or in the Redis server of the URL. It understands `results N` and `updates N`, and
answers as `trio_mcp_task_worker.py` and `trio_mcp_store_worker.py` do.
"""

import asyncio
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp_task_server import IN_MEMORY, make_server
from fastmcp_tasks import call_tool_task

SERVER = Path(__file__).with_name("fastmcp_task_server.py")
REPORTS = 20


UPDATING = 10


async def results(client: Client, n: int) -> dict[str, Any]:
    """Create n tasks at once and wait for the result of each."""
    sample = await run_tasks(client, n, REPORTS)
    return {**sample, "correct": True}


async def updates(client: Client, n: int) -> dict[str, Any]:
    """Ten tasks at once that together report n updates, and wait for the result of each."""
    sample = await run_tasks(client, UPDATING, n // UPDATING)
    return {**sample, "count": sample["count"] * (n // UPDATING), "correct": True}


async def run_tasks(client: Client, n: int, reports: int) -> dict[str, Any]:
    count = 0

    async def run() -> None:
        nonlocal count
        task = await call_tool_task(client, "count", {"n": reports})
        result = await task.result()
        count += result.data == reports

    cpu = (await client.call_tool("cpu")).data
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(n):
            group.create_task(run())
    seconds = time.perf_counter() - start
    cpu = (await client.call_tool("cpu")).data - cpu
    return {"seconds": seconds, "late": 0, "cpu": cpu, "count": count}


async def main(transport: str, url: str = IN_MEMORY) -> None:
    target = make_server(url) if transport == "memory" else StdioTransport(sys.executable, [str(SERVER), url])
    measurements = {"results": results, "updates": updates}
    async with Client(target) as client:
        versions = {name: version(name) for name in ("fastmcp", "fastmcp-tasks", "pydocket")}
        protocol = client.session.protocol_version
        print(json.dumps({"versions": versions, "protocol": protocol}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await measurements[name](client, int(n))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
