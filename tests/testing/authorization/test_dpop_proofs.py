"""Tokens that are bound to a key of the client (DPoP, RFC 9449)."""

from __future__ import annotations

import pytest

from tests.support.oauth_dance import ClientKey, Clock, Dance, basic, make_server


def url_of(dance: Dance) -> str:
    return f"{dance.server.issuer}/token"


async def test_a_proof_binds_the_token_and_the_refresh_token_of_a_public_client() -> None:
    clock = Clock()
    dance, key = Dance(make_server(clock)), ClientKey(clock)
    answer = await dance.redeem((await dance.callback())["code"], headers=key.proof(url_of(dance)))
    tokens = answer.json
    assert tokens["token_type"] == "DPoP"
    assert dance.server.keys.verify(tokens["access_token"])[1]["cnf"] == {"jkt": key.thumbprint}
    for headers in ({}, ClientKey(clock).proof(url_of(dance))):
        refused = await dance.refresh(tokens["refresh_token"], headers=headers)
        assert refused.json["error"] == "invalid_dpop_proof"
    again = await dance.refresh(tokens["refresh_token"], headers=key.proof(url_of(dance)))
    assert again.json["token_type"] == "DPoP"


async def test_a_proof_with_an_rsa_key_is_accepted() -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock, "RS256")
    headers = {**basic("resource", "s3cret"), **key.proof(f"{server.issuer}/token")}
    answer = await server.request("POST", "token", headers=headers, form={"grant_type": "client_credentials"})
    assert answer.json["token_type"] == "DPoP"


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "GET"},
        {"htu": "https://other.example/token"},
        {"htu": None},
        {"iat": 0},
        {"iat": None},
        {"jti": None},
        {"typ": "JWT"},
    ],
)
async def test_a_proof_that_does_not_fit_the_request_is_refused(changes) -> None:
    clock = Clock()
    dance, key = Dance(make_server(clock)), ClientKey(clock)
    code = (await dance.callback())["code"]
    refused = await dance.redeem(code, headers=key.proof(url_of(dance), **changes))
    assert (refused.status, refused.json["error"]) == (400, "invalid_dpop_proof")
    assert (await dance.redeem(code, headers=key.proof(url_of(dance)))).status == 200  # the code is unused


async def test_a_proof_is_good_once() -> None:
    clock = Clock()
    dance, key = Dance(make_server(clock)), ClientKey(clock)
    proof = key.proof(url_of(dance))
    assert (await dance.redeem((await dance.callback())["code"], headers=proof)).status == 200
    replayed = await dance.redeem((await dance.callback())["code"], headers=proof)
    assert replayed.json["error"] == "invalid_dpop_proof"


async def test_what_is_no_proof_is_refused() -> None:
    clock = Clock()
    server, key = make_server(clock), ClientKey(clock)
    dance = Dance(server)
    code = (await dance.callback())["code"]
    for text in ("nonsense", "a.b.c", key.assertion("app", "app", url_of(dance), "dpop+jwt")):
        assert (await dance.redeem(code, headers={"dpop": text})).json["error"] == "invalid_dpop_proof"


async def test_a_server_may_ask_for_its_nonce_and_gives_a_new_one_with_each_answer() -> None:
    clock = Clock()
    dance, key = Dance(make_server(clock, dpop_nonce=True)), ClientKey(clock)
    code = (await dance.callback())["code"]
    asked = await dance.redeem(code, headers=key.proof(url_of(dance)))
    assert (asked.status, asked.json["error"]) == (400, "use_dpop_nonce")
    nonce = asked.headers["dpop-nonce"]
    answer = await dance.redeem(code, headers=key.proof(url_of(dance), nonce=nonce))
    assert answer.status == 200
    assert answer.headers["dpop-nonce"] != nonce
    stale = key.proof(url_of(dance), nonce="guessed")
    assert (await dance.redeem(code, headers=stale)).json["error"] == "use_dpop_nonce"


async def test_a_nonce_expires() -> None:
    clock = Clock()
    dance, key = Dance(make_server(clock, dpop_nonce=True)), ClientKey(clock)
    asked = await dance.redeem((await dance.callback())["code"], headers=key.proof(url_of(dance)))
    clock.now += 700
    late = key.proof(url_of(dance), nonce=asked.headers["dpop-nonce"])
    answer = await dance.redeem((await dance.callback())["code"], headers=late)
    assert answer.json["error"] == "use_dpop_nonce"


async def test_a_server_may_require_proofs_or_not_know_them() -> None:
    clock = Clock()
    strict, plain = Dance(make_server(clock, dpop="required")), Dance(make_server(clock, dpop="off"))
    refused = await strict.redeem((await strict.callback())["code"])
    assert refused.json["error"] == "invalid_dpop_proof"
    ignored = await plain.redeem(
        (await plain.callback())["code"], headers=ClientKey(clock).proof(url_of(plain))
    )
    assert ignored.json["token_type"] == "Bearer"
    assert "dpop_signing_alg_values_supported" not in plain.server.metadata


async def test_a_code_may_be_bound_to_a_key_before_it_is_issued() -> None:
    clock = Clock()
    dance, key = Dance(make_server(clock)), ClientKey(clock)
    code = (await dance.callback(dpop_jkt=key.thumbprint))["code"]
    assert (await dance.redeem(code)).json["error"] == "invalid_dpop_proof"
    other = (await dance.callback(dpop_jkt=key.thumbprint))["code"]
    assert (await dance.redeem(other, headers=key.proof(url_of(dance)))).status == 200
