"""Scripted HTTP servers: hypercorn on the loopback, with a handler for each request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import attrs
import hypercorn.trio
import trio
from hypercorn.config import Config

from tests.support.limits import HANG_SECONDS
from trio_mcp.wire.sse import encode_event

MODERN, LEGACY = "2026-07-28", "2025-11-25"
MODERN_META = {"io.modelcontextprotocol/serverInfo": {"name": "scripted", "version": "1"}}
TEXT = {"content": [{"type": "text", "text": "done"}]}


@attrs.define(eq=False)
class Call:
    """One HTTP request to a scripted server, with methods to respond to it."""

    verb: str
    path: str
    headers: dict[str, str]
    message: Any
    _send: Callable[[Any], Awaitable[None]] = attrs.field(repr=False)
    _receive: Callable[[], Awaitable[Any]] = attrs.field(repr=False)
    client: tuple[str, int] | None = None
    disconnected: trio.Event = attrs.field(factory=trio.Event, repr=False)

    @property
    def method(self) -> str | None:
        return self.message.get("method") if isinstance(self.message, dict) else None

    @property
    def token(self) -> Any:
        return self.message["params"]["_meta"]["progressToken"]

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def reply(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "text/plain",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        length = {"content-length": str(len(body))}
        await self.start(status, {"content-type": kind, **length, **(headers or {})})
        await self.write(body, more=False)

    async def reply_json(
        self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        await self.reply(status, json.dumps(value).encode(), "application/json", headers)

    async def result(self, result: Any, headers: Mapping[str, str] | None = None) -> None:
        await self.reply_json({"jsonrpc": "2.0", "id": self.message["id"], "result": result}, headers=headers)

    async def error(self, status: int, code: int, message: str, data: Any = None, **members: Any) -> None:
        error = {"code": code, "message": message, "data": data}
        await self.reply_json({"jsonrpc": "2.0", "error": error, **members}, status)

    async def stream(self, headers: Mapping[str, str] | None = None) -> None:
        await self.start(200, {"content-type": "text/event-stream", **(headers or {})})

    async def event(self, message: Any, **options: Any) -> None:
        data = b"" if message is None else json.dumps({"jsonrpc": "2.0", **message}).encode()
        await self.write(encode_event(data, **options))

    async def progress(self, *values: float, **options: Any) -> None:
        for value in values:
            params = {"progressToken": self.token, "progress": value}
            await self.event({"method": "notifications/progress", "params": params}, **options)

    async def end(self) -> None:
        await self.write(b"", more=False)

    async def wait_disconnect(self) -> None:
        """Return when the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()


def read_body(body: bytes, kind: str) -> Any:
    """A message, or the fields of a form."""
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode(), strict_parsing=True))
    return json.loads(body) if body else None


Handler = Callable[[Call], Awaitable[None]]


@attrs.define(eq=False)
class Scripted:
    """An ASGI application that records its requests."""

    handler: Handler
    calls: list[Call] = attrs.field(factory=list)
    url: str = ""
    certificate: tuple[str, str] | None = None
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _stopped: trio.Event = attrs.field(factory=trio.Event)

    def made(self, method: str | None = None, verb: str = "POST") -> list[Call]:
        return [c for c in self.calls if c.verb == verb and (method is None or c.method == method)]

    async def serve(self, task_status: Any) -> None:  # noqa: ASYNC128  # hypercorn starts it
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.errorlog = None
        config.backlog = 1000
        # It is also how long a connection may be open before its first request: five seconds by default.
        config.keep_alive_timeout = config.ssl_handshake_timeout = HANG_SECONDS
        if self.certificate is not None:
            config.certfile, config.keyfile = self.certificate
        with self._scope:
            await hypercorn.trio.serve(
                self, config, shutdown_trigger=trio.sleep_forever, task_status=task_status
            )
        self._stopped.set()

    async def stop(self) -> None:
        """Drop every connection and stop listening."""
        self._scope.cancel()
        await self._stopped.wait()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        call = Call(
            scope["method"],
            scope["path"],
            headers,
            read_body(body, headers.get("content-type", "")),
            send,
            receive,
            scope["client"],
        )
        self.calls.append(call)
        await self.handler(call)


@asynccontextmanager
async def serving(handler: Handler, certificate: tuple[str, str] | None = None) -> AsyncIterator[Scripted]:
    """Serve `handler` while the block lasts, for at most HANG_SECONDS seconds."""
    app = Scripted(handler, certificate=certificate)
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(app.serve)
            app.url = f"{address}/mcp"
            yield app
            nursery.cancel_scope.cancel()


async def answer_modern(call: Call) -> bool:
    """Answer the first request of every modern client; return False for any other."""
    if call.method != "server/discover":
        return False
    result = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "resultType": "complete"}
    await call.result({**result, "_meta": MODERN_META})
    return True


@attrs.define
class LegacyServer:
    """A handler that answers as every legacy server does; other requests go to `handler`."""

    handler: Handler
    version: str = LEGACY
    sessions: list[str] = attrs.field(factory=list)
    refusal: int = 400
    listen: Handler | None = None

    async def __call__(self, call: Call) -> None:
        if call.verb == "GET" and self.listen is not None:
            await self.listen(call)
        elif call.verb != "POST":
            await call.reply(405)
        elif call.method == "server/discover":
            await call.reply(self.refusal, b"Bad Request: no session")
        elif call.method == "initialize":
            self.sessions.append(f"session-{len(self.sessions) + 1}")
            info = {"name": "scripted", "version": "1"}
            result = {"protocolVersion": self.version, "capabilities": {}, "serverInfo": info}
            await call.result(result, {"mcp-session-id": self.sessions[-1]})
        elif call.headers.get("mcp-session-id") != self.sessions[-1]:
            await call.reply(404, b"session not found")
        elif call.method is not None and "id" in call.message:
            await self.handler(call)
        else:
            await call.reply(202)
