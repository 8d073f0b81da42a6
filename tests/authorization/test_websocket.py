"""WebSockets of a protected server: refused before they open, and limited by the token of their handshake."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from tests.authorization.tokens import OUTAGE, Tokens, bearing, make_principal, make_scope, shake_hands
from tests.support.limits import HANG_SECONDS
from trio_mcp import Bearer, Context, ProtocolError, Server, asgi_app, open_client, open_server, serve_http
from trio_mcp.errors import InsufficientScope
from trio_mcp.wire.authorization import find_challenge

server = Server("protected", version="1")


@server.tool
async def whoami(ctx: Context) -> str:
    assert "authorization" not in ctx.headers
    return str(ctx.principal)


@server.tool(scopes=["write"])
async def write() -> str:
    return "written"


def make_auth() -> Bearer:
    return Bearer(Tokens({"good": make_principal(), "stale": make_principal(left=-100)}), scopes=["read"])


async def shake_raw_hands(url: str) -> bytes:
    """What the server at `url` sends to a handshake without a token; it closes behind a refusal."""
    authority = url.removeprefix("ws://").partition("/")[0]
    host, _, port = authority.partition(":")
    lines = [
        "GET /mcp HTTP/1.1",
        f"Host: {authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"needed" not in answer:
            chunk = await stream.receive_some()
            if not chunk:
                break
            answer += chunk
    return answer


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({}, 401, None),
        (bearing("unknown"), 401, "invalid_token"),
        (bearing("stale"), 401, "invalid_token"),
        ({"authorization": "Bearer"}, 400, "invalid_request"),
        (bearing(OUTAGE), 503, None),
    ],
)
async def test_a_handshake_without_a_valid_token_is_refused_as_a_request_is(headers, status, error):
    async with open_server(server) as running:
        app = asgi_app(running, auth=make_auth())
        start, body = await shake_hands(app, headers, extensions={"websocket.http.response": {}})
        (close,) = await shake_hands(app, headers, extensions=None)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert (body["type"], body["more_body"]) == ("websocket.http.response.body", False)
    shown = {name.decode(): value.decode() for name, value in start["headers"]}
    assert int(shown["content-length"]) == len(body["body"])
    challenge = find_challenge(shown.get("www-authenticate"))
    if status == 503:
        assert challenge is None
    else:
        assert challenge is not None
        assert challenge.parameters.get("error") == error
        metadata = "http://localhost:8000/.well-known/oauth-protected-resource/mcp"
        assert challenge.parameters["resource_metadata"] == metadata
    assert (close["type"], close["code"]) == ("websocket.close", 1008)
    assert sum(running.refusals.values()) == 2


async def test_a_connection_has_the_principal_and_the_scopes_of_its_handshake():
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0", auth=make_auth()))
            url = url.replace("http", "ws", 1)
            refusal = await shake_raw_hands(url)
            async with open_client(url, headers=bearing("good")) as client:
                assert [tool.name for tool in await client.list_tools()] == ["whoami"]
                assert (await client.call_tool("whoami")).data == "https://issuer.example#ann"
                with pytest.raises(ProtocolError, match="needs the scope write") as failed:
                    await client.call_tool("write")
            nursery.cancel_scope.cancel()
    # The token is that of the handshake, so what is to be done is more than another call.
    assert isinstance(failed.value, InsufficientScope)
    assert (failed.value.required, failed.value.code) == ({"write"}, -32043)
    assert "connect again" in str(failed.value)
    assert "OAuth(scopes=['write'])" in str(failed.value)
    assert refusal.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer scope=" in refusal
    assert b"an access token is needed" in refusal


async def test_a_connection_closes_when_its_token_expires(autojump_clock):
    tokens = Tokens({"short": make_principal(left=100)})
    sent: list[dict[str, Any]] = []
    put, get = trio.open_memory_channel[dict[str, Any]](1)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with open_server(server) as running:
        app = asgi_app(running, auth=Bearer(tokens, leeway=20))
        put.send_nowait({"type": "websocket.connect"})
        began = trio.current_time()
        await app(make_scope(bearing("short")), get.receive, send)
        assert 119 < trio.current_time() - began < 121
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
