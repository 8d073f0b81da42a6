"""What ends when an access token expires: streams and WebSockets, but no call that runs."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.authorization.tokens import Tokens, bearing, make_principal
from tests.conftest import LEGACY, MODERN
from tests.support.asgi_host import finish, open_host
from trio_mcp import (
    Bearer,
    ConnectionLost,
    Context,
    Principal,
    ProtocolError,
    Server,
    asgi_app,
    open_client,
    open_server,
)

LEFT = 100.0


def make_server() -> tuple[Server, trio.Event]:
    server = Server("expiring", version="1")
    release = trio.Event()

    @server.tool
    async def hold() -> str:
        await release.wait()
        return "held"

    @server.tool
    async def question(ctx: Context) -> str:
        answer = await ctx.elicit("go on?", bool, key="go")
        return f"{answer.action} {answer.data}"

    @server.resource("note://x")
    def note() -> str:
        return "x"

    return server, release


def make_auth() -> Bearer:
    """A guard whose tokens end on the virtual clock: `short` after LEFT seconds."""
    begun, started = time.time(), trio.current_time()
    return Bearer(
        Tokens({"short": make_principal(left=LEFT), "long": make_principal(left=None)}),
        leeway=0,
        now=lambda: begun + trio.current_time() - started,
    )


async def open_session(host: Any, token: str) -> dict[str, Any]:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await finish(host.post(begin, bearing(token)))
    headers = bearing(token, **{"mcp-session-id": answer.headers["mcp-session-id"]})
    await finish(host.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers))
    return headers


def hold_call(ident: int = 1) -> dict[str, Any]:
    params = {"name": "hold", "arguments": {}}
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}


async def test_a_stream_of_a_session_ends_with_its_token_and_another_token_goes_on(autojump_clock):
    server, _ = make_server()
    async with open_host(asgi_app(server, auth=make_auth())) as host:
        headers = await open_session(host, "short")
        stream = host.start("GET", headers)
        began = trio.current_time()
        await finish(stream)
        assert stream.is_complete
        assert LEFT - 1 < trio.current_time() - began < LEFT + 1
        assert (await host.request("GET", headers)).status == 401
        again = host.start("GET", {**headers, **bearing("long")})
        server.add_tool(lambda: 1, name="new")
        assert (await again.wait_messages(1))[0]["method"] == "notifications/tools/list_changed"
        again.disconnect()
        await finish(again)


async def test_a_call_goes_on_after_its_token_has_expired(autojump_clock):
    server, release = make_server()
    async with open_host(asgi_app(server, auth=make_auth())) as host:
        session = await open_session(host, "short")
        calls = [
            host.modern("tools/call", {"name": "hold"}, headers=bearing("short")),
            host.post(hold_call(), session),
        ]
        await trio.sleep(LEFT + 10)
        release.set()
        for call in calls:
            await finish(call)
            assert b"held" in call.body


async def test_a_subscription_breaks_off_when_its_token_expires(autojump_clock):
    """Without a result, which would say that the server has ended it: clients subscribe again."""
    server, _ = make_server()
    async with open_host(asgi_app(server, auth=make_auth())) as host:
        wanted = {"notifications": {"toolsListChanged": True}}
        began = trio.current_time()
        listening = await finish(host.modern("subscriptions/listen", wanted, headers=bearing("short")))
        assert LEFT - 1 < trio.current_time() - began < LEFT + 1
    assert [message.get("method") for message in listening.messages] == [
        "notifications/subscriptions/acknowledged"
    ]
    assert listening.is_complete


async def test_an_event_stream_of_http_sse_takes_no_more_calls_and_ends_with_the_last(autojump_clock):
    server, release = make_server()
    async with open_host(asgi_app(server, auth=make_auth(), sse=True)) as host:
        stream = host.start("GET", bearing("short", accept="text/event-stream"), path="/sse")
        await stream.wait_body(b"session_id=")
        where = stream.body.split(b"data: ")[1].split()[0].decode()
        params = {
            "protocolVersion": "2024-11-05",
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        await finish(host.post(begin, bearing("long"), path=where))
        await finish(host.post(hold_call(1), bearing("long"), path=where))
        await trio.sleep(LEFT + 10)
        assert not stream.ended.is_set()
        await finish(host.post(hold_call(2), bearing("long"), path=where))
        release.set()
        await finish(stream)
    refusal, answer = stream.messages[1:]
    assert (refusal["id"], refusal["error"]["data"]) == (2, {"status": 401})
    assert answer["result"]["content"][0]["text"] == "held"


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_connection_takes_no_more_calls_and_closes_behind_the_last(protocol, autojump_clock):
    server, release = make_server()
    outcomes: list[Any] = []
    async with open_server(server) as running:
        target = running.authenticated(Principal("ann", expires_at=time.time() + LEFT))
        async with open_client(target, protocol=protocol) as client, trio.open_nursery() as nursery:

            async def hold() -> None:
                outcomes.append((await client.call_tool("hold")).data)

            nursery.start_soon(hold)
            await trio.sleep(LEFT + 10)
            with pytest.raises(ProtocolError, match="expired") as raised:
                await client.call_tool("hold")
            assert raised.value.data == {"status": 401}
            release.set()
            await client.wait_lost()
    assert outcomes == ["held"]


async def test_an_expired_connection_reads_the_answers_that_its_calls_wait_for(autojump_clock):
    server, _ = make_server()

    async def answer(request: Any) -> Any:
        await trio.sleep(LEFT + 10)
        return {"value": True}

    async with open_server(server) as running:
        target = running.authenticated(Principal("ann", expires_at=time.time() + LEFT))
        async with open_client(target, protocol=LEGACY, elicitation_handler=answer) as client:
            assert (await client.call_tool("question")).data == "accept True"
            await client.wait_lost()


async def test_an_idle_connection_closes_when_its_token_expires(autojump_clock):
    server, _ = make_server()
    async with open_server(server) as running:
        target = running.authenticated(Principal("ann", expires_at=time.time() + LEFT))
        async with open_client(target) as client, client.subscribe("note://x") as changes:
            began = trio.current_time()
            await client.wait_lost()
            with pytest.raises(ConnectionLost):
                await changes.receive()
            assert LEFT - 1 < trio.current_time() - began < LEFT + 1


async def test_a_connection_that_ends_before_its_token_leaves_nothing_behind():
    server, _ = make_server()
    async with open_server(server) as running:
        target = running.authenticated(Principal("ann", expires_at=time.time() + LEFT))
        async with open_client(target) as client:
            assert len(await client.list_tools()) == 2
        await wait_all_tasks_blocked()
