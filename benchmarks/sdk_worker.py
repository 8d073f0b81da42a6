"""The official SDK's client, kept connected: `python sdk_worker.py stdio|memory asyncio|trio`.

It takes what `trio_mcp_worker.py` takes, and answers in the same way.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters
from sdk_server import make_server
from tally import Tally

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


async def main(transport: str, backend: str) -> None:
    stdio = StdioServerParameters(command=sys.executable, args=[str(SERVER), backend])
    measurements = {"burst": burst, "echo": echo}
    # Its default mode, which is its fastest in memory: calls are dispatched without any framing.
    async with Client(make_server() if transport == "memory" else stdio) as client:
        versions = {"mcp": version("mcp"), "anyio": version("anyio"), "trio": version("trio")}
        print(json.dumps({"versions": versions, "protocol": client.protocol_version}), flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            name, n = line.split()
            print(json.dumps(await measurements[name](client, int(n))), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], backend=sys.argv[2])
