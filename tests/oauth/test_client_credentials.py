"""A program that acts for itself: one request for a token, to the server that its credentials are for."""

from __future__ import annotations

import logging
from base64 import b64decode
from functools import partial
from typing import Any

import pytest
import trio
from joserfc import jwt
from joserfc.jwk import ECKey
from trio.testing import MockClock

from tests.oauth.fake_network import (
    CHALLENGE,
    ISSUER,
    METADATA_URL,
    SERVER,
    Network,
    Tokens,
    answer,
    meet,
    refuse,
    token_of,
)
from trio_mcp.errors import AuthorizationError, DiscoveryError, InsufficientScope
from trio_mcp.oauth.client_credentials import ClientCredentials

SECRET = "s3cret"
KEY = ECKey.generate_key("P-256")


def make(**options: Any) -> ClientCredentials:
    return ClientCredentials("client", SECRET, **options)


async def test_a_token_is_got_by_the_secret_and_presented(network: Network) -> None:
    network.add_server()
    network.add_issuer(Tokens())
    keeper = make().for_server(SERVER, None)
    assert await token_of(keeper) is None
    assert not network.asked, "nothing happens before a server asks for a token"
    assert await meet(keeper)
    assert await token_of(keeper) == "Bearer token-1"
    (form,) = network.forms()
    assert form.fields == {"grant_type": "client_credentials", "resource": SERVER}
    assert b64decode(form.headers["authorization"].removeprefix("Basic ")) == b"client:s3cret"
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_token_is_got_by_a_signed_assertion(network: Network) -> None:
    network.add_server()
    network.add_issuer(Tokens(), token_endpoint_auth_methods_supported=["private_key_jwt"])
    auth = ClientCredentials("client", private_key=KEY.as_pem(private=True), scopes=["b", "a"])
    assert await meet(auth.for_server(SERVER, None))
    (form,) = network.forms()
    assertion = jwt.decode(form.fields.pop("client_assertion"), KEY, ["ES256"])
    assert (assertion.claims["sub"], assertion.claims["aud"]) == ("client", ISSUER)
    assert form.fields == {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "resource": SERVER,
        "scope": "a b",
    }
    assert "authorization" not in form.headers


@pytest.mark.parametrize(
    ("wanted", "supported", "own", "asked"),
    [
        (None, None, None, None),
        (None, ["read"], None, "read"),
        ("write", ["read"], None, "write"),
        ("write", None, ["own"], "own write"),
        (None, None, ["own"], "own"),
    ],
)
async def test_the_scopes_that_the_server_wants_are_asked_for(
    network: Network,
    wanted: str | None,
    supported: list[str] | None,
    own: list[str] | None,
    asked: str | None,
) -> None:
    network.add_server(**({} if supported is None else {"scopes_supported": supported}))
    network.add_issuer(Tokens())
    challenge = CHALLENGE["www-authenticate"] + ("" if wanted is None else f', scope="{wanted}"')
    await meet(make(scopes=own).for_server(SERVER, None), headers={"www-authenticate": challenge})
    assert network.forms()[0].fields.get("scope") == asked


async def test_one_request_for_a_token_serves_many_calls_and_clients(
    network: Network, autojump_clock: MockClock
) -> None:
    network.add_server()
    network.add_issuer(Tokens())
    network.wait = partial(trio.sleep, 1)
    auth = make()
    seen: list[str | None] = []

    async def call() -> None:
        keeper = auth.for_server(SERVER, None)
        assert await meet(keeper)
        seen.append(await token_of(keeper))

    async with trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(call)
    assert seen == ["Bearer token-1"] * 500
    assert len(network.forms()) == 1


async def test_an_expired_token_is_replaced_without_a_refresh_token(network: Network) -> None:
    now = 1000.0
    network.add_server()
    network.add_issuer(Tokens({"expires_in": 60, "refresh_token": "s3cret-refresh"}))
    keeper = make(now=lambda: now).for_server(SERVER, None)
    await meet(keeper)
    now += 61
    assert await meet(keeper)
    assert await token_of(keeper) == "Bearer token-2"
    assert [form.fields["grant_type"] for form in network.forms()] == ["client_credentials"] * 2


async def test_a_step_up_asks_for_more_scopes_and_ends(network: Network) -> None:
    network.add_server()
    network.add_issuer(Tokens())
    keeper = make(scopes=["read"]).for_server(SERVER, None)
    await meet(keeper)
    lacking = {"www-authenticate": 'Bearer error="insufficient_scope", scope="write"'}
    assert await meet(keeper, 403, lacking)
    assert network.forms()[1].fields["scope"] == "read write"
    with pytest.raises(InsufficientScope) as failure:
        await meet(keeper, 403, lacking, attempt=1)
    assert failure.value.required == {"write"}
    assert len(network.forms()) == 2


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_refusal_is_told_and_not_tried_again(
    network: Network, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    network.add_server()
    network.add_issuer(
        lambda asked: refuse("invalid_client", 401, error_description=f"{asked}, {SECRET} is wrong")
    )
    auth = make(auth_method=method)
    with pytest.raises(AuthorizationError, match="invalid_client") as failure:
        await meet(auth.for_server(SERVER, None))
    assert (failure.value.error, failure.value.issuer) == ("invalid_client", ISSUER)
    assert len(network.forms()) == 1
    assert SECRET not in f"{failure.value!r} {auth!r} {auth.for_server(SERVER, None)!r} {caplog.text}"


async def test_credentials_go_to_the_first_issuer_only(network: Network) -> None:
    network.add_server()
    network.add_issuer(Tokens())
    network.add_server("https://evil.example/mcp", "https://evil-auth.example")
    network.add_issuer(Tokens(), "https://evil-auth.example")
    auth = make()
    await meet(auth.for_server(SERVER, None))
    evil = auth.for_server("https://evil.example/mcp", None)
    with pytest.raises(
        AuthorizationError, match=r"trusts https://evil-auth\.example, and not https://auth\.example"
    ):
        await meet(evil, headers={}, url="https://evil.example/mcp")
    assert not network.forms("https://evil-auth.example")


async def test_a_pinned_issuer_is_the_only_one(network: Network) -> None:
    network.add_server()
    network.add_issuer(Tokens())
    with pytest.raises(DiscoveryError, match=r"trusts https://auth\.example, and not https://mine"):
        await meet(make(issuer="https://mine.example").for_server(SERVER, None))
    assert not network.forms()


async def test_a_server_that_moves_to_another_issuer_does_not_take_the_credentials_along(
    network: Network,
) -> None:
    network.add_server()
    network.add_issuer(Tokens())
    keeper = make().for_server(SERVER, None)
    await meet(keeper)
    network.add_server(issuer="https://evil-auth.example")
    network.add_issuer(Tokens(), "https://evil-auth.example")
    with pytest.raises(AuthorizationError, match=r"trusts https://evil-auth\.example, and not"):
        await meet(keeper)
    assert not network.forms("https://evil-auth.example")


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ({"issuer": ISSUER}, "has no token endpoint"),
        ({"issuer": ISSUER, "token_endpoint": "http://auth.example/token"}, "must be https"),
        ({"issuer": ISSUER, "token_endpoint": "https://10.0.0.1/token"}, "network"),
        ({"issuer": "https://other.example", "token_endpoint": f"{ISSUER}/token"}, "equal to the letter"),
    ],
)
async def test_metadata_that_lead_elsewhere_get_no_secret(
    network: Network, document: dict[str, str], match: str
) -> None:
    network.add_server()
    network.handlers[f"{ISSUER}/.well-known/oauth-authorization-server"] = lambda asked: answer(document)
    with pytest.raises(DiscoveryError, match=match):
        await meet(make().for_server(SERVER, None))
    assert all(asked.method == "GET" for asked in network.asked)


async def test_the_metadata_of_the_challenge_is_asked_for(network: Network) -> None:
    network.add_server()
    network.add_issuer(Tokens())
    await meet(make().for_server(SERVER, None))
    assert network.asked[0].url == METADATA_URL


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, TypeError),
        ({"client_secret": SECRET, "scopes": "read"}, TypeError),
        ({"client_secret": SECRET, "private_key": KEY.as_pem(private=True)}, ValueError),
        ({"private_key": "s3cret"}, ValueError),
        ({"client_secret": SECRET, "auth_method": "tls_client_auth"}, ValueError),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind) as failure:
        ClientCredentials("client", **options)
    assert SECRET not in str(failure.value)
