"""Proofs of possession: for one request each, with the nonce that its server wants (RFC 9449)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

import attrs
import pytest
import trio
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth import dpop
from trio_mcp.oauth.dpop import MAX_NONCES, DpopProver
from trio_mcp.oauth.requests import OAuthAnswer
from trio_mcp.oauth.signing_key import make_key
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.transports.http.authorizer import Refusal
from trio_mcp.wire.authorization import AuthorizationServerMetadata

URL = "https://mcp.example/mcp"
TOKEN_ENDPOINT = "https://auth.example/token"
TOKEN = "s3cret-token"
NOW = 1_800_000_000.5


@pytest.fixture
def prover() -> DpopProver:
    return DpopProver(make_key(), lambda: NOW)


def read(proof: str) -> jwt.Token:
    """A proof that is checked with the key that it carries."""
    head = json.loads(b64decode(proof.split(".")[0]))
    kind = {"EC": ECKey, "OKP": OKPKey}[head["jwk"]["kty"]]
    return jwt.decode(proof, kind.import_key(head["jwk"]), [head["alg"]])


def b64decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "Ed25519"])
def test_a_proof_is_for_one_request_and_carries_the_public_key(algorithm: str) -> None:
    prover = DpopProver(make_key(algorithm), lambda: NOW)
    token = read(prover.prove("POST", TOKEN_ENDPOINT))
    assert token.header["typ"] == "dpop+jwt"
    assert token.header["alg"] == algorithm
    assert token.header["jwk"] == prover.key.public_jwk
    assert "d" not in token.header["jwk"]
    assert "kid" not in token.header
    assert token.claims.keys() == {"jti", "htm", "htu", "iat"}
    assert (token.claims["htm"], token.claims["htu"], token.claims["iat"]) == (
        "POST",
        TOKEN_ENDPOINT,
        int(NOW),
    )


def test_a_token_is_presented_with_a_proof_of_its_hash_and_a_new_id(prover: DpopProver) -> None:
    headers = [prover.present("GET", URL, TOKEN) for _ in range(3)]
    proofs = [read(each["dpop"]) for each in headers]
    assert {each["authorization"] for each in headers} == {f"DPoP {TOKEN}"}
    expected = urlsafe_b64encode(sha256(TOKEN.encode()).digest()).rstrip(b"=").decode()
    assert {proof.claims["ath"] for proof in proofs} == {expected}
    assert len({proof.claims["jti"] for proof in proofs}) == 3


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://mcp.example/a?b=c#d", "https://mcp.example/a"),
        ("https://mcp.example", "https://mcp.example/"),
        ("wss://mcp.example/ws", "https://mcp.example/ws"),
        ("ws://localhost:8000/ws", "http://localhost:8000/ws"),
    ],
)
def test_a_proof_names_the_url_of_http_without_its_query(prover: DpopProver, url: str, target: str) -> None:
    assert read(prover.prove("GET", url)).claims["htu"] == target


# nonces


def refusal(**headers: str) -> Refusal:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refusal(401, named, {}, "POST", URL)


def test_the_nonce_of_a_resource_goes_into_its_next_proofs_only(prover: DpopProver) -> None:
    wanted = refusal(www_authenticate='DPoP error="use_dpop_nonce"', dpop_nonce="n1")
    assert prover.is_nonce_wanted(wanted)
    assert read(prover.prove("POST", URL + "/other", TOKEN)).claims["nonce"] == "n1"
    assert "nonce" not in read(prover.prove("POST", "https://another.example/mcp", TOKEN)).claims
    # An authorization server on the same origin has nonces of its own.
    assert "nonce" not in read(prover.prove("POST", "https://mcp.example/token")).claims
    assert prover.note_nonce(URL, {"dpop-nonce": "n2"}, is_resource=True)
    assert read(prover.prove("POST", URL, TOKEN)).claims["nonce"] == "n2"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"dpop_nonce": "n1"},
        {"www_authenticate": 'DPoP error="use_dpop_nonce"'},
        {"www_authenticate": 'DPoP error="invalid_token"', "dpop_nonce": "n1"},
        {"www_authenticate": 'Bearer error="use_dpop_nonce"', "dpop_nonce": "n1"},
        {"www_authenticate": 'DPoP error="use_dpop_nonce"', "dpop_nonce": "n1, n2"},
        {"www_authenticate": 'DPoP error="use_dpop_nonce"', "dpop_nonce": 'a"b'},
        {"www_authenticate": 'DPoP error="use_dpop_nonce"', "dpop_nonce": "x" * 2000},
    ],
)
def test_other_refusals_want_no_nonce(prover: DpopProver, headers: dict[str, str]) -> None:
    assert not prover.is_nonce_wanted(refusal(**headers))


def test_the_nonces_of_a_bounded_number_of_servers_are_remembered(prover: DpopProver) -> None:
    for number in range(MAX_NONCES + 1):
        prover.note_nonce(f"https://{number}.example/", {"dpop-nonce": "n"}, is_resource=False)
    assert "nonce" not in read(prover.prove("POST", "https://0.example/")).claims
    assert "nonce" in read(prover.prove("POST", "https://1.example/")).claims


@attrs.define
class Endpoint:
    """A token endpoint that answers as it is told, and keeps the proofs that it got."""

    answers: list[OAuthAnswer]
    proofs: list[jwt.Token] = attrs.field(factory=list)

    async def post_form(self, url: str, fields: Any, *, headers: Any, policy: Any, what: str) -> OAuthAnswer:
        await trio.lowlevel.checkpoint()
        assert (url, fields["code"], headers["other"]) == (TOKEN_ENDPOINT, "s3cret", "header")
        self.proofs.append(read(headers["dpop"]))
        return self.answers.pop(0)

    @property
    def nonces(self) -> list[str | None]:
        return [proof.claims.get("nonce") for proof in self.proofs]


def answer(status: int, nonce: str | None = None, error: str | None = None) -> OAuthAnswer:
    headers = {} if nonce is None else {"dpop-nonce": nonce}
    return OAuthAnswer(status, headers, json.dumps({"error": error} if error else {}).encode())


async def post(prover: DpopProver) -> OAuthAnswer:
    return await prover.post_form(
        TOKEN_ENDPOINT, {"code": "s3cret"}, headers={"other": "header"}, policy=UrlPolicy()
    )


@pytest.mark.parametrize(
    ("answers", "nonces", "status"),
    [
        ([answer(200)], [None], 200),
        ([answer(400, "n1", "use_dpop_nonce"), answer(200)], [None, "n1"], 200),
        ([answer(401, "n1", "use_dpop_nonce"), answer(200, "n2")], [None, "n1"], 200),
        ([answer(400, "n1", "use_dpop_nonce"), answer(400, "n2", "use_dpop_nonce")], [None, "n1"], 400),
        ([answer(400, None, "use_dpop_nonce")], [None], 400),
        ([answer(400, "n1", "invalid_grant")], [None], 400),
        ([answer(400, "n1")], [None], 400),
        ([OAuthAnswer(400, {"dpop-nonce": "n1"}, b"no JSON")], [None], 400),
    ],
)
async def test_a_token_request_is_sent_again_once_if_a_nonce_is_wanted(
    prover: DpopProver,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[OAuthAnswer],
    nonces: list[str | None],
    status: int,
) -> None:
    endpoint = Endpoint(list(answers))
    monkeypatch.setattr(dpop, "post_form", endpoint.post_form)
    assert (await post(prover)).status == status
    assert endpoint.nonces == nonces
    assert not endpoint.answers
    assert len({proof.claims["jti"] for proof in endpoint.proofs}) == len(endpoint.proofs)


async def test_the_nonce_of_a_success_goes_into_the_next_token_request(
    prover: DpopProver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint([answer(200, "n1"), answer(200)])
    monkeypatch.setattr(dpop, "post_form", endpoint.post_form)
    await post(prover)
    await post(prover)
    assert endpoint.nonces == [None, "n1"]


@pytest.mark.parametrize(
    ("accepted", "is_supported"), [(None, True), (["RS256", "ES256"], True), ([], False)]
)
def test_a_server_that_says_that_it_takes_no_such_proofs_is_an_error(
    prover: DpopProver, accepted: list[str] | None, is_supported: bool
) -> None:
    metadata = AuthorizationServerMetadata(
        issuer="https://auth.example", dpop_signing_alg_values_supported=accepted
    )
    if is_supported:
        prover.require_supported(metadata)
    else:
        with pytest.raises(AuthorizationError, match="no DPoP proofs"):
            prover.require_supported(metadata)


def test_no_repr_shows_the_key_or_a_nonce(prover: DpopProver) -> None:
    prover.note_nonce(URL, {"dpop-nonce": "s3cret"}, is_resource=True)
    assert "s3cret" not in repr(prover)
    assert prover.key.dump()["d"] not in repr(prover)
