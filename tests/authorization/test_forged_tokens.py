"""No verb lets a forged token in, and nobody sees it again (MCP authorization, "Token Handling")."""

from __future__ import annotations

from typing import Any

import pytest

from tests.authorization.tokens import make_fetch, shake_hands
from tests.support.asgi_host import Exchange, Host, finish, open_host
from trio_mcp import Bearer, Context, Introspection, JwtVerifier, Server, asgi_app
from trio_mcp.testing.authorization import DevAuthorizationServer

pytestmark = pytest.mark.usefixtures("leaks")

RESOURCE = "http://localhost:8000/mcp"

FORGERIES: dict[str, dict[str, Any]] = {
    "expired": {"expires_in": -120},
    "not valid yet": {"valid_in": 600},
    "for another server": {"audience": "https://other.example.com/mcp"},
    "for a server whose URL is longer": {"audience": f"{RESOURCE}/more"},
    "of another issuer": {"issuer": "https://other.example.com"},
    "without a signature": {"algorithm": "none"},
    "signed with the public key as a secret": {"algorithm": "HS256"},
    "tampered: the user": {"tampered": {"sub": "admin"}},
    "tampered: the scopes": {"tampered": {"scope": "read write"}},
    "tampered: the expiry": {"expires_in": -120, "tampered": {"exp": 9_999_999_999}},
    "signed with another key": {"with_other_key": True},
    "under an unknown key": {"header": {"kid": "unknown"}},
    "an ID token's type": {"typ": "JWT", "audience": "app"},
    "another type": {"typ": "oauth-id-jag+jwt"},
    "without an expiry": {"claims": {"exp": None}},
    "without an audience": {"claims": {"aud": None}},
    "without a user": {"claims": {"sub": None}},
    "bound to a key": {"claims": {"cnf": {"jkt": "x"}}},
}

calls: list[str] = []
server = Server("albums")


@server.tool
async def count(ctx: Context) -> int:
    calls.append("count")
    return 2


@server.resource("albums://all")
async def albums() -> str:
    calls.append("albums")
    return "summer"


@server.resource("albums://{name}")
async def album(name: str) -> str:
    calls.append("album")
    return name


@server.prompt
async def describe(name: str) -> str:
    calls.append("describe")
    return name


def start_each_verb(host: Host, headers: dict[str, str]) -> dict[str, Exchange]:
    """A request for each verb, in both eras."""
    modern = {
        "server/discover": {},
        "tools/list": {},
        "tools/call": {"name": "count", "arguments": {}},
        "resources/list": {},
        "resources/templates/list": {},
        "resources/read": {"uri": "albums://all"},
        "prompts/list": {},
        "prompts/get": {"name": "describe", "arguments": {"name": "x"}},
        "completion/complete": {
            "ref": {"type": "ref/prompt", "name": "describe"},
            "argument": {"name": "name", "value": "x"},
        },
        "subscriptions/listen": {"notifications": {"toolsListChanged": True}},
        "tasks/get": {"taskId": "t"},
        "tasks/update": {"taskId": "t", "inputResponses": {}},
        "tasks/cancel": {"taskId": "t"},
    }
    started = {verb: host.modern(verb, params, headers=headers) for verb, params in modern.items()}
    for verb in ("initialize", "ping", "tools/call", "notifications/cancelled"):
        message = {"jsonrpc": "2.0", "method": verb, "params": {}}
        if not verb.startswith("notifications/"):
            message["id"] = 1
        legacy = {**headers, "mcp-session-id": "s", "mcp-protocol-version": "2025-11-25"}
        started[f"{verb} of a session"] = host.post(message, legacy)
    for method in ("GET", "DELETE"):
        started[method] = host.start(
            method, {**headers, "mcp-session-id": "s", "accept": "text/event-stream"}
        )
    # HTTP+SSE, which the application must serve.
    started["GET /sse"] = host.start("GET", {**headers, "accept": "text/event-stream"}, path="/sse")
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    started["POST /messages"] = host.post(message, headers, path="/messages?session_id=s")
    return started


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_no_verb_lets_a_forged_token_in(forgery: str) -> None:
    issuer = DevAuthorizationServer()
    verify = JwtVerifier(issuer.issuer, RESOURCE, fetch=make_fetch(issuer))
    token = issuer.issue_token(**{"audience": RESOURCE, "scopes": ["read"], **FORGERIES[forgery]})
    calls.clear()
    app = asgi_app(server, auth=Bearer(verify), sse=True)
    headers = {"authorization": f"Bearer {token}"}
    async with open_host(app) as host:
        for verb, exchange in start_each_verb(host, headers).items():
            await finish(exchange)
            assert exchange.status == 401, verb
            assert 'error="invalid_token"' in exchange.headers["www-authenticate"], verb
            assert token not in f"{exchange.headers} {exchange.body.decode()}", verb
        head, body = await shake_hands(app, headers, extensions={"websocket.http.response": {}})
        assert head["status"] == 401
        assert token not in f"{head} {body}"
    assert calls == []


async def test_no_verb_lets_anybody_in_without_a_token() -> None:
    issuer = DevAuthorizationServer()
    verify = JwtVerifier(issuer.issuer, RESOURCE, fetch=make_fetch(issuer))
    calls.clear()
    app = asgi_app(server, auth=Bearer(verify), sse=True)
    async with open_host(app) as host:
        for verb, exchange in start_each_verb(host, {}).items():
            await finish(exchange)
            assert exchange.status == 401, verb
            assert "error=" not in exchange.headers["www-authenticate"], verb
        head, _ = await shake_hands(app, {}, extensions={"websocket.http.response": {}})
        assert head["status"] == 401
    assert calls == []
    assert issuer.counts == {}


async def test_a_good_token_of_the_same_server_is_let_in() -> None:
    issuer = DevAuthorizationServer()
    verify = JwtVerifier(issuer.issuer, RESOURCE, fetch=make_fetch(issuer))
    calls.clear()
    async with open_host(asgi_app(server, auth=Bearer(verify))) as host:
        for changes in ({}, {"audience": ["https://other.example.com", RESOURCE]}):
            token = issuer.issue_token(**{"audience": RESOURCE, **changes})
            headers = {"authorization": f"Bearer {token}"}
            answer = await finish(
                host.modern("tools/call", {"name": "count", "arguments": {}}, headers=headers)
            )
            assert answer.status == 200
        issuer.rotate_keys(keep=0)
        token = issuer.issue_token(audience=RESOURCE)
    assert calls == ["count", "count"]
    assert issuer.counts["jwks"] == 1


async def test_a_token_that_only_introspection_can_tell_is_good_until_it_is_revoked() -> None:
    issuer = DevAuthorizationServer(opaque_tokens=True)
    issuer.add_client("resource", secret="s3cret")
    issuer.add_client("service", secret="s", auth_method="client_secret_post")
    form = {"grant_type": "client_credentials", "client_id": "service", "client_secret": "s"}
    token = (await issuer.request("POST", "token", form={**form, "resource": RESOURCE})).json["access_token"]
    verify = Introspection(
        issuer.metadata["introspection_endpoint"],
        "resource",
        "s3cret",
        audience=RESOURCE,
        issuer=issuer.issuer,
        fetch=make_fetch(issuer),
        cache_seconds=0,
    )
    headers = {"authorization": f"Bearer {token}"}
    async with open_host(asgi_app(server, auth=Bearer(verify), sse=True)) as host:
        assert (await finish(host.modern("tools/list", headers=headers))).status == 200
        issuer.revoke_subject("service")
        for verb, exchange in start_each_verb(host, headers).items():
            assert (await finish(exchange)).status == 401, verb
