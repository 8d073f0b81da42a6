"""Authorization codes and refresh tokens (OAuth 2.1, sections 4.1 and 4.3; RFC 7636; RFC 8707; RFC 9207)."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.oauth_dance import CALLBACK, RESOURCE, Clock, Dance, challenge_of, make_server
from trio_mcp.testing.authorization import User, jose


async def test_a_code_brings_a_token_for_the_resource_with_the_scopes_and_the_user() -> None:
    clock = Clock()
    server = make_server(clock)
    callback = await Dance(server).callback(scope="read write")
    assert (callback["state"], callback["iss"]) == ("the-state", server.issuer)
    answer = await Dance(server).redeem(callback["code"])
    tokens = answer.json
    assert answer.headers["cache-control"] == "no-store"
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, "read write")
    header, claims = server.keys.verify(tokens["access_token"])
    assert header["typ"] == "at+jwt"
    assert (claims["iss"], claims["sub"], claims["aud"]) == (server.issuer, "alice", RESOURCE)
    assert (claims["client_id"], claims["exp"]) == ("app", int(clock.now + 3600))


async def test_a_user_of_whom_the_client_gives_a_hint_grants_the_request() -> None:
    server = make_server()
    tokens = (await Dance(server).redeem((await Dance(server).callback(user="bob"))["code"])).json
    assert server.keys.verify(tokens["access_token"])[1]["sub"] == "bob"


async def test_a_user_grants_only_scopes_that_the_user_has() -> None:
    server = make_server(users=(User(subject="carol", scopes=frozenset({"read"})),))
    assert (await Dance(server).tokens(scope="read admin"))["scope"] == "read"
    refused = await Dance(server).callback(scope="admin")
    assert refused["error"] == "access_denied"


async def test_openid_brings_an_id_token_for_the_client() -> None:
    server = make_server(users=(User(subject="alice", claims={"email": "alice@example.com"}),))
    tokens = await Dance(server).tokens(scope="openid read", nonce="n-1")
    claims = server.keys.verify(tokens["id_token"])[1]
    assert (claims["aud"], claims["nonce"], claims["email"]) == ("app", "n-1", "alice@example.com")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "too-short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"request_uri": "https://evil.example/r"}, "request_not_supported"),
        ({"resource": "not-absolute"}, "invalid_target"),
        ({"resource": f"{RESOURCE}#part"}, "invalid_target"),
        ({"scope": ["read", "write"]}, "invalid_request"),
        ({"login_hint": "nobody"}, "access_denied"),
    ],
)
async def test_a_bad_request_is_refused_at_the_callback_with_state_and_issuer(changes, error) -> None:
    server = make_server()
    refused = await Dance(server).callback(**changes)
    assert (refused["error"], refused["state"], refused["iss"]) == (error, "the-state", server.issuer)
    assert "code" not in refused


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1:3000/callback/../evil"},
        {"redirect_uri": "http://127.0.0.1:3000@evil.example/callback"},
        {"redirect_uri": f"{CALLBACK}?more=1"},
        {"redirect_uri": [CALLBACK, CALLBACK]},
        {"client_id": "unknown"},
        {"client_id": None},
        {"client_id": ["app", "resource"]},
    ],
)
async def test_a_request_without_a_good_client_and_redirect_uri_is_never_redirected(changes) -> None:
    server = make_server()
    answer = await server.request("GET", Dance(server).url(**changes))
    assert answer.status == 400
    assert "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")


async def test_the_port_of_a_loopback_redirect_may_differ() -> None:
    server = make_server()
    other = CALLBACK.replace("3000", "54321")
    answer = await server.request("GET", Dance(server).url(redirect_uri=other))
    assert answer.headers["location"].startswith(f"{other}?")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_grant"),
        ({"code_verifier": "v" * 42}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:3001/callback"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"resource": "https://other.example.com"}, "invalid_target"),
        ({"code": None}, "invalid_request"),
    ],
)
async def test_a_code_is_not_redeemed_by_a_request_that_does_not_fit(changes, error) -> None:
    dance = Dance(make_server())
    form = {"code": (await dance.callback())["code"], **changes}
    answer = await dance.redeem(form.pop("code") or "", **form)
    assert (answer.status, answer.json["error"]) == (400, error)


async def test_a_client_with_one_redirect_uri_need_not_name_it() -> None:
    dance = Dance(make_server())
    code = (await dance.callback(redirect_uri=None))["code"]
    assert (await dance.redeem(code, redirect_uri=None)).status == 200
    dance.server.add_client("two", redirect_uris=[CALLBACK, f"{CALLBACK}/2"])
    unnamed = await dance.server.request("GET", Dance(dance.server, "two").url(redirect_uri=None))
    assert unnamed.status == 400


async def test_a_code_cannot_be_tried_with_one_verifier_after_another() -> None:
    dance = Dance(make_server())
    code = (await dance.callback())["code"]
    assert (await dance.redeem(code, code_verifier="w" * 43)).status == 400
    assert (await dance.redeem(code)).json["error"] == "invalid_grant"


async def test_a_code_of_another_client_is_unknown_and_stays_good() -> None:
    server = make_server()
    server.add_client("other", redirect_uris=[CALLBACK])
    code = (await Dance(server).callback())["code"]
    assert (await Dance(server, "other").redeem(code)).json["error"] == "invalid_grant"
    assert (await Dance(server).redeem(code)).status == 200


async def test_a_code_that_is_used_again_revokes_all_that_came_of_it() -> None:
    dance = Dance(make_server())
    code = (await dance.callback())["code"]
    tokens = (await dance.redeem(code)).json
    assert await dance.is_active(tokens["access_token"])
    assert (await dance.redeem(code)).json["error"] == "invalid_grant"
    assert not await dance.is_active(tokens["access_token"])
    assert (await dance.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"


async def test_a_code_expires() -> None:
    clock = Clock()
    dance = Dance(make_server(clock, code_seconds=30.0))
    code = (await dance.callback())["code"]
    clock.now += 30
    assert (await dance.redeem(code)).json["error"] == "invalid_grant"


async def test_a_refresh_token_is_replaced_and_one_that_is_used_again_revokes_the_grant() -> None:
    dance = Dance(make_server())
    first = await dance.tokens()
    second = (await dance.refresh(first["refresh_token"])).json
    assert second["refresh_token"] != first["refresh_token"]
    assert await dance.is_active(second["access_token"])
    assert (await dance.refresh(first["refresh_token"])).json["error"] == "invalid_grant"
    assert (await dance.refresh(second["refresh_token"])).json["error"] == "invalid_grant"
    for tokens in (first, second):
        assert not await dance.is_active(tokens["access_token"])


async def test_a_refresh_may_narrow_the_scopes_and_not_widen_them() -> None:
    dance = Dance(make_server())
    tokens = await dance.tokens(scope="read write")
    refused = await dance.refresh(tokens["refresh_token"], scope="read admin")
    assert refused.json["error"] == "invalid_scope"
    narrowed = (await dance.refresh(tokens["refresh_token"], scope="read")).json
    assert narrowed["scope"] == "read"
    assert (await dance.refresh(narrowed["refresh_token"])).json["scope"] == "read write"


async def test_a_refresh_is_for_the_resources_that_were_granted() -> None:
    server = make_server()
    dance = Dance(server)
    tokens = await dance.tokens()
    refused = await dance.refresh(tokens["refresh_token"], resource="https://other.example.com")
    assert refused.json["error"] == "invalid_target"
    again = (await dance.refresh(tokens["refresh_token"])).json
    assert server.keys.verify(again["access_token"])[1]["aud"] == RESOURCE


async def test_a_refresh_token_expires_and_a_server_may_issue_none() -> None:
    clock = Clock()
    dance = Dance(make_server(clock, refresh_token_seconds=100.0))
    token = (await dance.tokens())["refresh_token"]
    clock.now += 100
    assert (await dance.refresh(token)).json["error"] == "invalid_grant"
    assert "refresh_token" not in await Dance(make_server(refresh_tokens=False)).tokens()


async def test_scopes_and_resources_that_the_server_does_not_have_are_refused() -> None:
    server = make_server(scopes_supported=["read"], resources=[RESOURCE], default_scopes=["read"])
    dance = Dance(server)
    assert (await dance.callback(scope="read admin"))["error"] == "invalid_scope"
    assert (await dance.callback(resource="https://other.example.com"))["error"] == "invalid_target"
    assert (await dance.tokens(scope=None))["scope"] == "read"


async def test_the_user_is_asked_on_a_page_that_shows_client_and_target() -> None:
    server = make_server(login_page=True)
    dance = Dance(server)
    page = await server.request("GET", dance.url(scope="read write"))
    text = page.body.decode()
    assert page.status == 200
    assert "The App" in text
    assert "127.0.0.1" in text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    location = await server.authorize(dance.url(scope="read write"), user="bob", scopes=["read"])
    (code,) = parse_qs(urlsplit(location).query)["code"]
    tokens = (await dance.redeem(code)).json
    assert tokens["scope"] == "read"
    assert server.keys.verify(tokens["access_token"])[1]["sub"] == "bob"


async def test_the_user_may_refuse_on_the_page_and_a_wrong_password_is_no_answer() -> None:
    server = make_server(login_page=True)
    location = await server.authorize(Dance(server).url(), deny=True)
    assert parse_qs(urlsplit(location).query)["error"] == ["access_denied"]
    with pytest.raises(ValueError, match="The name or the password is wrong"):
        await server.authorize(Dance(server).url(), user="alice", password="guess")
    assert (await Dance(server).callback(prompt="none"))["error"] == "login_required"


async def test_a_login_form_is_taken_once_and_not_from_another_site() -> None:
    server = make_server(login_page=True)
    page = (await server.request("GET", Dance(server).url())).body.decode()
    key = page.partition('name="transaction" value="')[2].partition('"')[0]
    form = {"transaction": key, "user": "alice", "password": "alice", "decision": "allow", "granted": "read"}
    foreign = await server.request("POST", "authorize", form=form, headers={"origin": "https://evil.example"})
    assert foreign.status == 400
    own = {"origin": server.issuer}
    assert (await server.request("POST", "authorize", form=form, headers=own)).status == 302
    assert (await server.request("POST", "authorize", form=form, headers=own)).status == 400


async def test_what_others_say_is_escaped_on_pages() -> None:
    server = make_server(login_page=True)
    server.add_client("rude", redirect_uris=[CALLBACK], name="<script>alert(1)</script>")
    page = await server.request("GET", Dance(server, "rude").url(scope='"><b>'))
    assert b"<script>" not in page.body
    assert b"<b>" not in page.body


async def test_nothing_secret_is_in_the_repr_of_the_server_or_of_its_answers() -> None:
    server = make_server()
    dance = Dance(server)
    code = (await dance.callback())["code"]
    answer = await dance.redeem(code)
    shown = f"{server!r} {server.seen!r} {answer!r} {server.keys!r} {server.faults!r}"
    for secret in (code, answer.json["access_token"], answer.json["refresh_token"], challenge_of("v" * 43)):
        assert secret not in shown


async def test_no_key_is_made_for_an_algorithm_with_a_shared_secret() -> None:
    with pytest.raises(ValueError, match="algorithm must be one of"):
        jose.generate_key("HS256")
