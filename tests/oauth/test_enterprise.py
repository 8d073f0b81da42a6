"""The identity provider of an organization grants its users their tokens."""

from __future__ import annotations

import logging
from base64 import b64decode
from typing import Any

import pytest
import trio

from tests.oauth.fake_network import ISSUER, SERVER, Asked, Network, Tokens, answer, meet, refuse, token_of
from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.enterprise import EnterpriseManaged
from trio_mcp.oauth.requests import OAuthAnswer

IDP = "https://idp.example"
IDENTITY = "s3cret-id-token"
GRANT = "s3cret-id-jag"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


def make(**options: Any) -> EnterpriseManaged:
    given: dict[str, Any] = {
        "identity": IDENTITY,
        "client_id": "client",
        "client_secret": "s3cret",
        "idp_client_id": "idp-client",
        "idp_issuer": IDP,
        **options,
    }
    return EnterpriseManaged(given.pop("identity"), **given)


def grant(**members: Any) -> OAuthAnswer:
    return answer({"access_token": GRANT, "issued_token_type": ID_JAG, "token_type": "N_A", **members})


@pytest.fixture
def network(network: Network) -> Network:
    network.add_server(scopes_supported=["read"])
    network.add_issuer(Tokens(), token_endpoint_auth_methods_supported=["client_secret_basic"])
    network.add_issuer(lambda asked: grant(), IDP)
    return network


async def test_an_identity_becomes_a_grant_and_the_grant_a_token(network: Network) -> None:
    keeper = make().for_server(SERVER, None)
    assert await meet(keeper)
    assert await token_of(keeper) == "Bearer token-1"
    (exchange,) = network.forms(IDP)
    assert exchange.fields == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": ID_JAG,
        "audience": ISSUER,
        "resource": SERVER,
        "scope": "read",
        "subject_token": IDENTITY,
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "client_id": "idp-client",
    }
    (form,) = network.forms()
    assert form.fields == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": GRANT,
        "resource": SERVER,
        "scope": "read",
    }
    assert b64decode(form.headers["authorization"].removeprefix("Basic ")) == b"client:s3cret"


async def test_the_provider_may_want_a_secret_and_a_fresh_identity_of_another_kind(network: Network) -> None:
    count = 0

    async def fetch() -> str:
        nonlocal count
        await trio.lowlevel.checkpoint()
        count += 1
        return f"assertion-{count}"

    keeper = make(
        identity=fetch,
        identity_type="saml2",
        idp_client_secret="s3cret",
        idp_auth_method="client_secret_post",
        idp_issuer=None,
        idp_token_endpoint=f"{IDP}/token",
    ).for_server(SERVER, None)
    await meet(keeper)
    await meet(keeper)
    fields = [form.fields for form in network.forms(IDP)]
    assert [each["subject_token"] for each in fields] == ["assertion-1", "assertion-2"]
    assert {each["subject_token_type"] for each in fields} == {"urn:ietf:params:oauth:token-type:saml2"}
    assert {each["client_secret"] for each in fields} == {"s3cret"}
    assert not [asked for asked in network.asked if asked.url.startswith(f"{IDP}/.well-known")]


async def test_the_policy_of_the_organization_is_told_and_nothing_else_is_tried(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def deny(asked: Asked) -> OAuthAnswer:
        return refuse("access_denied", error_description=f"not for you: {asked.fields['subject_token']}")

    network.add_issuer(deny, IDP)
    auth = make()
    with pytest.raises(
        AuthorizationError, match="the identity provider answered 400: access_denied"
    ) as failure:
        await meet(auth.for_server(SERVER, None))
    assert (failure.value.error, failure.value.issuer) == ("access_denied", IDP)
    assert not network.forms()
    assert "s3cret" not in f"{failure.value!r} {auth!r} {caplog.text}"


@pytest.mark.parametrize(
    "members",
    [
        {"issued_token_type": None},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer"},
    ],
)
async def test_what_is_no_grant_is_sent_nowhere(network: Network, members: dict[str, Any]) -> None:
    network.add_issuer(lambda asked: grant(**members), IDP)
    with pytest.raises(AuthorizationError, match="something else than an authorization grant"):
        await meet(make().for_server(SERVER, None))
    assert not network.forms()


async def test_a_refused_grant_is_told_without_it(network: Network) -> None:
    network.add_issuer(lambda asked: refuse("invalid_grant", error_description=f"no {GRANT}"))
    with pytest.raises(AuthorizationError, match="invalid_grant") as failure:
        await meet(make().for_server(SERVER, None))
    assert GRANT not in str(failure.value)
    assert len(network.forms()) == len(network.forms(IDP)) == 1


async def test_the_identity_goes_to_the_provider_only(network: Network) -> None:
    network.add_server(issuer="https://evil-auth.example")
    network.add_issuer(Tokens(), "https://evil-auth.example")
    await meet(make(client_secret=None).for_server(SERVER, None))
    sent = [asked.url for asked in network.asked if IDENTITY in asked.fields.values()]
    assert sent == [f"{IDP}/token"]
    assert network.forms(IDP)[0].fields["audience"] == "https://evil-auth.example"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"idp_issuer": None}, TypeError),
        ({"identity_type": "password"}, ValueError),
        ({"scopes": "read"}, TypeError),
        ({"idp_issuer": "idp.example"}, ValueError),
        ({"private_key": "s3cret"}, ValueError),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind) as failure:
        make(**options)
    assert "s3cret" not in str(failure.value)
