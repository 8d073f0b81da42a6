"""Every grant of the client gets in at the authorization server for development, with all its checks on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    ClientCredentials,
    EnterpriseManaged,
    JwtBearer,
    OAuth,
    Server,
    asgi_app,
    open_client,
)
from trio_mcp.testing.authorization import DevAuthorizationServer, open_authorization_server
from trio_mcp.transports.hypercorn import serve_asgi

CLUSTER = "https://cluster.example"
KEY = ECKey.generate_key("P-256", parameters={"kid": "one", "alg": "ES256", "use": "sig"})
JWKS = {"keys": [KEY.as_dict(private=False)]}


@attrs.define
class Place:
    """A protected server and its authorization server."""

    issuer: DevAuthorizationServer
    url: str


@asynccontextmanager
async def open_place(*, needs_proof: bool = False) -> AsyncIterator[Place]:
    """Serve both; with `needs_proof` tokens are bound to keys, and every proof needs a nonce."""
    server = Server("protected")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    dpop = "required" if needs_proof else "off"
    with trio.fail_after(HANG_SECONDS):
        async with (
            open_authorization_server(dpop=dpop, dpop_nonce=needs_proof) as issuer,
            trio.open_nursery() as nursery,
        ):
            app = asgi_app(server)
            protected: list[Any] = []

            async def serve(scope: Any, receive: Any, send: Any) -> None:
                await (app if scope["type"] == "lifespan" else protected[0])(scope, receive, send)

            (origin,) = await nursery.start(
                partial(serve_asgi, serve, bind="127.0.0.1:0", shutdown_grace=0.0)
            )
            url = f"{origin}/mcp"
            protected.append(
                issuer.protect(app, url, scopes=["read"], needs_proof=needs_proof, needs_nonce=needs_proof)
            )
            yield Place(issuer, url)
            nursery.cancel_scope.cancel()


async def by_secret(place: Place, **options: Any) -> ClientCredentials:
    place.issuer.add_client("client", secret="s3cret")
    return ClientCredentials("client", "s3cret", **options)


async def by_posted_secret(place: Place, **options: Any) -> ClientCredentials:
    place.issuer.add_client("client", secret="s3cret", auth_method="client_secret_post")
    return ClientCredentials("client", "s3cret", auth_method="client_secret_post", **options)


async def by_key(place: Place, **options: Any) -> ClientCredentials:
    place.issuer.add_client("client", jwks=JWKS)
    return ClientCredentials("client", private_key=KEY.as_dict(private=True), **options)


async def by_workload(place: Place, **options: Any) -> JwtBearer:
    place.issuer.trust(CLUSTER, JWKS)

    async def fetch(audience: str) -> str:
        now = 2_000_000_000
        claims = {
            "iss": CLUSTER,
            "sub": "worker",
            "aud": audience,
            "exp": now,
            "jti": str(trio.current_time()),
        }
        return jwt.encode({"alg": "ES256", "kid": "one"}, claims, KEY)

    return JwtBearer(fetch, **options)


async def by_user(place: Place, **options: Any) -> OAuth:
    return OAuth(open_browser=place.issuer.open_browser, **options)


WAYS: list[Callable[..., Awaitable[Any]]] = [by_secret, by_posted_secret, by_key, by_workload, by_user]


@pytest.mark.parametrize("needs_proof", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_client_gets_in(way: Callable[..., Awaitable[Any]], needs_proof: bool) -> None:
    async with open_place(needs_proof=needs_proof) as place:
        auth = await way(place, dpop=needs_proof)
        async with open_client(place.url, auth=auth) as client:
            for number in range(3):
                assert (await client.call_tool("add", {"a": number, "b": 1})).data == number + 1
        # DPoP asks once more, with the nonce.
        assert place.issuer.counts["token"] == 1 + needs_proof


async def test_a_user_of_an_organization_gets_in() -> None:
    async with open_place() as place, open_authorization_server() as idp:
        idp.add_client("sso-app", secret="sso")
        place.issuer.add_client("mcp-app", secret="mcp")
        place.issuer.trust(idp.issuer, idp.keys.document)
        idp.name_client_at(place.issuer.issuer, "sso-app", "mcp-app")
        identity = idp.issue_token(audience="sso-app", typ="JWT", client_id="sso-app")
        auth = EnterpriseManaged(
            identity,
            client_id="mcp-app",
            client_secret="mcp",
            idp_client_id="sso-app",
            idp_client_secret="sso",
            idp_issuer=idp.issuer,
        )
        async with open_client(place.url, auth=auth) as client:
            assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3
