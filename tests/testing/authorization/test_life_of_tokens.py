"""Introspection, revocation, forged tokens and faults (RFC 7662, RFC 7009)."""

from __future__ import annotations

import pytest
import trio

from tests.support.oauth_dance import CALLBACK, RESOURCE, Clock, Dance, basic, make_server
from trio_mcp.testing.authorization import Fault, jose

RESOURCE_CLIENT = basic("resource", "s3cret")


async def test_introspection_describes_a_token_until_it_expires() -> None:
    clock = Clock()
    server = make_server(clock)
    token = (await Dance(server).tokens())["access_token"]
    said = (await server.request("POST", "introspect", headers=RESOURCE_CLIENT, form={"token": token})).json
    assert (said["active"], said["sub"], said["aud"], said["scope"]) == (True, "alice", RESOURCE, "read")
    assert (said["client_id"], said["token_type"], said["iss"]) == ("app", "Bearer", server.issuer)
    clock.now += 3600
    gone = await server.request("POST", "introspect", headers=RESOURCE_CLIENT, form={"token": token})
    assert gone.json == {"active": False}


async def test_a_token_of_random_text_is_known_to_introspection_alone() -> None:
    server = make_server(opaque_tokens=True)
    dance = Dance(server)
    token = (await dance.tokens())["access_token"]
    assert "." not in token
    assert await dance.is_active(token)
    assert not await dance.is_active(f"{token}x")


async def test_introspection_needs_a_client_with_credentials() -> None:
    server = make_server()
    token = (await Dance(server).tokens())["access_token"]
    for headers, form in (({}, {}), ({}, {"client_id": "app"}), (basic("resource", "wrong"), {})):
        answer = await server.request("POST", "introspect", headers=headers, form={"token": token, **form})
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")


async def test_a_client_revokes_its_own_tokens_only() -> None:
    server = make_server()
    dance = Dance(server)
    tokens = await dance.tokens()
    foreign = await server.request(
        "POST", "revoke", headers=RESOURCE_CLIENT, form={"token": tokens["access_token"]}
    )
    assert foreign.status == 200
    assert await dance.is_active(tokens["access_token"])
    own = {"client_id": "app", "token": tokens["access_token"]}
    assert (await server.request("POST", "revoke", form=own)).status == 200
    assert not await dance.is_active(tokens["access_token"])
    assert await dance.is_active(tokens["refresh_token"])
    unknown = await server.request("POST", "revoke", form={"client_id": "app", "token": "unknown"})
    assert unknown.status == 200


async def test_a_revoked_refresh_token_takes_its_grant_along() -> None:
    server = make_server()
    dance = Dance(server)
    tokens = await dance.tokens()
    form = {"client_id": "app", "token": tokens["refresh_token"]}
    await server.request("POST", "revoke", form=form)
    assert not await dance.is_active(tokens["access_token"])
    assert (await dance.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"


async def test_a_user_may_lose_everything() -> None:
    server = make_server()
    dance = Dance(server)
    alice, code = await dance.tokens(), (await dance.callback(user="bob"))["code"]
    bob = (await dance.redeem(code)).json
    server.revoke_subject("alice")
    assert not await dance.is_active(alice["access_token"])
    assert await dance.is_active(bob["access_token"])


async def test_any_token_can_be_made_for_a_test() -> None:
    clock = Clock()
    server = make_server(clock)
    good = server.keys.verify(server.issue_token("carol", audience=RESOURCE, scopes=["b", "a"]))
    assert (good[1]["sub"], good[1]["aud"], good[1]["scope"]) == ("carol", RESOURCE, "a b")
    expired = server.keys.verify(server.issue_token(expires_in=-60))[1]
    early = server.keys.verify(server.issue_token(valid_in=60))[1]
    for claims, problem in ((expired, "has expired"), (early, "not valid yet")):
        with pytest.raises(ValueError, match=problem):
            jose.check_times(claims, clock.now)
    assert expired["iat"] <= expired["exp"]
    other = server.keys.verify(server.issue_token(issuer="https://other.example", claims={"sub": None}))[1]
    assert other["iss"] == "https://other.example"
    assert "sub" not in other


@pytest.mark.parametrize(
    "forgery",
    [
        {"algorithm": "none"},
        {"algorithm": "HS256"},
        {"tampered": {"sub": "admin"}},
        {"with_other_key": True},
        {"header": {"kid": "unknown"}},
    ],
)
async def test_a_forged_token_looks_genuine_and_is_not(forgery) -> None:
    server = make_server()
    token = server.issue_token(audience=RESOURCE, **forgery)
    claims = jose.peek(token)[1]
    assert (claims["iss"], claims["aud"]) == (server.issuer, RESOURCE)
    with pytest.raises(ValueError, match="cannot be verified"):
        server.keys.verify(token)


async def test_an_endpoint_is_away_as_often_as_a_test_says() -> None:
    server = make_server()
    dance = Dance(server)
    server.faults.endpoints["token"] = Fault(status=503, headers={"retry-after": "1"}, times=1)
    code = (await dance.callback())["code"]
    away = await dance.redeem(code)
    assert (away.status, away.headers["retry-after"]) == (503, "1")
    assert (await dance.redeem(code)).status == 200
    assert server.counts["token"] == 2


@pytest.mark.parametrize("endpoint", ["token", "authorize"])
async def test_an_endpoint_answers_with_an_error_in_its_own_way(endpoint: str) -> None:
    server = make_server()
    dance = Dance(server)
    server.faults.endpoints[endpoint] = Fault(error="server_error")
    said = (await dance.redeem("x")).json if endpoint == "token" else await dance.callback()
    assert said["error"] == "server_error"
    assert said.get("iss") == (server.issuer if endpoint == "authorize" else None)


async def test_a_slow_endpoint_and_one_that_waits_for_the_test(autojump_clock) -> None:
    server = make_server()
    server.faults.endpoints["jwks"] = Fault(delay=30.0)
    began = trio.current_time()
    assert (await server.request("GET", "jwks")).status == 200
    assert trio.current_time() == began + 30
    gate = trio.Event()
    server.faults.endpoints["jwks"] = Fault(gate=gate)
    with trio.move_on_after(1000) as waiting:
        await server.request("GET", "jwks")
    assert waiting.cancelled_caught
    gate.set()
    assert (await server.request("GET", "jwks")).status == 200


async def test_a_redirect_and_a_body_that_is_no_json_can_be_asked_for() -> None:
    server = make_server()
    server.faults.endpoints["oauth_metadata"] = Fault(
        status=302, headers={"location": "http://169.254.169.254/"}
    )
    server.faults.endpoints["openid_metadata"] = Fault(status=200, body=b"<html>")
    moved = await server.request("GET", "/.well-known/oauth-authorization-server")
    assert (moved.status, moved.headers["location"]) == (302, "http://169.254.169.254/")
    page = await server.request("GET", "/.well-known/openid-configuration")
    assert (page.status, page.body) == (200, b"<html>")


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [({"iss": "https://evil.example"}, "https://evil.example"), ({"iss": None}, None)],
)
async def test_an_issuer_can_be_wrong_or_absent_in_the_response(redirect, expected) -> None:
    server = make_server()
    server.faults.redirect.update(redirect)
    dance = Dance(server)
    assert (await dance.callback()).get("iss") == expected
    assert (await dance.callback(response_type="token")).get("iss") == expected  # on errors too


async def test_members_of_metadata_and_of_tokens_can_be_replaced_until_the_faults_are_cleared() -> None:
    server = make_server()
    server.faults.metadata.update(issuer="https://evil.example", code_challenge_methods_supported=None)
    server.faults.token.update(token_type="mac", refresh_token=None)
    server.faults.redirect["state"] = "other"
    metadata = (await server.request("GET", "/.well-known/openid-configuration")).json
    assert metadata["issuer"] == "https://evil.example"
    assert "code_challenge_methods_supported" not in metadata
    callback = await Dance(server).callback()
    assert callback["state"] == "other"
    tokens = (await Dance(server).redeem(callback["code"])).json
    assert tokens["token_type"] == "mac"
    assert "refresh_token" not in tokens
    server.faults.clear()
    assert (await Dance(server).tokens())["token_type"] == "Bearer"


async def test_requests_are_kept_for_a_test_to_look_at() -> None:
    server = make_server()
    await Dance(server).tokens()
    asked, redeemed = server.seen
    assert (asked.endpoint, asked.method, asked.parameters["resource"]) == ("authorize", "GET", [RESOURCE])
    assert (redeemed.endpoint, redeemed.parameters["redirect_uri"]) == ("token", [CALLBACK])
