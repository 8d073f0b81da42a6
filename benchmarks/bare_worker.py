"""The client of `bare_server.py`, kept connected: `python bare_worker.py stdio|http`.

It takes `paced-RATE N` as `trio_mcp_worker.py` does, and answers in the same way.
"""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import httpx2
import msgspec
import trio
from measurements import start_server
from tally import Stopwatch

SERVER = str(Path(__file__).with_name("bare_server.py"))

decode = msgspec.json.Decoder().decode
Ask = Callable[[int, float], AsyncIterator[bytes]]


async def split(chunks: AsyncIterator[bytes], end: bytes) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *parts, rest = (rest + chunk).split(end)
        for part in parts:
            yield part


async def serve_stdio(answer: Callable[[Ask], Awaitable[None]]) -> None:
    command = [sys.executable, SERVER]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    lines = split(process.stdout, b"\n")

    async def ask(n: int, rate: float) -> AsyncIterator[bytes]:
        assert process.stdin is not None
        await process.stdin.send_all(f"{n} {rate}\n".encode())
        for _ in range(n):
            yield await anext(lines)

    await answer(ask)
    await process.stdin.aclose()
    await process.wait()


async def serve_http(answer: Callable[[Ask], Awaitable[None]]) -> None:
    url = start_server(sys.executable, SERVER, "http")
    async with httpx2.AsyncClient() as client:

        async def ask(n: int, rate: float) -> AsyncIterator[bytes]:
            async with client.stream("GET", f"{url}/{n}/{rate}") as response:
                async for event in split(response.aiter_raw(), b"\n\n"):
                    yield event.removeprefix(b"data: ")

        await answer(ask)


async def answer_requests(ask: Ask) -> None:
    print(json.dumps({"versions": {"hypercorn": version("hypercorn")}, "protocol": ""}), flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        what, n = line.split()
        rate = float(what.partition("-")[2])
        stopwatch = Stopwatch(int(n), lambda: None)
        start = trio.current_time()
        async for message in ask(int(n), rate):
            params = decode(message)["params"]
            await stopwatch.update(params["progress"], params["total"], params["message"])
        sample = {"count": stopwatch.count, "correct": stopwatch.correct, "late": 0}
        seconds = trio.current_time() - start
        print(json.dumps({"seconds": seconds, **sample, **stopwatch.percentiles()}), flush=True)


if __name__ == "__main__":
    trio.run({"stdio": serve_stdio, "http": serve_http}[sys.argv[1]], answer_requests)
