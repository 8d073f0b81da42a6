"""An ASGI application behind tokens (RFC 6750, RFC 9449, RFC 9728)."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest

from tests.support.oauth_dance import RESOURCE, ClientKey, Clock, Dance, make_server
from trio_mcp.testing.authorization import Answer, DevAuthorizationServer
from trio_mcp.testing.authorization.in_memory import ask_app
from trio_mcp.transports.asgi.types import ASGIApp, Receive, Scope, Send


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    body = scope["trio_mcp.claims"]["sub"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": body})


async def ask(app: ASGIApp, **headers: str) -> Answer:
    return await ask_app(app, "POST", RESOURCE, headers, b"")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_token_for_the_resource_lets_its_user_in() -> None:
    server = make_server()
    app = server.protect(application, RESOURCE, scopes=["read"])
    answer = await ask(app, **bearer((await Dance(server).tokens())["access_token"]))
    assert (answer.status, answer.body, answer.headers["x-own"]) == (200, b"alice", "1")
    assert (
        await ask(app, **bearer(server.issue_token("bob", audience=RESOURCE, scopes=["read"])))
    ).status == 200


async def test_without_a_token_the_client_is_told_where_the_metadata_are() -> None:
    server = make_server()
    app = server.protect(application, RESOURCE, scopes=["read"])
    refused = await ask(app)
    told = refused.headers["www-authenticate"]
    assert refused.status == 401
    assert told.startswith('Bearer scope="read", resource_metadata="')
    url = told.split('resource_metadata="')[1].rstrip('"')
    assert url == "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
    metadata = (await ask_app(app, "GET", url, {}, b"")).json
    assert metadata["resource"] == RESOURCE
    assert metadata["authorization_servers"] == [server.issuer]


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_in": -60},
        {"valid_in": 60},
        {"audience": "https://other.example.com"},
        {"issuer": "https://other.example.com"},
        {"algorithm": "none"},
        {"algorithm": "HS256"},
        {"tampered": {"sub": "admin"}},
        {"with_other_key": True},
        {"claims": {"exp": None}},
        {"claims": {"aud": None}},
    ],
)
async def test_a_bad_token_is_refused(changes: dict[str, Any]) -> None:
    server = make_server()
    token = server.issue_token(**{"audience": RESOURCE, **changes})
    refused = await ask(server.protect(application, RESOURCE), **bearer(token))
    assert refused.status == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


async def test_a_token_without_a_scope_is_told_which() -> None:
    server = make_server()
    app = server.protect(application, RESOURCE, scopes=["read", "write"])
    refused = await ask(app, **bearer(server.issue_token(audience=RESOURCE, scopes=["read"])))
    assert refused.status == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert 'scope="read write"' in refused.headers["www-authenticate"]


async def test_a_revoked_token_of_random_text_is_refused() -> None:
    server = make_server(opaque_tokens=True)
    app = server.protect(application, RESOURCE)
    token = (await Dance(server).tokens())["access_token"]
    assert (await ask(app, **bearer(token))).status == 200
    server.revoke_subject("alice")
    assert (await ask(app, **bearer(token))).status == 401


async def bound_token(server: DevAuthorizationServer, key: ClientKey) -> str:
    dance = Dance(server)
    code = (await dance.callback())["code"]
    answer = await dance.redeem(code, headers=key.proof(f"{server.issuer}/token"))
    token: str = answer.json["access_token"]
    return token


def ath(token: str) -> str:
    return base64.urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()


def dpop(key: ClientKey, token: str, **changes: Any) -> dict[str, str]:
    return {"authorization": f"DPoP {token}", **key.proof(RESOURCE, **{"ath": ath(token), **changes})}


async def test_a_bound_token_needs_a_proof_by_its_key_for_this_request_and_token() -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock)
    app = server.protect(application, RESOURCE, needs_proof=True)
    token = await bound_token(server, key)
    assert (await ask(app, **dpop(key, token))).status == 200
    for headers in (
        bearer(token),
        {**bearer(token), **key.proof(RESOURCE, ath=ath(token))},
        {"authorization": f"DPoP {token}"},
        dpop(key, token, ath=ath("another")),
        dpop(key, token, ath=None),
        dpop(key, token, htm="GET"),
        dpop(key, token, htu="https://mcp.example.com/other"),
        dpop(ClientKey(clock), token),
        bearer(server.issue_token(audience=RESOURCE)),
    ):
        refused = await ask(app, **headers)
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("DPoP ")


async def test_a_resource_may_want_a_nonce_of_its_own() -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock)
    app = server.protect(application, RESOURCE, needs_nonce=True)
    token = await bound_token(server, key)
    asked = await ask(app, **dpop(key, token))
    assert asked.status == 401
    assert 'DPoP error="use_dpop_nonce"' in asked.headers["www-authenticate"]
    answer = await ask(app, **dpop(key, token, nonce=asked.headers["dpop-nonce"]))
    assert answer.status == 200
    assert answer.headers["dpop-nonce"] != asked.headers["dpop-nonce"]


async def test_a_websocket_is_refused_and_the_lifespan_is_the_applications() -> None:
    scopes: list[str] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope["type"])

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        scopes.append(f"{message['type']} {message['code']}")

    app = make_server().protect(lifespan, RESOURCE)
    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket", "path": "/mcp"}, receive, send)
    assert scopes == ["lifespan", "websocket.close 1008"]
