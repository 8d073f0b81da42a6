"""Many clients of one server at once, each on a connection of its own: `python sessions_load.py TRANSPORT`.

TRANSPORT is http, websocket (trio_mcp's own server) or hypercorn (its WebSocket). All clients are raw
connections in this one process, so the server is what is measured. `SESSIONSxUPDATES N` receives N updates in
calls of UPDATES each; every session makes the same number of calls. The sessions connect before the clock
starts, and what they received is checked after it has stopped.
"""

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import trio
from limits_connection import Consumer, connect_http, connect_websocket
from limits_messages import PROGRESS, is_burst
from limits_worker import SERVERS, started

CONNECTORS = {"http": connect_http, "websocket": connect_websocket, "hypercorn": connect_websocket}


@asynccontextmanager
async def open_consumers(transport: str, url: str, count: int) -> AsyncIterator[list[Consumer]]:
    async with AsyncExitStack() as stack:
        consumers: list[Consumer] = []
        for _ in range(count):
            consumer = await CONNECTORS[transport](url)
            stack.push_async_callback(consumer.aclose)
            await consumer.burst(1)  # to accept a connection and answer its first call has a cost of its own
            consumers.append(consumer)
        yield consumers


async def load(transport: str, url: str, sessions: int, updates: int, n: int) -> dict[str, Any]:
    calls = n // (sessions * updates)
    received: list[bytes] = []

    async def converse(consumer: Consumer) -> None:
        for _ in range(calls):
            received.append(await consumer.burst(updates))

    async with open_consumers(transport, url, sessions) as consumers:
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for consumer in consumers:
                nursery.start_soon(converse, consumer)
        seconds = time.perf_counter() - start
    count = sum(burst.count(PROGRESS) for burst in received)
    correct = all(is_burst(burst, updates) for burst in received)
    return {"seconds": seconds, "count": count, "correct": correct, "late": 0}


async def main(transport: str, url: str) -> None:
    print(json.dumps({"versions": {"trio": version("trio")}, "protocol": ""}), flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        what, n = line.split()
        sessions, updates = map(int, what.split("x"))
        print(json.dumps(await load(transport, url, sessions, updates, int(n))), flush=True)


if __name__ == "__main__":
    with started(SERVERS[sys.argv[1]]) as address:
        trio.run(main, sys.argv[1], address)
