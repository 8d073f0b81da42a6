"""One side of trio_mcp with another side that costs next to nothing: `python limits_worker.py KIND`.

`consumer-TRANSPORT [COMMAND...]` receives the bytes of our server, or of the server that COMMAND starts,
without decoding them. `client-TRANSPORT` is our client with a server of ready bytes. `websocket` and
`hypercorn` are both sides of ours over the two kinds of WebSocket. It answers as `trio_mcp_worker.py` does.
"""

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio
from limits_connection import Consumer, connect_http, connect_websocket, open_stdio
from limits_messages import PROGRESS, is_burst
from trio_mcp_worker import main as run_client

HERE = Path(__file__).parent


@contextmanager
def started(command: Sequence[str | Path]) -> Iterator[str]:
    """Start a server that prints its URL and ends with its input."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def ours(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(HERE / script), *arguments]


SERVERS = {
    "stdio": ours("trio_mcp_server.py"),
    "http": ours("limits_server.py", "http"),
    "websocket": ours("limits_server.py", "websocket"),
    "hypercorn": ours("limits_server.py", "http"),
}


@asynccontextmanager
async def open_consumer(transport: str, command: Sequence[str | Path]) -> AsyncIterator[Consumer]:
    if transport == "stdio":
        async with open_stdio(command) as consumer:
            yield consumer
        return
    with started(command) as url:
        yield await (connect_http(url) if transport == "http" else connect_websocket(url))


async def consume(transport: str, command: Sequence[str | Path]) -> None:
    async with open_consumer(transport, command) as consumer:
        print(json.dumps({"versions": {"trio": version("trio")}, "protocol": ""}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            n = int(line.split()[1])
            print(json.dumps(await measure(consumer, n)), flush=True)


async def measure(consumer: Consumer, n: int) -> dict[str, Any]:
    await consumer.prepare()
    start = time.perf_counter()
    received = await consumer.burst(n)
    count = received.count(PROGRESS)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "count": count, "correct": is_burst(received, n), "late": 0}


def main(kind: str, command: Sequence[str]) -> None:
    role, _, transport = kind.partition("-")
    if role == "consumer":
        trio.run(consume, transport, command or SERVERS[transport])
    elif kind == "client-stdio":
        trio.run(run_client, ours("limits_prerendered.py", "stdio"))
    elif role == "client":
        with started(ours("limits_prerendered.py", transport)) as url:
            trio.run(run_client, url)
    else:
        with started(SERVERS[kind]) as url:
            trio.run(run_client, url.replace("http:", "ws:"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
