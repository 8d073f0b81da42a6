"""trio_mcp's client of the task benchmark: `python trio_mcp_task_worker.py stdio|memory PROTOCOL`.

Each line of stdin asks for one measurement (`results N`, `followed N` or `records N`), and each line of
stdout is its sample as JSON.
"""

import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio
from tally import MESSAGE
from trio_mcp_task_server import make_server

from trio_mcp import Client, open_client

SERVER = Path(__file__).with_name("trio_mcp_task_server.py")
REPORTS = 20
LAST = (REPORTS, REPORTS, MESSAGE)
WARM_UPS = 200


async def run_at_once(n: int, run: Callable[[], Any]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(run)


async def results(client: Client, n: int) -> dict[str, Any]:
    """Create n tasks at once and wait for the result of each."""
    count = 0

    async def run() -> None:
        nonlocal count
        task = await client.call_tool("count", {"n": REPORTS}, task=True)
        result = await task.result()
        count += result.data == REPORTS

    return await timed(client, n, run, lambda: {"count": count, "correct": True})


async def followed(client: Client, n: int) -> dict[str, Any]:
    """The same with a progress handler for each: progress grows, and the last update precedes the result."""
    count = updates = 0
    correct = True

    async def run() -> None:
        nonlocal count, updates, correct
        seen: list[Any] = []
        task = await client.call_tool(
            "count", {"n": REPORTS}, task=True, progress_handler=lambda *update: seen.append(update)
        )
        result = await task.result()
        count += result.data == REPORTS
        updates += len(seen)
        steps = [progress for progress, _, _ in seen]
        correct = correct and seen[-1:] == [LAST] and steps == sorted(set(steps))

    return await timed(client, n, run, lambda: {"count": count, "correct": correct, "updates": updates})


async def timed(
    client: Client, n: int, run: Callable[[], Any], checked: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    cpu = (await client.call_tool("cpu")).data
    start = time.perf_counter()
    await run_at_once(n, run)
    seconds = time.perf_counter() - start
    cpu = (await client.call_tool("cpu")).data - cpu
    return {"seconds": seconds, "late": 0, "cpu": cpu, **checked()}


async def records(client: Client, n: int) -> dict[str, Any]:
    """The bytes that remain of a task when its result was taken; over memory, where a client adds none."""
    await results(client, WARM_UPS)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    sample = await results(client, n)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {**sample, "bytes": (after - before) / n}


async def main(transport: str, protocol: str) -> None:
    target = make_server() if transport == "memory" else [sys.executable, str(SERVER)]
    measurements = {"results": results, "followed": followed, "records": records}
    async with open_client(target, protocol=protocol) as client:
        versions = {"trio-mcp": version("trio-mcp"), "trio": version("trio")}
        print(json.dumps({"versions": versions, "protocol": client.protocol_version}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await measurements[name](client, int(n))), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
