"""trio_mcp's client, kept connected: `python trio_mcp_worker.py stdio|memory|http`.

Each line of stdin asks for one measurement (`burst N`, `fan N` or `echo N`), each line of stdout is its
sample as JSON. So rounds can alternate with the SDK's without paying for a start each time.
"""

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio
from tally import FAN_CALLS, Tally
from trio_mcp_server import make_server

from trio_mcp import Client, ClientSettings, Lossless, open_client

SERVER = Path(__file__).with_name("trio_mcp_server.py")
LATE_DEADLINE = 30


async def burst(client: Client, n: int) -> dict[str, Any]:
    complete = trio.Event()
    tally = Tally(n, complete.set)
    start = time.perf_counter()
    result = await client.call_tool("burst", {"n": n}, progress_handler=tally.update)
    returned_at = time.perf_counter()
    assert result.text == "done"
    late = n - tally.count
    # An update that came after the result would be counted here as the SDK's are, and shown as late.
    with trio.move_on_after(LATE_DEADLINE):
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
    answers = [(await client.call_tool("echo", {"text": text})).text for text in texts]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "count": len(answers), "correct": answers == texts, "late": 0}


async def fan(client: Client, n: int) -> dict[str, Any]:
    """Calls at once that report `n` updates in all."""
    tallies: list[Tally] = []
    missing = trio.Event()

    def complete() -> None:
        if all(tally.finished_at for tally in tallies):
            missing.set()

    async def call(tally: Tally) -> None:
        await client.call_tool("burst", {"n": tally.expected}, progress_handler=tally.update)

    tallies += [Tally(n // FAN_CALLS, complete) for _ in range(FAN_CALLS)]
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for tally in tallies:
            nursery.start_soon(call, tally)
    returned_at = time.perf_counter()
    late = n - sum(tally.count for tally in tallies)
    with trio.move_on_after(LATE_DEADLINE):
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
    async with open_client(target, settings=ClientSettings(progress=Lossless())) as client:
        versions = {"trio-mcp": version("trio-mcp"), "trio": version("trio")}
        print(json.dumps({"versions": versions, "protocol": client.protocol_version}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await measurements[name](client, int(n))), flush=True)


if __name__ == "__main__":
    targets = {"stdio": lambda: [sys.executable, str(SERVER)], "memory": make_server, "http": start_server}
    trio.run(main, targets[sys.argv[1]]())
