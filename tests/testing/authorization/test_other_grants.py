"""Client credentials, assertions and token exchange (RFC 6749, 4.4; RFC 7523; RFC 8693; ID-JAG)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.oauth_dance import CALLBACK, RESOURCE, ClientKey, Clock, Dance, basic, make_server
from trio_mcp.testing.authorization import Answer, DevAuthorizationServer

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


async def ask(server: DevAuthorizationServer, headers: dict[str, str] | None = None, **form: Any) -> Answer:
    given = {"grant_type": "client_credentials", "scope": "read", "resource": RESOURCE, **form}
    fields = {name: value for name, value in given.items() if value is not None}
    return await server.request("POST", "token", headers=headers, form=fields)


async def test_a_client_gets_a_token_of_its_own_with_its_secret() -> None:
    server = make_server()
    server.add_client("service:1", secret="p%ss:w ord")
    answer = await ask(server, basic("service%3A1", "p%25ss%3Aw+ord"))
    claims = server.keys.verify(answer.json["access_token"])[1]
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("service:1", "service:1", RESOURCE)
    assert claims["scope"] == "read"
    assert "refresh_token" not in answer.json


async def test_a_client_that_registered_to_post_its_secret_does_so() -> None:
    server = make_server()
    server.add_client("service", secret="s", auth_method="client_secret_post")
    assert (await ask(server, client_id="service", client_secret="s")).status == 200
    refused = await ask(server, basic("service", "s"))
    assert (refused.status, refused.json["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("headers", "form", "error"),
    [
        (basic("resource", "wrong"), {}, "invalid_client"),
        (basic("nobody", "s3cret"), {}, "invalid_client"),
        ({"authorization": "Basic !!!"}, {}, "invalid_client"),
        ({"authorization": "Bearer abc"}, {}, "invalid_client"),
        ({}, {}, "invalid_client"),
        ({}, {"client_id": "resource"}, "invalid_client"),
        (basic("resource", "s3cret"), {"client_id": "app"}, "invalid_request"),
        (basic("resource", "s3cret"), {"client_secret": "s3cret"}, "invalid_request"),
        ({}, {"client_id": "app"}, "unauthorized_client"),
        (basic("resource", "s3cret"), {"grant_type": "password"}, "unsupported_grant_type"),
        (basic("resource", "s3cret"), {"grant_type": None}, "invalid_request"),
        (basic("resource", "s3cret"), {"scope": ["read", "write"]}, "invalid_request"),
    ],
)
async def test_a_client_that_does_not_authenticate_as_it_registered_gets_nothing(
    headers, form, error
) -> None:
    answer = await ask(make_server(), headers, **form)
    assert answer.json["error"] == error
    assert answer.status == (401 if error == "invalid_client" else 400)
    assert ("www-authenticate" in answer.headers) == (answer.status == 401)


async def test_a_request_for_tokens_is_a_form_in_a_post() -> None:
    server = make_server()
    assert (await server.request("GET", "token")).status == 405
    refused = await server.request(
        "POST", "token", headers={"content-type": "application/json"}, body=b'{"grant_type":"x"}'
    )
    assert refused.json["error"] == "invalid_request"
    large = await server.request("POST", "token", form={"grant_type": "x" * 70_000})
    assert large.status == 413


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "Ed25519"])
async def test_a_client_authenticates_with_its_key(algorithm: str) -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock, algorithm)
    server.add_client("service", jwks=key.jwks)
    assertion = key.assertion("service", "service", server.issuer)
    form = {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE}
    assert (await ask(server, **form)).status == 200
    replayed = await ask(server, **form)
    assert (replayed.status, replayed.json["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://other.example.com"},
        {"aud": None},
        {"exp": 0},
        {"exp": None},
        {"nbf": 1e12},
        {"iss": "other"},
        {"jti": None},
    ],
)
async def test_an_assertion_of_a_client_with_wrong_claims_is_refused(changes) -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock)
    server.add_client("service", jwks=key.jwks)
    assertion = key.assertion("service", "service", f"{server.issuer}/token", **changes)
    refused = await ask(server, client_assertion=assertion, client_assertion_type=ASSERTION_TYPE)
    assert (refused.status, refused.json["error"]) == (401, "invalid_client")


async def test_an_assertion_signed_by_another_key_is_refused() -> None:
    clock = Clock()
    server = make_server(clock)
    server.add_client("service", jwks=ClientKey(clock).jwks)
    forged = ClientKey(clock).assertion("service", "service", server.issuer)
    refused = await ask(server, client_assertion=forged, client_assertion_type=ASSERTION_TYPE)
    assert refused.json["error"] == "invalid_client"


async def test_a_workload_gets_a_token_by_an_assertion_of_an_issuer_that_is_trusted() -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock)
    assertion = key.assertion("https://cluster.example", "ns/worker", server.issuer)
    form = {"grant_type": JWT_BEARER, "assertion": assertion}
    assert (await ask(server, **form)).json["error"] == "invalid_grant"
    server.trust("https://cluster.example", key.jwks)
    claims = server.keys.verify((await ask(server, **form)).json["access_token"])[1]
    assert (claims["sub"], claims["aud"], claims["scope"]) == ("ns/worker", RESOURCE, "read")
    assert (await ask(server, **form)).json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes", [{"aud": "https://other.example"}, {"exp": 0}, {"sub": None}, {"iss": "https://evil.example"}]
)
async def test_an_assertion_of_a_workload_with_wrong_claims_is_refused(changes) -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock)
    server.trust("https://cluster.example", key.jwks)
    assertion = key.assertion("https://cluster.example", "worker", server.issuer, **changes)
    refused = await ask(server, grant_type=JWT_BEARER, assertion=assertion)
    assert (refused.status, refused.json["error"]) == (400, "invalid_grant")


class Enterprise:
    """An identity provider at which "sso-app" logs users in, and a server that trusts it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.idp = make_server(self.clock, issuer="https://idp.example.com")
        self.idp.add_client("sso-app", secret="sso", redirect_uris=[CALLBACK])
        self.server = make_server(self.clock)
        self.server.add_client("mcp-app", secret="mcp")
        self.server.trust(self.idp.issuer, self.idp.keys.document)
        self.idp.name_client_at(self.server.issuer, "sso-app", "mcp-app")

    async def id_token(self) -> str:
        dance = Dance(self.idp, "sso-app")
        code = (await dance.callback(scope="openid", resource=None))["code"]
        answer = await dance.redeem(code, headers=basic("sso-app", "sso"), resource=None)
        return answer.json["id_token"]

    async def exchange(self, subject_token: str, **changes: Any) -> Answer:
        form = {
            "grant_type": TOKEN_EXCHANGE,
            "requested_token_type": ID_JAG,
            "subject_token": subject_token,
            "subject_token_type": ID_TOKEN,
            "audience": self.server.issuer,
            **changes,
        }
        return await ask(self.idp, basic("sso-app", "sso"), **form)

    async def redeem(self, assertion: str, headers: dict[str, str] | None = None, **changes: Any) -> Answer:
        form = {"grant_type": JWT_BEARER, "assertion": assertion, **changes}
        return await ask(self.server, headers or basic("mcp-app", "mcp"), **form)


async def test_an_enterprise_exchanges_an_id_token_for_an_assertion_and_that_for_a_token() -> None:
    enterprise = Enterprise()
    exchanged = await enterprise.exchange(await enterprise.id_token())
    assert (exchanged.json["issued_token_type"], exchanged.json["token_type"]) == (ID_JAG, "N_A")
    header, claims = enterprise.idp.keys.verify(exchanged.json["access_token"])
    assert header["typ"] == "oauth-id-jag+jwt"
    assert (claims["aud"], claims["client_id"]) == (enterprise.server.issuer, "mcp-app")
    answer = await enterprise.redeem(exchanged.json["access_token"], scope=None, resource=None)
    granted = enterprise.server.keys.verify(answer.json["access_token"])[1]
    assert (granted["sub"], granted["aud"], granted["scope"]) == ("alice", RESOURCE, "read")


async def test_an_identity_assertion_is_good_for_its_client_resource_and_scopes_only() -> None:
    enterprise = Enterprise()
    assertion = (await enterprise.exchange(await enterprise.id_token())).json["access_token"]
    for changes, error in (
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"headers": basic("resource", "s3cret")}, "invalid_grant"),
    ):
        assert (await enterprise.redeem(assertion, **changes)).json["error"] == error
    unnamed = await ask(enterprise.server, grant_type=JWT_BEARER, assertion=assertion)
    assert unnamed.json["error"] == "invalid_client"
    assert (await enterprise.redeem(assertion)).status == 200
    assert (await enterprise.redeem(assertion)).json["error"] == "invalid_grant"


async def test_only_an_id_token_of_the_client_is_exchanged() -> None:
    enterprise = Enterprise()
    identity = await enterprise.id_token()
    access = enterprise.idp.issue_token(audience="sso-app")
    foreign = (await Dance(enterprise.idp).tokens(scope="openid"))["id_token"]
    for subject_token, changes in (
        (access, {}),
        (foreign, {}),
        ("nonsense", {}),
        (identity, {"requested_token_type": None}),
        (identity, {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}),
        (identity, {"audience": None}),
    ):
        assert (await enterprise.exchange(subject_token, **changes)).status == 400
    enterprise.clock.now += 4000
    assert (await enterprise.exchange(identity)).json["error"] == "invalid_grant"


async def test_the_keys_of_a_trusted_server_may_rotate() -> None:
    enterprise = Enterprise()
    enterprise.idp.rotate_keys(keep=0)
    assertion = (await enterprise.exchange(await enterprise.id_token())).json["access_token"]
    assert (await enterprise.redeem(assertion)).status == 200
