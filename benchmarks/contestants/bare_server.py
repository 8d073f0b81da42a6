"""A server that only encodes each update and sends it at once: `python bare_server.py [http]`.

It shows the least latency that a notification can have with these libraries. Over stdio a line with n and
rate asks for updates; over HTTP the path does, and the answer is an event stream. It ends with its standard
input.
"""

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import hypercorn.config
import hypercorn.trio
import msgspec
import trio
from tally import report_paced

encode = msgspec.json.Encoder().encode
Write = Callable[[bytes], Awaitable[None]]


async def report(write: Write, progress: float, total: float, message: str) -> None:
    params = {"progressToken": 1, "progress": progress, "total": total, "message": message}
    await write(encode({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))


async def answer(write: Write, n: int, rate: float) -> None:
    await report_paced(partial(report, write), trio.sleep, n, rate)


async def serve_stdio() -> None:
    output = trio.lowlevel.FdStream(sys.stdout.fileno())

    async def write(message: bytes) -> None:
        await output.send_all(message + b"\n")

    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        n, rate = line.split()
        await answer(write, int(n), float(rate))


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return

    async def write(message: bytes) -> None:
        body = b"data: " + message + b"\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})

    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    _, n, rate = scope["path"].split("/")
    await answer(write, int(n), float(rate))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def serve_http() -> None:
    config = hypercorn.config.Config()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "ERROR"
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(hypercorn.trio.serve, application, config))
        print(url, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(serve_http if sys.argv[1:] == ["http"] else serve_stdio)
