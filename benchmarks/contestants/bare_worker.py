"""The client of `bare_server.py`, kept connected: `python bare_worker.py stdio|http`.

It understands `paced-RATE N`, and answers as `trio_mcp_worker.py` does.
"""

import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import trio
from measurements import start_server
from tally import Stopwatch

SERVER = str(Path(__file__).with_name("bare_server.py"))

decode = msgspec.json.Decoder().decode
Receive = Callable[[bytes], Awaitable[None]]
Ask = Callable[[int, float, Receive], Awaitable[None]]


class Splitter:
    """Splits chunks into whole messages, and passes each on."""

    def __init__(self, end: bytes, receive: Receive) -> None:
        self.count = 0
        self._end = end
        self._receive = receive
        self._rest = b""

    async def feed(self, chunk: bytes) -> None:
        *messages, self._rest = (self._rest + chunk).split(self._end)
        for message in messages:
            self.count += 1
            await self._receive(message)


async def serve_stdio(answer: Callable[[Ask], Awaitable[None]]) -> None:
    command = [sys.executable, SERVER]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pipes = process.stdio
    assert pipes is not None

    async def ask(n: int, rate: float, receive: Receive) -> None:
        splitter = Splitter(b"\n", receive)
        await pipes.send_all(f"{n} {rate}\n".encode())
        while splitter.count < n:
            await splitter.feed(await pipes.receive_some())

    await answer(ask)
    await pipes.aclose()
    await process.wait()


async def serve_http(answer: Callable[[Ask], Awaitable[None]]) -> None:
    url = start_server(sys.executable, SERVER, "http")
    async with httpx2.AsyncClient() as client:

        async def ask(n: int, rate: float, receive: Receive) -> None:
            splitter = Splitter(b"\n\n", receive)
            async with client.stream("GET", f"{url}/{n}/{rate}") as response:
                async for chunk in response.aiter_raw():
                    await splitter.feed(chunk)

        await answer(ask)


async def measure(ask: Ask, n: int, rate: float) -> dict[str, Any]:
    stopwatch = Stopwatch(n, lambda: None)

    async def receive(message: bytes) -> None:
        params = decode(message.removeprefix(b"data: "))["params"]
        await stopwatch.update(params["progress"], params["total"], params["message"])

    start = time.perf_counter()
    await ask(n, rate, receive)
    return {
        "seconds": time.perf_counter() - start,
        "count": stopwatch.count,
        "correct": stopwatch.correct,
        "late": 0,
        **stopwatch.percentiles(),
    }


async def answer_requests(ask: Ask) -> None:
    print(json.dumps({"versions": {"hypercorn": version("hypercorn")}, "protocol": ""}), flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        what, n = line.split()
        rate = float(what.partition("-")[2])
        print(json.dumps(await measure(ask, int(n), rate)), flush=True)


if __name__ == "__main__":
    trio.run({"stdio": serve_stdio, "http": serve_http}[sys.argv[1]], answer_requests)
