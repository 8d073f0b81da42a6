"""The receiving ends of bare transports: `python ceiling_worker.py KIND`.

KIND is memory, codec, pipe, sse, websocket or hypercorn. It answers as `trio_mcp_worker.py` does: `burst N`
sends one message in each write, event or frame, `grouped N` sends so many that joining more gains nothing.
Every update is counted and compared with what was sent.
"""

import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio
import trio_websocket
from ceiling_server import QUEUE_MESSAGES, READ_BYTES, events, lines, texts
from limits_connection import HttpConsumer, MessageConsumer, connect_http, open_stdio
from limits_messages import notifications
from limits_worker import started
from tally import MESSAGE, Tally

SERVER = Path(__file__).with_name("ceiling_server.py")
SIZES = {"burst": 1, "grouped": 64}
BUFFER = 256
"""The number of reports that a call of trio_mcp may have pending."""

Measure = Callable[[str, int], Awaitable[dict[str, Any]]]


def sample(seconds: float, count: int, correct: bool) -> dict[str, Any]:
    return {"seconds": seconds, "count": count, "correct": correct, "late": 0}


@asynccontextmanager
async def open_memory() -> AsyncIterator[Measure]:
    async def measure(what: str, n: int) -> dict[str, Any]:
        tally = Tally(n, lambda: None)
        send, receive = trio.open_memory_channel[tuple[float, float | None, str | None]](BUFFER)

        async def report() -> None:
            async with send:
                for i in range(n):
                    await send.send((i + 1, n, MESSAGE))

        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(report)
            async for update in receive:
                await tally.update(*update)
        return sample(time.perf_counter() - start, tally.count, tally.correct)

    yield measure


class Params(msgspec.Struct):
    progressToken: int | str  # noqa: N815  # as the protocol spells it
    progress: int | float
    total: int | float | None = None
    message: str | None = None


class Progress(msgspec.Struct, tag_field="jsonrpc", tag="2.0"):
    method: Literal["notifications/progress"]
    params: Params


@asynccontextmanager
async def open_codec() -> AsyncIterator[Measure]:
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Progress)

    async def measure(what: str, n: int) -> dict[str, Any]:
        tally = Tally(n, lambda: None)
        start = time.perf_counter()
        if what == "grouped":
            burst = [Progress("notifications/progress", Params(1, i + 1, n, MESSAGE)) for i in range(n)]
            decoded = decoder.decode_lines(encoder.encode_lines(burst))
        else:
            decoded = [
                decoder.decode(
                    encoder.encode(Progress("notifications/progress", Params(1, i + 1, n, MESSAGE)))
                )
                for i in range(n)
            ]
        for notification in decoded:
            params = notification.params
            await tally.update(params.progress, params.total, params.message)
        return sample(time.perf_counter() - start, tally.count, tally.correct)

    yield measure


@lru_cache(8)
def joined(what: str, n: int, *, as_events: bool) -> bytes:
    return b"".join((events if as_events else lines)(n, SIZES[what]))


@asynccontextmanager
async def open_pipe() -> AsyncIterator[Measure]:
    async with open_stdio([sys.executable, SERVER, "pipe"]) as consumer:
        yield partial(measure_pipe, consumer)


async def measure_pipe(consumer: MessageConsumer, what: str, n: int) -> dict[str, Any]:
    expected = joined(what, n, as_events=False)
    start = time.perf_counter()
    received = await consumer.ask(b"%d %d" % (SIZES[what], n), notifications(n)[-1] + b"\n")
    count = received.count(b"\n")
    return sample(time.perf_counter() - start, count, received == expected)


@asynccontextmanager
async def open_sse() -> AsyncIterator[Measure]:
    with started([sys.executable, SERVER, "hypercorn"]) as url:
        yield partial(measure_sse, await connect_http(url))


async def measure_sse(consumer: HttpConsumer, what: str, n: int) -> dict[str, Any]:
    expected = joined(what, n, as_events=True)
    start = time.perf_counter()
    _, body = await consumer.request("GET", b"", {}, f"/{SIZES[what]}/{n}")
    received = unchunk(body)
    count = received.count(b"\n\n")
    return sample(time.perf_counter() - start, count, received == expected)


def unchunk(body: bytes) -> bytes:
    pieces = []
    at = 0
    while length := int(body[at : (end := body.index(b"\r\n", at))], 16):
        pieces.append(body[end + 2 : end + 2 + length])
        at = end + length + 4
    return b"".join(pieces)


@asynccontextmanager
async def open_websocket(server: str) -> AsyncIterator[Measure]:
    with started([sys.executable, SERVER, server]) as url:
        opening = trio_websocket.open_websocket_url(
            url.replace("http:", "ws:"), message_queue_size=QUEUE_MESSAGES, receive_buffer_size=READ_BYTES
        )
        async with opening as connection:
            yield partial(measure_websocket, connection)


async def measure_websocket(
    connection: trio_websocket.WebSocketConnection, what: str, n: int
) -> dict[str, Any]:
    expected = texts(n)
    count, correct = 0, True
    start = time.perf_counter()
    await connection.send_message(str(n))
    while count < n:
        correct &= await connection.get_message() == expected[count]
        count += 1
    return sample(time.perf_counter() - start, count, correct)


OPENERS: dict[str, Callable[[], AbstractAsyncContextManager[Measure]]] = {
    "memory": open_memory,
    "codec": open_codec,
    "pipe": open_pipe,
    "sse": open_sse,
    "websocket": partial(open_websocket, "websocket"),
    "hypercorn": partial(open_websocket, "hypercorn"),
}


async def main(kind: str) -> None:
    async with OPENERS[kind]() as measure:
        names = ("trio", "msgspec", "hypercorn", "trio-websocket")
        print(json.dumps({"versions": {name: version(name) for name in names}, "protocol": ""}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            what, n = line.split()
            print(json.dumps(await measure(what, int(n))), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
