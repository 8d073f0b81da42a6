"""What belongs to one principal is nothing to another, on every verb and over every transport.

Both have good tokens of the same issuer, with the same scopes. An answer about something of somebody else is
compared with the one about something that there never was, so that nobody can even learn what there is.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.authorization.tokens import bearing, make_fetch, make_scope
from tests.support.asgi_host import META, Exchange, Host, LegacyClient, finish, open_host
from tests.support.leaks import Leaks
from tests.support.limits import HANG_SECONDS
from trio_mcp import AnyOf, Bearer, Context, JwtVerifier, Server, asgi_app
from trio_mcp.server.asgi import AsgiApp
from trio_mcp.testing.authorization import DevAuthorizationServer

RESOURCE = "http://localhost:8000/mcp"
CAPABILITIES = {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}
TASKS = {"io.modelcontextprotocol/clientCapabilities": CAPABILITIES}
NOTHING = "there-never-was-such-a-thing-of-anybody"

Ask: TypeAlias = Callable[..., Awaitable[Any]]
"""Sends a request of a method with parameters, and returns the first message that answers it."""

Send: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Sends a message, and returns the next one that comes."""


def make_server() -> Server:
    server = Server("albums", version="1")

    @server.tool(task=True)
    async def wait(ctx: Context) -> str:
        await trio.sleep_forever()
        return "never"

    @server.tool
    async def greet(ctx: Context) -> str:
        return (await ctx.elicit("sure?", bool, key="sure")).action

    @server.prompt(name="greet")
    async def greet_prompt(ctx: Context) -> str:
        return (await ctx.elicit("sure?", bool, key="sure")).action

    return server


class World:
    """A protected server, and the tokens of its users."""

    def __init__(self, app: AsgiApp, host: Host, issuer: DevAuthorizationServer) -> None:
        self.app = app
        self.host = host
        self._issuer = issuer
        self._ways = {
            "http": self._open_http,
            "http-legacy": self._open_session,
            "websocket": self._open_websocket,
            "websocket-legacy": self._open_legacy_websocket,
            "sse": self._open_sse,
        }

    def headers(self, user: str) -> dict[str, str]:
        """The headers with a new token."""
        token = self._issuer.issue_token(user, audience=RESOURCE, scopes=["read"], client_id="app")
        return bearing(token)

    @asynccontextmanager
    async def open(self, way: str, user: str) -> AsyncIterator[Ask]:
        """Connect as a user, over one of the transports."""
        async with AsyncExitStack() as stack:
            yield await self._ways[way](user, stack)

    async def _open_http(self, user: str, stack: AsyncExitStack) -> Ask:
        async def ask(method: str, **params: Any) -> Any:
            name = params.get("taskId") or params.get("name")
            headers = {**self.headers(user), **({"mcp-name": name} if name else {})}
            return await first(self.host.modern(method, params, meta=TASKS, headers=headers))

        return ask

    async def _open_session(self, user: str, stack: AsyncExitStack) -> Ask:
        session = await open_session(self.host, self.headers(user))

        async def ask(method: str, **params: Any) -> Any:
            return await first(session.post(request(method, params), **self.headers(user)))

        return ask

    async def _open_websocket(self, user: str, stack: AsyncExitStack) -> Ask:
        exchange = await stack.enter_async_context(open_socket(self.app, self.headers(user)))

        async def ask(method: str, **params: Any) -> Any:
            return await exchange(request(method, {**params, "_meta": {**META, **TASKS}}))

        return ask

    async def _open_legacy_websocket(self, user: str, stack: AsyncExitStack) -> Ask:
        exchange = await stack.enter_async_context(open_socket(self.app, self.headers(user)))
        await exchange(BEGIN)

        async def ask(method: str, **params: Any) -> Any:
            return await exchange(request(method, params))

        return ask

    async def _open_sse(self, user: str, stack: AsyncExitStack) -> Ask:
        stream, where = await open_stream(self.host, self.headers(user))
        stack.callback(stream.disconnect)

        async def exchange(message: Any) -> Any:
            count = len(stream.messages)
            posted = await finish(self.host.post(message, self.headers(user), path=where))
            assert posted.status == 202
            return (await stream.wait_messages(count + 1))[count]

        await exchange(BEGIN)

        async def ask(method: str, **params: Any) -> Any:
            return await exchange(request(method, params))

        return ask


BEGIN = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "raw", "version": "1"},
    },
}


idents = itertools.count(1)


def request(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": next(idents), "method": method, "params": params}


def read_text(answer: Any) -> str:
    """An answer without what differs from one request to the next."""
    answer.get("params", {}).pop("_meta", None)
    return msgspec.json.encode({**answer, "id": None}).decode()


async def first(exchange: Exchange) -> Any:
    """The first message that an exchange has answered; it is given up then."""
    while not exchange.ended.is_set() and not (exchange.status and exchange.body.count(b"\n\n")):
        await exchange.arrival.park()
    if exchange.headers["content-type"] == "application/json":
        return exchange.json
    exchange.disconnect()
    return exchange.messages[0]


async def open_session(host: Host, headers: dict[str, str]) -> LegacyClient:
    answer = await finish(host.post(BEGIN, headers))
    session = LegacyClient(host, answer.headers["mcp-session-id"])
    await finish(session.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, **headers))
    return session


async def open_stream(host: Host, headers: dict[str, str]) -> tuple[Exchange, str]:
    """An event stream of HTTP+SSE, and where its messages are posted."""
    stream = host.start("GET", {**headers, "accept": "text/event-stream"}, path="/sse")
    await stream.wait_body(b"session_id=")
    return stream, stream.body.split(b"data: ")[1].split()[0].decode()


@asynccontextmanager
async def open_socket(app: AsgiApp, headers: dict[str, str]) -> AsyncIterator[Send]:
    """A WebSocket without a network."""
    to_app, received = trio.open_memory_channel[dict[str, Any]](10)
    sent, from_app = trio.open_memory_channel[dict[str, Any]](10)

    async def exchange(message: Any) -> Any:
        await to_app.send({"type": "websocket.receive", "text": msgspec.json.encode(message).decode()})
        return msgspec.json.decode((await from_app.receive())["text"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, make_scope(headers), received.receive, sent.send)
        await to_app.send({"type": "websocket.connect"})
        assert (await from_app.receive())["type"] == "websocket.accept"
        yield exchange
        nursery.cancel_scope.cancel()


@pytest.fixture
async def world(leaks: Leaks) -> AsyncIterator[World]:
    issuer = DevAuthorizationServer()
    verify = JwtVerifier(issuer.issuer, RESOURCE, fetch=make_fetch(issuer))
    app = asgi_app(make_server(), auth=Bearer(verify, scopes=["read"]), sse=True)
    with trio.fail_after(HANG_SECONDS):
        async with open_host(app) as host:
            yield World(app, host, issuer)
    leaks.show(issuer, verify, app)


MODERN_VERBS: dict[str, Callable[[str], dict[str, Any]]] = {
    "tasks/get": lambda task: {"taskId": task},
    "tasks/update": lambda task: {"taskId": task, "inputResponses": {}},
    "tasks/cancel": lambda task: {"taskId": task},
    "subscriptions/listen": lambda task: {"notifications": {"taskIds": [task]}},
}
LEGACY_VERBS = dict.fromkeys(("tasks/get", "tasks/result", "tasks/cancel"), MODERN_VERBS["tasks/get"])


@pytest.mark.parametrize("way", ["http", "websocket", "http-legacy", "websocket-legacy", "sse"])
async def test_a_task_of_another_principal_is_none(way: str, world: World, autojump_clock: MockClock) -> None:
    is_modern = way in ("http", "websocket")
    async with world.open("http", "alice") as alice:
        task = (await alice("tools/call", name="wait", arguments={}))["result"]["taskId"]
    async with world.open(way, "bob") as bob:
        for method, make_params in (MODERN_VERBS if is_modern else LEGACY_VERBS).items():
            told = read_text(await bob(method, **make_params(task)))
            nothing = read_text(await bob(method, **make_params(NOTHING)))
            assert told.replace(task, NOTHING) == nothing, method
            if method != "subscriptions/listen":
                assert '"error"' in told, method
        if not is_modern:
            assert (await bob("tasks/list"))["result"]["tasks"] == []
    async with world.open(way, "alice") as alice:  # on any connection, with any of her tokens
        assert (await alice("tasks/get", taskId=task))["result"]["status"] == "working"
        if not is_modern:
            assert [found["taskId"] for found in (await alice("tasks/list"))["result"]["tasks"]] == [task]


@pytest.mark.parametrize("way", ["http", "websocket"])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
async def test_the_state_of_another_principals_rounds_is_refused(way: str, method: str, world: World) -> None:
    call = {"name": "greet", "arguments": {}}
    answer = {"sure": {"action": "accept", "content": {"value": True}}}
    async with world.open(way, "alice") as alice, world.open(way, "bob") as bob:
        state = (await alice(method, **call))["result"]["requestState"]
        refused = (await bob(method, **call, requestState=state, inputResponses=answer))["error"]
        assert (refused["code"], "another client" in refused["message"]) == (-32602, True)
        done = await alice(method, **call, requestState=state, inputResponses=answer)
        assert '"accept"' in msgspec.json.encode(done["result"]).decode()


async def test_a_session_of_another_principal_is_none_on_every_verb(world: World) -> None:
    host, alice, bob = world.host, world.headers("alice"), world.headers("bob")
    session = await open_session(host, alice)
    messages = {
        "request": request("tools/list", {}),
        "call": request("tools/call", {"name": "greet", "arguments": {}}),
        "notification": {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        "answer": {"jsonrpc": "2.0", "id": 1, "result": {"action": "accept"}},
        "initialized": {"jsonrpc": "2.0", "method": "notifications/initialized"},
    }

    async def try_all(ident: str) -> dict[str, tuple[int, bytes]]:
        headers = {**bob, "mcp-session-id": ident}
        stream = {**headers, "accept": "text/event-stream"}
        tried = {name: host.post(message, headers) for name, message in messages.items()}
        tried["listen"] = host.start("GET", stream)
        tried["resume"] = host.start("GET", {**stream, "last-event-id": "1"})
        tried["end"] = host.start("DELETE", headers)
        return {name: ((await finish(one)).status, one.body) for name, one in tried.items()}

    told = await try_all(session.session_id)
    assert {status for status, _ in told.values()} == {404}
    assert told == await try_all(NOTHING)
    again = await finish(session.post(messages["request"], **world.headers("alice")))
    assert again.status == 200


async def test_an_event_stream_of_another_principal_takes_no_message(world: World) -> None:
    stream, where = await open_stream(world.host, world.headers("alice"))
    nowhere = f"{where.partition('=')[0]}={NOTHING}"
    ping = request("ping", {})
    refused = await finish(world.host.post(ping, world.headers("bob"), path=where))
    unknown = await finish(world.host.post(ping, world.headers("bob"), path=nowhere))
    assert (refused.status, refused.body) == (unknown.status, unknown.body)
    assert refused.status == 404
    assert stream.messages == []
    assert (await finish(world.host.post(ping, world.headers("alice"), path=where))).status == 202
    stream.disconnect()


async def test_the_same_name_at_another_issuer_is_another_principal(autojump_clock: MockClock) -> None:
    """A principal is named by its issuer as well: "alice" there has nothing of "alice" here."""
    here, there = DevAuthorizationServer(), DevAuthorizationServer("https://other.example.com")
    verify = AnyOf(*(JwtVerifier(one.issuer, RESOURCE, fetch=make_fetch(one)) for one in (here, there)))
    app = asgi_app(make_server(), auth=Bearer(verify))
    async with open_host(app) as host:
        async with World(app, host, here).open("http", "alice") as alice:
            task = (await alice("tools/call", name="wait", arguments={}))["result"]["taskId"]
        async with World(app, host, there).open("http", "alice") as other:
            assert "error" in await other("tasks/get", taskId=task)
        async with World(app, host, here).open("http", "alice") as alice:
            assert (await alice("tasks/get", taskId=task))["result"]["status"] == "working"
