"""An ASGI host without a network, for requests that a real HTTP client would never make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp.server.asgi import AsgiApp
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.sse import EventDecoder

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
NAMED = {"tools/call": "name", "tasks/get": "taskId", "tasks/cancel": "taskId"}


class Exchange:
    """One request while it runs; `status`, `headers` and `body` hold what the application has sent so far."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        self.ended = trio.Event()  # once the application has returned
        self.arrival = trio.lowlevel.ParkingLot()
        self.reading = trio.Event()
        self.reading.set()
        self.scope = trio.CancelScope()
        self.broken: OSError | None = None  # raised by `send`, if the client has gone
        self.to_app, self._from_client = trio.open_memory_channel[dict[str, Any]](10)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def messages(self) -> list[Any]:
        """The JSON-RPC messages that the event stream has brought so far."""
        frames = EventDecoder(1 << 24).feed(self.body)
        return [msgspec.json.decode(data) for data in encode_messages(frames)]

    @property
    def event_ids(self) -> list[str]:
        """The ids of the events that have come so far."""
        return [line[4:].decode() for line in self.body.split(b"\n") if line.startswith(b"id: ")]

    async def receive(self) -> dict[str, Any]:
        """The application's `receive`."""
        return await self._from_client.receive()

    async def send(self, message: Mapping[str, Any]) -> None:
        """The application's `send`; checks the order of its messages, and waits unless `reading` is set."""
        await self.reading.wait()
        if self.broken is not None:
            raise self.broken
        if message["type"] == "http.response.start":
            assert self.status == 0, "the head was sent twice"
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            assert self.status, "a body before the head"
            assert not self.is_complete, "a body behind the end"
            self.body += message.get("body", b"")
            self.is_complete = not message.get("more_body", False)
        self.arrival.unpark_all()
        await trio.lowlevel.checkpoint()

    def disconnect(self) -> None:
        """Tell the application that the client has gone."""
        self.to_app.send_nowait({"type": "http.disconnect"})

    async def wait_messages(self, count: int) -> list[Any]:
        """Wait until `count` messages have come, and return all that have come."""
        with trio.fail_after(HANG_SECONDS):
            while len(self.messages) < count:
                await self.arrival.park()
        return self.messages

    async def wait_body(self, part: bytes) -> None:
        """Wait until `part` is in the body."""
        with trio.fail_after(HANG_SECONDS):
            while part not in self.body:
                await self.arrival.park()


class Host:
    """Sends requests to an application, from `peer` to `address`; `scope` is added to their ASGI scopes."""

    def __init__(self, app: AsgiApp, nursery: trio.Nursery) -> None:
        self._app = app
        self._nursery = nursery
        self.peer = "127.0.0.1"
        self.address: tuple[str, int] = ("127.0.0.1", 8000)
        self.scope: dict[str, Any] = {}

    def start(
        self,
        method: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = b"",
        *,
        path: str = "/mcp",
    ) -> Exchange:
        """Begin a request; with `body` None the caller sends the body by `to_app`."""
        exchange = Exchange()
        given = {"host": "localhost:8000", **(headers or {})}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(n.encode(), v.encode()) for n, v in given.items() if v is not None],
            "client": (self.peer, 1),
            "server": self.address,
            **self.scope,
        }
        if body is not None:
            exchange.to_app.send_nowait({"type": "http.request", "body": body, "more_body": False})

        async def run() -> None:
            with exchange.scope:
                await self._app(scope, exchange.receive, exchange.send)
            exchange.arrival.unpark_all()
            exchange.ended.set()

        self._nursery.start_soon(run)
        return exchange

    async def request(self, method: str, *args: Any, **options: Any) -> Exchange:
        """Make a request and wait until the application has returned; see `start`."""
        exchange = self.start(method, *args, **options)
        with trio.fail_after(600):
            await exchange.ended.wait()
        return exchange

    def post(self, message: Any, headers: Mapping[str, str] | None = None, **options: Any) -> Exchange:
        """Begin to POST a message, with the headers that every client sends."""
        body = message if isinstance(message, bytes) else msgspec.json.encode(message)
        usual = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        return self.start("POST", {**usual, **(headers or {})}, body, **options)

    def modern(self, method: str, params: Mapping[str, Any] | None = None, **options: Any) -> Exchange:
        """Begin a modern request; `options` may replace its id, its `meta` and its `headers`."""
        params = {**(params or {}), "_meta": {**META, **options.pop("meta", {})}}
        message = {"jsonrpc": "2.0", "id": options.pop("ident", 1), "method": method, "params": params}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if method in NAMED:
            headers["mcp-name"] = params[NAMED[method]]
        return self.post(message, {**headers, **options.pop("headers", {})}, **options)

    def call(self, name: str, token: Any = None, **arguments: Any) -> Exchange:
        """Begin a modern tools/call."""
        meta = {} if token is None else {"progressToken": token}
        return self.modern("tools/call", {"name": name, "arguments": arguments}, meta=meta)

    async def initialize(self, version: str = "2025-11-25") -> LegacyClient:
        """Begin a legacy session with the handshake of `version`."""
        params = {
            "protocolVersion": version,
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        answer = self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        await finish(answer)
        client = LegacyClient(self, answer.headers["mcp-session-id"])
        accepted = client.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        await finish(accepted)
        assert (accepted.status, accepted.body) == (202, b"")
        return client


class LegacyClient:
    """A legacy session: each request carries its id."""

    def __init__(self, host: Host, session_id: str) -> None:
        self._host = host
        self.session_id = session_id

    def post(self, message: Any, **headers: str) -> Exchange:
        """Begin to POST a message within the session."""
        return self._host.post(message, {"mcp-session-id": self.session_id, **headers})

    def call(self, name: str, ident: int = 1, token: Any = None, **arguments: Any) -> Exchange:
        """Begin a tools/call within the session."""
        meta = {} if token is None else {"progressToken": token}
        params = {"name": name, "arguments": arguments, "_meta": meta}
        return self.post({"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params})

    def get(self, last_event_id: str | None = None) -> Exchange:
        """Open the main stream, or resume the stream of the event `last_event_id`."""
        headers = {"accept": "text/event-stream", "mcp-session-id": self.session_id}
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        return self._host.start("GET", headers)

    async def delete(self) -> Exchange:
        """End the session."""
        return await self._host.request("DELETE", {"mcp-session-id": self.session_id})


async def finish(exchange: Exchange) -> Exchange:
    """Wait until the response has ended."""
    with trio.fail_after(600):
        await exchange.ended.wait()
    return exchange


@asynccontextmanager
async def open_host(app: AsgiApp, *, lifespan: bool = True) -> AsyncIterator[Host]:
    """Run an application during the block, within its lifespan."""
    to_app, from_host = trio.open_memory_channel[dict[str, Any]](2)
    from_app: list[str] = []
    changed = trio.lowlevel.ParkingLot()

    async def send(message: Mapping[str, Any]) -> None:
        from_app.append(message["type"])
        changed.unpark_all()

    async def wait_for(kind: str) -> None:
        with trio.fail_after(600):
            while kind not in from_app:
                await changed.park()

    async with trio.open_nursery() as hosting, trio.open_nursery() as nursery:
        if lifespan:
            hosting.start_soon(app, {"type": "lifespan"}, from_host.receive, send)
            to_app.send_nowait({"type": "lifespan.startup"})
            await wait_for("lifespan.startup.complete")
        yield Host(app, nursery)
        if lifespan:
            to_app.send_nowait({"type": "lifespan.shutdown"})
            await wait_for("lifespan.shutdown.complete")
        nursery.cancel_scope.cancel()
