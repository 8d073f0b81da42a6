"""trio_mcp's client, kept connected: `python trio_mcp_worker.py stdio|memory`.

Each line of stdin asks for one measurement (`burst N` or `echo N`), each line of stdout is its
sample as JSON. So rounds can alternate with the SDK's without paying for a start each time.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio
from tally import Tally
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


async def main(transport: str) -> None:
    target = make_server() if transport == "memory" else [sys.executable, str(SERVER)]
    measurements = {"burst": burst, "echo": echo}
    async with open_client(target, settings=ClientSettings(progress=Lossless())) as client:
        versions = {"trio-mcp": version("trio-mcp"), "trio": version("trio")}
        print(json.dumps({"versions": versions, "protocol": client.protocol_version}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await measurements[name](client, int(n))), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
