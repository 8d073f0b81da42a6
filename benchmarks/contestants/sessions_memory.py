"""The memory that sessions and calls take in a server: `python sessions_memory.py`.

Each line of stdin (`KIND N`) starts fresh servers, opens N sessions or calls on ours, and as many bare
connections on the same stack without MCP. `connection` of the answer is the bytes of one bare connection, and
`bytes` those of one session or call, less that. A session is a legacy client that has shaken hands and is
silent. A call has reported once and waits.
"""

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import trio
from limits_connection import (
    HEADERS,
    MODERN,
    HttpConsumer,
    MessageConsumer,
    connect_http,
    connect_websocket,
)
from limits_messages import INITIALIZE, INITIALIZED, LEGACY_VERSION, call
from limits_worker import SERVERS, ours

WARM_UP = 50
"""The number that is opened before the first question, so what a server makes only once is not counted."""

Opener = Callable[[str, int], Awaitable[list[Any]]]


class Server:
    """A server process that answers how much memory it holds."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin
        assert process.stdout
        self._input, self._output = process.stdin, process.stdout
        self.url = self._output.readline().strip()

    def ask(self) -> dict[str, int]:
        self._input.write("\n")
        self._input.flush()
        answer: dict[str, int] = json.loads(self._output.readline())
        return answer


@contextmanager
def running(command: list[str]) -> Iterator[Server]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        try:
            yield Server(process)
        finally:
            process.stdin.close()


async def open_http_sessions(url: str, n: int) -> list[Any]:
    return [await open_http_session(url) for _ in range(n)]


async def open_http_session(url: str) -> HttpConsumer:
    """A session with an open GET stream, as clients have."""
    consumer = await connect_http(url)
    head, _ = await consumer.request("POST", INITIALIZE, HEADERS)
    name = b"mcp-session-id: "
    session = head.lower().index(name) + len(name)
    ident = head[session:].partition(b"\r\n")[0].decode()
    headers = {"mcp-session-id": ident, "mcp-protocol-version": LEGACY_VERSION}
    await consumer.request("POST", INITIALIZED, HEADERS | headers)
    await consumer.send("GET", b"", {"accept": "text/event-stream", **headers})
    await consumer.receive_until(b":\n\n")
    return consumer


async def open_http_calls(url: str, n: int) -> list[Any]:
    consumers = [await connect_http(url) for _ in range(n)]
    for consumer in consumers:
        await consumer.send("POST", call(1, 1, "park"), HEADERS | MODERN | {"mcp-name": "park"})
        await consumer.receive_until(b'"notifications/progress"')
    return consumers


async def open_bare_streams(url: str, n: int) -> list[Any]:
    consumers = [await connect_http(url) for _ in range(n)]
    for consumer in consumers:
        await consumer.send("GET", b"", {}, "/1/0")
        await consumer.receive_until(b":\n\n")
    return consumers


async def open_websocket_sessions(url: str, n: int) -> list[Any]:
    consumers = await open_bare_websockets(url, n)
    for consumer in consumers:
        await consumer.ask(INITIALIZE, b'"result"')
        await consumer.tell(INITIALIZED)
    return consumers


async def open_bare_websockets(url: str, n: int) -> list[Any]:
    return [await connect_websocket(url) for _ in range(n)]


async def open_websocket_calls(url: str, n: int) -> list[Any]:
    """All calls over one connection."""
    consumer: MessageConsumer = await connect_websocket(url)
    for ident in range(n):
        await consumer.ask(call(1, ident, "park"), b'"notifications/progress"')
    return [consumer]


BARE_STREAM = (ours("ceiling_server.py", "hypercorn"), open_bare_streams)
BARE_WEBSOCKET = (ours("ceiling_server.py", "websocket"), open_bare_websockets)
BARE_HYPERCORN = (ours("ceiling_server.py", "hypercorn"), open_bare_websockets)

KINDS: dict[str, tuple[list[str], Opener, tuple[list[str], Opener] | None]] = {
    "session-http": (SERVERS["http"], open_http_sessions, BARE_STREAM),
    "session-websocket": (SERVERS["websocket"], open_websocket_sessions, BARE_WEBSOCKET),
    "session-hypercorn": (SERVERS["hypercorn"], open_websocket_sessions, BARE_HYPERCORN),
    "call-http": (SERVERS["http"], open_http_calls, BARE_STREAM),
    "call-websocket": (SERVERS["websocket"], open_websocket_calls, None),
}


async def cost(command: list[str], opener: Opener, n: int) -> tuple[float, int]:
    """The bytes of one session or call, and how many calls waited."""
    with running(command) as server:
        kept = await opener(server.url, WARM_UP)
        before = server.ask()
        kept += await opener(server.url, n)
        after = server.ask()
        for consumer in kept:
            await consumer.aclose()
        return (after["bytes"] - before["bytes"]) / n, after["count"] - before["count"]


async def measure(kind: str, n: int) -> dict[str, Any]:
    command, opener, bare = KINDS[kind]
    whole, waiting = await cost(command, opener, n)
    connection = 0.0 if bare is None else (await cost(*bare, n))[0]
    correct = waiting == (n if kind.startswith("call") else 0)
    return {
        "seconds": 0.0,
        "count": n,
        "correct": correct,
        "late": 0,
        "bytes": whole - connection,
        "connection": connection,
    }


async def main() -> None:
    print(json.dumps({"versions": {"trio": version("trio")}, "protocol": LEGACY_VERSION}), flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        kind, n = line.split()
        print(json.dumps(await measure(kind, int(n))), flush=True)


if __name__ == "__main__":
    trio.run(main)
