"""The client of the official SDK's 1.x line at work: `python sdk1_client.py BACKEND URL`.

It runs one scenario against the server at URL (`our_http_server.py`), over Streamable HTTP, HTTP+SSE or
WebSocket as the URL says, and prints what it saw as one JSON object. BACKEND is asyncio or trio; the
SDK's WebSocket client runs on asyncio only.
"""

import json
import sys
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.websocket import websocket_client
from mcp.types import (
    CallToolResult,
    CancelledNotification,
    CancelledNotificationParams,
    ClientNotification,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCResponse,
)

UPDATES = 200
WAIT_SECONDS = 30
"""How long to wait for what may never come; only a loss takes so long."""
RUN_SECONDS = 100
"""Less than the test waits, so that a client that hangs can still say where."""


class WireLog:
    """The transport's read stream, which also writes down what the session took from it, in order."""

    def __init__(self, stream: Any, messages: list[Any]) -> None:
        self._stream = stream
        self._messages = messages

    def __aiter__(self) -> "WireLog":
        return self

    async def __anext__(self) -> Any:
        item = await anext(self._stream)
        # A line that is no message arrives as an exception.
        self._messages.append(item if isinstance(item, Exception) else item.message.root)
        return item

    async def __aenter__(self) -> "WireLog":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def logged_session(url: str, messages: list[Any], on_log: Any) -> AsyncIterator[ClientSession]:
    if url.endswith("/sse"):
        transport = sse_client(url)
    else:
        transport = streamable_http_client(url) if url.startswith("http") else websocket_client(url)
    async with (
        transport as (read_stream, write_stream, *_),
        ClientSession(WireLog(read_stream, messages), write_stream, logging_callback=on_log) as session,
    ):
        yield session


def is_progress(message: Any) -> bool:
    return isinstance(message, JSONRPCNotification) and message.method == "notifications/progress"


def outcome(result: CallToolResult) -> dict[str, Any]:
    return {"text": "".join(block.text for block in result.content), "is_error": result.isError}


async def call_loop(session: ClientSession, messages: list[Any]) -> dict[str, Any]:
    start = len(messages)
    callbacks: list[list[Any]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        callbacks.append([progress, total, message])

    result = await session.call_tool("loop", {"n": UPDATES}, progress_callback=on_progress)
    at_return = len(callbacks)
    # After a round trip, an update that was sent behind the result is on record.
    await session.call_tool("echo", {"text": "after"})
    seen = messages[start:]
    cut = next(i for i, message in enumerate(seen) if isinstance(message, JSONRPCResponse | JSONRPCError))

    def progress(part: list[Any]) -> list[list[Any]]:
        updates = [message.params for message in part if is_progress(message)]
        return [[update["progress"], update.get("total"), update.get("message")] for update in updates]

    return {
        **outcome(result),
        "wire_before_result": progress(seen[:cut]),
        "wire_after_result": progress(seen[cut:]),
        "callbacks": callbacks,
        "callbacks_at_return": at_return,
    }


async def call_and_cancel(session: ClientSession, messages: list[Any]) -> dict[str, Any]:
    key = str(uuid.uuid4())
    with anyio.CancelScope() as scope:

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            scope.cancel()

        await session.call_tool("slow", {"seconds": 3600, "key": key}, progress_callback=on_progress)
    # This SDK does not tell the server that a caller has given up; its users must. A call's token is its id.
    token = next(message for message in reversed(messages) if is_progress(message)).params["progressToken"]
    params = CancelledNotificationParams(requestId=token, reason="no longer wanted")
    await session.send_notification(ClientNotification(CancelledNotification(params=params)))
    return {
        "cancelled": scope.cancelled_caught,
        "server_saw": outcome(await session.call_tool("wait_cancelled", {"key": key})),
        "next_call": outcome(await session.call_tool("echo", {"text": "still here"})),
    }


async def call_log(session: ClientSession, logs: list[list[Any]], logged: anyio.Event) -> dict[str, Any]:
    await session.set_logging_level("info")
    result = await session.call_tool("log", {"text": "a log line"})
    with anyio.move_on_after(WAIT_SECONDS):
        await logged.wait()
    return {**outcome(result), "logs": logs}


async def run(url: str) -> dict[str, Any]:
    messages: list[Any] = []
    logs: list[list[Any]] = []
    logged = anyio.Event()

    async def on_log(params: Any) -> None:
        logs.append([params.level, params.data])
        logged.set()

    async with logged_session(url, messages, on_log) as session:
        initialized = await session.initialize()
        return {
            "protocol_version": initialized.protocolVersion,
            "server_name": initialized.serverInfo.name,
            "tools": [tool.name for tool in (await session.list_tools()).tools],
            "echo": outcome(await session.call_tool("echo", {"text": "hello"})),
            "loop": await call_loop(session, messages),
            "error": outcome(await session.call_tool("fail", {})),
            "cancel": await call_and_cancel(session, messages),
            "log": await call_log(session, logs, logged),
            "ping": (await session.send_ping()).model_dump(),
            "complaints": [repr(message) for message in messages if isinstance(message, Exception)],
        }


async def main(url: str) -> None:
    with anyio.fail_after(RUN_SECONDS):
        report = await run(url)
    print(json.dumps(report))


if __name__ == "__main__":
    # The WebSocket client is deprecated, but users of this line have no other.
    warnings.simplefilter("ignore", DeprecationWarning)
    anyio.run(main, sys.argv[2], backend=sys.argv[1])
