"""The official SDK's client, kept connected: `python sdk_worker.py stdio|memory|http asyncio|trio`.

It takes what `trio_mcp_worker.py` takes, and answers in the same way.
"""

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters
from sdk_server import make_server
from tally import FAN_CALLS, Tally

SERVER = Path(__file__).with_name("sdk_server.py")
LATE_DEADLINE = 30


async def burst(client: Client, n: int) -> dict[str, Any]:
    complete = anyio.Event()
    tally = Tally(n, complete.set)
    start = time.perf_counter()
    result = await client.call_tool("burst", {"n": n}, progress_callback=tally.update)
    returned_at = time.perf_counter()
    assert result.content[0].text == "done"
    late = n - tally.count
    # The SDK starts a task for each callback, and these may still run when the call has returned.
    with anyio.move_on_after(LATE_DEADLINE):
        await complete.wait()
    return {
        "seconds": max(returned_at, tally.finished_at) - start,
        "count": tally.count,
        "correct": tally.correct,
        "late": late,
    }


async def echo(client: Client, n: int) -> dict[str, Any]:
    texts = [f"text {i}" for i in range(n)]
    start = time.perf_counter()
    answers = [(await client.call_tool("echo", {"text": text})).content[0].text for text in texts]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "count": len(answers), "correct": answers == texts, "late": 0}


async def fan(client: Client, n: int) -> dict[str, Any]:
    """Calls at once that report `n` updates in all."""
    tallies: list[Tally] = []
    missing = anyio.Event()

    def complete() -> None:
        if all(tally.finished_at for tally in tallies):
            missing.set()

    async def call(tally: Tally) -> None:
        await client.call_tool("burst", {"n": tally.expected}, progress_callback=tally.update)

    tallies += [Tally(n // FAN_CALLS, complete) for _ in range(FAN_CALLS)]
    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for tally in tallies:
            tasks.start_soon(call, tally)
    returned_at = time.perf_counter()
    late = n - sum(tally.count for tally in tallies)
    with anyio.move_on_after(LATE_DEADLINE):
        await missing.wait()
    return {
        "seconds": max(returned_at, *(tally.finished_at for tally in tallies)) - start,
        "count": sum(tally.count for tally in tallies),
        "correct": all(tally.correct for tally in tallies),
        "late": late,
    }


def start_server() -> str:
    """Start the server over HTTP, which ends with this process, and return its URL."""
    command = [sys.executable, str(SERVER), "http"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server.stdout.readline().strip()


async def main(target: Any) -> None:
    measurements = {"burst": burst, "fan": fan, "echo": echo}
    # Its default mode, which is its fastest in memory: calls are dispatched without any framing.
    async with Client(target) as client:
        versions = {"mcp": version("mcp"), "anyio": version("anyio"), "trio": version("trio")}
        print(json.dumps({"versions": versions, "protocol": client.protocol_version}), flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await measurements[name](client, int(n))), flush=True)


if __name__ == "__main__":
    _, transport, backend = sys.argv
    stdio = StdioServerParameters(command=sys.executable, args=[str(SERVER), backend])
    targets = {"stdio": lambda: stdio, "memory": make_server, "http": start_server}
    anyio.run(main, targets[transport](), backend=backend)
