"""Whatever a verifier gets, it says who it is, that it is invalid, or that it cannot say, and no more."""

from __future__ import annotations

import json
from typing import Any

import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.issuer import AUDIENCE, ISSUER, NOW, Clock, FakeWeb, claims, encode, make_key, public, sign
from trio_mcp import Introspection, JwtVerifier
from trio_mcp.authorization.verification_keys import read_key_set
from trio_mcp.authorization.verifier import InvalidToken, Verifier, VerifierUnavailable
from trio_mcp.session.principal import Principal

KEY = make_key("Ed25519")
VERIFIER = JwtVerifier(ISSUER, AUDIENCE, keys=public(KEY), clock=Clock(), cache_seconds=0)
ENDPOINT = f"{ISSUER}/introspect"

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def like(good: dict[str, Any], *more: str) -> st.SearchStrategy[dict[str, Any]]:
    """What differs from a good object in a few members."""
    names = st.sampled_from([*good, *more])
    odd = st.dictionaries(names, JSON | st.sampled_from(list(good.values())), max_size=3)
    return st.builds(lambda changed, gone: drop(good | changed, gone), odd, st.none() | names)


def drop(members: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}


def judge(verifier: Verifier, token: str) -> str:
    """What a verifier says; anything else that it raises fails the test."""

    async def verify() -> str:
        try:
            principal = await verifier.verify(token)
        except (InvalidToken, VerifierUnavailable) as error:
            return type(error).__name__
        assert isinstance(principal, Principal)
        return "Principal"

    return trio.run(verify)


@given(st.text(max_size=40) | st.lists(st.text(max_size=10), min_size=3, max_size=3).map(".".join))
def test_any_text(token: str) -> None:
    assert judge(VERIFIER, token) == "InvalidToken"


@given(
    like({"alg": "Ed25519", "kid": "k1", "typ": "at+jwt"}, "crit", "b64", "jwk", "jku", "x5c", "zip", "enc")
    | JSON,
    like(claims(), "nbf", "cnf", "scp", "azp") | JSON,
)
@example({"alg": "Ed25519"}, claims())
def test_any_header_and_claims_that_are_signed(header: Any, payload: Any) -> None:
    token = sign(KEY, json.dumps(payload).encode(), "Ed25519", json.dumps(header).encode())
    said = judge(VERIFIER, token)
    if said == "Principal":
        assert header["alg"] == "Ed25519"
        assert (payload["iss"], AUDIENCE in payload["aud"]) == (ISSUER, True)
        assert payload["exp"] > NOW - 31


@given(like(claims(), "nbf", "cnf") | JSON, st.binary(max_size=70))
def test_any_signature(payload: Any, signature: bytes) -> None:
    header = {"alg": "Ed25519", "kid": "k1"}
    token = f"{encode(header)}.{encode(json.dumps(payload).encode())}.{encode(signature)}"
    assert judge(VERIFIER, token) == "InvalidToken"


@given(like({"active": True, **claims()}, "token_type", "token_use", "typ", "nbf", "cnf") | JSON)
@example({"active": True, **claims()})
def test_any_answer_of_introspection(answer: Any) -> None:
    web = FakeWeb()
    web.put(ENDPOINT, answer)
    verifier = Introspection(ENDPOINT, "id", "secret", audience=AUDIENCE, fetch=web, clock=Clock())
    if judge(verifier, "token") == "Principal":
        assert answer["active"] is True
        assert AUDIENCE in answer["aud"]


KEYS = [public(make_key(algorithm)) for algorithm in ("RS256", "ES256", "Ed25519")]


@given(
    st.lists(
        st.sampled_from(KEYS).flatmap(lambda key: like(key, "use", "key_ops", "alg", "d", "p", "oth", "k"))
        | JSON,
        max_size=3,
    )
)
def test_any_set_of_keys(members: list[Any]) -> None:
    keys = read_key_set(json.loads(json.dumps({"keys": members})))
    assert all(key.fits("none") is False and not key.is_secret for key in keys)
