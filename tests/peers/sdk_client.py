"""The official SDK's client at work: `python sdk_client.py MODE BACKEND TARGET...`.

It runs one scenario against TARGET and prints what it saw as one JSON object. TARGET is the command
of a stdio server (`our_server.py` or `sdk_server.py`) or the URL of an HTTP server (`our_http_server.py`
or `sdk_http_server.py`). MODE is legacy or auto, BACKEND asyncio or trio.
"""

import json
import sys
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import Client, MCPDeprecationWarning, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, JSONRPCError, JSONRPCNotification, JSONRPCResponse

UPDATES = 200
WAIT_SECONDS = 30
"""How long to wait for what may never come; only a loss takes so long."""
RUN_SECONDS = 100
"""Less than the test waits, so that a client that hangs can still say where."""


class WireLog:
    """The transport's read stream, which also writes down what the client took from it, in order.

    The SDK starts a task for each progress callback. Trio runs tasks that are ready together in an
    arbitrary order, so there the callbacks tell neither in which order the updates arrived nor
    which of them came before the result; the stream tells both.
    """

    def __init__(self, stream: Any, messages: list[Any]) -> None:
        self._stream = stream
        self._messages = messages

    def __aiter__(self) -> "WireLog":
        return self

    async def __anext__(self) -> Any:
        item = await anext(self._stream)
        # A line that is no message arrives as an exception.
        self._messages.append(item if isinstance(item, Exception) else item.message)
        return item

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> "WireLog":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


@asynccontextmanager
async def logged_wire(target: list[str], messages: list[Any]) -> AsyncIterator[tuple[WireLog, Any]]:
    command, *args = target
    if command.endswith("/sse"):
        streams = sse_client(command)
    elif command.startswith("http"):
        streams = streamable_http_client(command)
    else:
        streams = stdio_client(StdioServerParameters(command=command, args=args))
    async with streams as (read_stream, write_stream):
        yield WireLog(read_stream, messages), write_stream


def progress_around_result(messages: list[Any]) -> dict[str, Any]:
    """The first answered call's progress: what came before its answer, and what came after."""
    answers = (JSONRPCResponse, JSONRPCError)
    cut, answer = next((i, message) for i, message in enumerate(messages) if isinstance(message, answers))

    def progress(part: list[Any]) -> list[list[Any]]:
        return [
            [message.params["progress"], message.params.get("total"), message.params.get("message")]
            for message in part
            # The SDK's token of a request is its id.
            if isinstance(message, JSONRPCNotification)
            and message.method == "notifications/progress"
            and message.params["progressToken"] == answer.id
        ]

    return {"wire_before_result": progress(messages[:cut]), "wire_after_result": progress(messages[cut:])}


def outcome(result: CallToolResult) -> dict[str, Any]:
    return {"text": "".join(block.text for block in result.content), "is_error": bool(result.is_error)}


async def call_loop(client: Client, messages: list[Any]) -> dict[str, Any]:
    start = len(messages)
    callbacks: list[list[Any]] = []
    complete = anyio.Event()

    # It has no checkpoint, so a callback that has begun is over before the next.
    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        callbacks.append([progress, total, message])
        if len(callbacks) == UPDATES:
            complete.set()

    result = await client.call_tool("loop", {"n": UPDATES}, progress_callback=on_progress)
    at_return = len(callbacks)
    with anyio.move_on_after(WAIT_SECONDS):
        await complete.wait()
    # After a round trip, an update that was sent behind the result is on record.
    await client.call_tool("echo", {"text": "after"})
    return {
        **outcome(result),
        **progress_around_result(messages[start:]),
        "callbacks": callbacks,
        "callbacks_at_return": at_return,
    }


async def call_and_cancel(client: Client) -> dict[str, Any]:
    key = str(uuid.uuid4())
    with anyio.CancelScope() as scope:

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            scope.cancel()

        await client.call_tool("slow", {"seconds": 3600, "key": key}, progress_callback=on_progress)
    return {
        "cancelled": scope.cancelled_caught,
        "server_saw": outcome(await client.call_tool("wait_cancelled", {"key": key})),
        "next_call": outcome(await client.call_tool("echo", {"text": "still here"})),
    }


async def call_log(client: Client, mode: str, logs: list[list[Any]], logged: anyio.Event) -> dict[str, Any]:
    # From 2026-07-28 on each request carries the level; Client(log_level=...) adds it.
    if mode == "legacy" and client.server_capabilities.logging:
        await client.set_logging_level("info")
    result = await client.call_tool("log", {"text": "a log line"})
    with anyio.move_on_after(WAIT_SECONDS):
        await logged.wait()
    return {**outcome(result), "logs": logs}


async def run(mode: str, target: list[str]) -> dict[str, Any]:
    messages: list[Any] = []
    logs: list[list[Any]] = []
    logged = anyio.Event()

    async def on_log(params: Any) -> None:
        logs.append([params.level, params.data])
        logged.set()

    transport = logged_wire(target, messages)
    async with Client(transport, mode=mode, logging_callback=on_log, log_level="info") as client:
        return {
            "protocol_version": client.protocol_version,
            "server_name": client.server_info.name if client.server_info else None,
            "tools": [tool.name for tool in (await client.list_tools()).tools],
            "echo": outcome(await client.call_tool("echo", {"text": "hello"})),
            "loop": await call_loop(client, messages),
            "error": outcome(await client.call_tool("fail", {})),
            "cancel": await call_and_cancel(client),
            "log": await call_log(client, mode, logs, logged),
            # 2026-07-28 has no ping.
            "ping": (await client.send_ping()).model_dump() if mode == "legacy" else None,
            "complaints": [repr(message) for message in messages if isinstance(message, Exception)],
        }


async def main(mode: str, target: list[str]) -> None:
    with anyio.fail_after(RUN_SECONDS):
        report = await run(mode, target)
    print(json.dumps(report))


if __name__ == "__main__":
    # ping and logging are deprecated from 2026-07-28 on, but still part of the protocol.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    anyio.run(main, sys.argv[1], sys.argv[3:], backend=sys.argv[2])
