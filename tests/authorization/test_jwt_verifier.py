"""Which JWTs a server accepts: RFC 9068, RFC 8725, and MCP authorization, "Token Handling"."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, KeySet, RSAKey

from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    JWKS_URI,
    NOW,
    Clock,
    FakeWeb,
    claims,
    decode,
    encode,
    find_leaks,
    make_key,
    public,
    refuse,
    sign,
    sign_with_secret,
)
from trio_mcp import JwtVerifier
from trio_mcp.authorization.jwks import Jwks
from trio_mcp.authorization.verifier import InvalidToken, VerifierUnavailable

KEY = make_key()


@pytest.fixture(scope="module")
def rsa_key() -> RSAKey:
    key = make_key("RS256", "rsa")
    assert isinstance(key, RSAKey)
    return key


def verifier_of(*keys: Key, clock: Clock | None = None, **options: Any) -> JwtVerifier:
    published: Any = {"keys": [public(key) for key in keys or (KEY,)]}
    return JwtVerifier(ISSUER, AUDIENCE, **{"keys": published, "clock": clock or Clock(), **options})


async def test_the_principal_is_what_the_token_says() -> None:
    principal = await verifier_of().verify(sign(KEY, claims(department="tea")))
    assert principal.name == str(principal) == f"{ISSUER}#ada"
    assert principal.scopes == {"read", "write"}
    assert (principal.client_id, principal.issuer, principal.subject) == ("editor", ISSUER, "ada")
    assert principal.expires_at == NOW + 3600
    assert principal.claims["department"] == "tea"
    with pytest.raises(TypeError):
        principal.claims["department"] = "coffee"  # type: ignore[index]


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"])
async def test_each_asymmetric_algorithm_is_accepted(algorithm: str) -> None:
    key = make_key(algorithm)
    assert (await verifier_of(key).verify(sign(key, claims(), algorithm))).subject == "ada"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_each_algorithm_of_rsa_is_accepted(rsa_key: RSAKey, algorithm: str) -> None:
    assert (await verifier_of(rsa_key).verify(sign(rsa_key, claims(), algorithm))).subject == "ada"


@pytest.mark.parametrize(
    ("given", "scopes"),
    [
        ({"scope": "a b  c"}, {"a", "b", "c"}),
        ({"scope": ["a", "b"]}, {"a", "b"}),
        ({"scp": ["a", "b"]}, {"a", "b"}),
        ({"scp": "a b"}, {"a", "b"}),
        ({"scope": "", "scp": "a"}, set()),
        ({"scope": ["a", 1, ""]}, {"a"}),
        ({}, set()),
        ({"scope": {"a": 1}}, set()),
    ],
)
async def test_scopes_are_those_of_scope_or_scp(given: dict[str, Any], scopes: set[str]) -> None:
    token = sign(KEY, claims(("scope", *({"scope"} - given.keys())), **given) | given)
    assert (await verifier_of().verify(token)).scopes == scopes


async def test_scopes_and_subject_can_be_in_other_claims() -> None:
    verifier = verifier_of(subject_claim="oid", scope_claims=["permissions"])
    principal = await verifier.verify(sign(KEY, claims(oid="42", permissions=["admin"])))
    assert (principal.name, principal.scopes) == (f"{ISSUER}#42", {"admin"})


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["https://other.example", AUDIENCE]])
async def test_the_audience_is_a_text_or_a_list(aud: Any) -> None:
    assert await verifier_of().verify(sign(KEY, claims(aud=aud)))


async def test_one_of_several_audiences_is_enough() -> None:
    verifier = JwtVerifier(ISSUER, [AUDIENCE, "mcp"], keys=public(KEY), clock=Clock())
    assert await verifier.verify(sign(KEY, claims(aud="mcp")))


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", None])
async def test_the_types_of_access_tokens_are_accepted(typ: str | None) -> None:
    header = {} if typ is None else {"typ": typ}
    assert await verifier_of().verify(sign(KEY, claims(), header=header))


@pytest.mark.parametrize(
    "changed",
    [{"exp": NOW - 29}, {"nbf": NOW + 30}, {"iat": NOW + 30}, {"exp": NOW + 0.5}],
    ids=["expired", "not yet valid", "issued later", "a fraction"],
)
async def test_clocks_may_differ_a_little(changed: dict[str, Any]) -> None:
    assert await verifier_of().verify(sign(KEY, claims(**changed)))


ANOTHER_SERVER = "the access token is meant for another server"
BAD_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "expired": (claims(exp=NOW - 31), "the access token has expired"),
    "expired long ago": (claims(exp=0), "the access token has expired"),
    "not yet valid": (claims(nbf=NOW + 31), "the access token is not valid yet"),
    "issued in the future": (claims(iat=NOW + 31), "the access token was issued in the future"),
    "without exp": (claims(("exp",)), "the access token lacks iss, aud or exp"),
    "exp null": (claims(exp=None), "the access token lacks iss, aud or exp"),
    "exp text": (claims(exp=str(NOW + 60)), "a claim of the access token is malformed"),
    "exp true": (claims(exp=True), "a claim of the access token is malformed"),
    "another audience": (
        claims(aud="https://other.example/mcp"),
        ANOTHER_SERVER,
    ),
    "a longer audience": (claims(aud=f"{AUDIENCE}/admin"), ANOTHER_SERVER),
    "the origin as audience": (
        claims(aud="https://mcp.example"),
        ANOTHER_SERVER,
    ),
    "other audiences": (claims(aud=["a", "b"]), ANOTHER_SERVER),
    "no audiences": (claims(aud=[]), ANOTHER_SERVER),
    "audience of an odd type": (claims(aud={AUDIENCE: 1}), ANOTHER_SERVER),
    "without audience": (claims(("aud",)), "the access token lacks iss, aud or exp"),
    "another issuer": (claims(iss="https://evil.example"), "the access token is of another issuer"),
    "issuer with a slash": (claims(iss=f"{ISSUER}/"), "the access token is of another issuer"),
    "issuer in capitals": (claims(iss=ISSUER.upper()), "the access token is of another issuer"),
    "issuer in a list": (claims(iss=[ISSUER]), "the access token is of another issuer"),
    "without issuer": (claims(("iss",)), "the access token is of another issuer"),
    "without subject": (claims(("sub",)), "the access token does not say whom it was issued for"),
    "empty subject": (claims(sub=""), "the access token does not say whom it was issued for"),
    "subject a number": (claims(sub=1), "a claim of the access token is malformed"),
    "bound to a key": (
        claims(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        "the access token is bound to a key, and cannot be used as a bearer token",
    ),
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
async def test_a_signed_token_with_bad_claims_is_refused(case: str, caplog: pytest.LogCaptureFixture) -> None:
    payload, reason = BAD_CLAIMS[case]
    assert await refuse(verifier_of(), sign(KEY, payload), caplog) == reason


@pytest.mark.parametrize("exp", ["NaN", "Infinity", "1e999", "9" * 400, "9" * 5000, "-1"])
async def test_no_odd_number_makes_a_token_eternal(exp: str, caplog: pytest.LogCaptureFixture) -> None:
    payload = json.dumps(claims(("exp",)))[:-1] + f', "exp": {exp}}}'
    await refuse(verifier_of(), sign(KEY, payload.encode()), caplog)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b'"text"', b"{", b"\xff\xfe", b"[" * 5000, b'{"iss":' * 1200, b'{"a":1}{"b":2}'],
    ids=["empty", "list", "text", "half", "no UTF-8", "deep lists", "deep objects", "two"],
)
async def test_a_signed_payload_without_claims_is_refused(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await refuse(verifier_of(), sign(KEY, payload), caplog)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
async def test_an_unsigned_token_is_refused(
    name: str, signature: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = f"{encode({'alg': name})}.{encode(claims())}.{signature}"
    reason = await refuse(verifier_of(), token, caplog)
    assert reason == "the access token is not signed by an algorithm that is accepted"


async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(
    rsa_key: RSAKey, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = verifier_of(rsa_key, KEY)
    secrets = [
        rsa_key.as_pem(),
        rsa_key.as_pem().strip(),
        rsa_key.as_der(),
        json.dumps(public(rsa_key)).encode(),
    ]
    for secret in secrets:
        for algorithm in ("HS256", "HS384", "HS512"):
            token = sign_with_secret(secret, claims(), algorithm)
            reason = await refuse(verifier, token, caplog)
            assert reason == "the access token is not signed by an algorithm that is accepted"


async def test_an_algorithm_that_is_not_pinned_is_refused(
    rsa_key: RSAKey, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = verifier_of(rsa_key, algorithms=["PS256"])
    assert await verifier.verify(sign(rsa_key, claims(), "PS256"))
    reason = await refuse(verifier, sign(rsa_key, claims(), "RS256"), caplog)
    assert reason == "the access token is not signed by an algorithm that is accepted"


@pytest.mark.parametrize(
    ("members", "algorithm"),
    [({"alg": "RS384"}, "RS256"), ({"use": "enc"}, "RS256"), ({"key_ops": ["sign"]}, "RS256"), ({}, "ES256")],
    ids=["for another algorithm", "for encryption", "for signing", "of another type"],
)
async def test_a_key_is_used_only_for_what_it_is_published_for(
    rsa_key: RSAKey, members: dict[str, Any], algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    web, clock = FakeWeb(), Clock()
    web.publish(public(rsa_key, **members))
    verifier = JwtVerifier(ISSUER, AUDIENCE, keys=Jwks(JWKS_URI, fetch=web, clock=clock), clock=clock)
    token = sign(rsa_key, claims(), "RS256", {"alg": algorithm})
    assert await refuse(verifier, token, caplog) == "the access token is signed by an unknown key"


async def test_no_character_of_a_token_can_be_changed(caplog: pytest.LogCaptureFixture) -> None:
    key = make_key("Ed25519")
    verifier = verifier_of(key)
    token = sign(key, claims(), "Ed25519")
    for at, char in enumerate(token):
        other = "A" if char != "A" else "B"
        with pytest.raises(InvalidToken):
            await verifier.verify(token[:at] + other + token[at + 1 :])
    assert await verifier.verify(token)


async def test_another_payload_under_the_same_signature_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    header, _, signature = sign(KEY, claims()).split(".")
    token = f"{header}.{encode(claims(sub='root'))}.{signature}"
    assert await refuse(verifier_of(), token, caplog) == "the signature of the access token is not valid"


async def test_a_signature_of_another_key_with_the_same_name_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reason = await refuse(verifier_of(), sign(make_key(), claims()), caplog)
    assert reason == "the signature of the access token is not valid"


async def test_a_signature_of_zeros_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    header, payload, _ = sign(KEY, claims()).split(".")
    for length in (0, 1, 63, 64, 65, 512):
        await refuse(verifier_of(), f"{header}.{payload}.{encode(bytes(length))}", caplog)


async def test_an_unknown_key_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    reason = await refuse(verifier_of(), sign(make_key(kid="k2"), claims()), caplog)
    assert reason == "the access token is signed by an unknown key"


async def test_a_token_that_names_no_key_is_tried_with_all() -> None:
    keys = [make_key(kid=f"k{number}") for number in range(3)]
    nameless = ECKey.import_key({n: v for n, v in keys[2].as_dict(private=True).items() if n != "kid"})
    assert await verifier_of(*keys).verify(sign(nameless, claims()))


async def test_a_key_without_a_name_verifies_a_token_that_names_one() -> None:
    nameless = {name: value for name, value in public(KEY).items() if name != "kid"}
    verifier = JwtVerifier(ISSUER, AUDIENCE, keys=nameless, clock=Clock())
    assert await verifier.verify(sign(KEY, claims()))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"], ids=lambda name: f"a key of its own as {name}")
async def test_whatever_a_token_names_as_its_key_is_ignored(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    thief, web, clock = make_key(kid="k1"), FakeWeb(), Clock()
    web.publish(KEY)
    web.publish(thief, url="https://evil.example/keys")
    verifier = JwtVerifier(ISSUER, AUDIENCE, jwks_uri=JWKS_URI, fetch=web, clock=clock)
    header = {name: public(thief) if name == "jwk" else "https://evil.example/keys"}
    if name == "x5c":
        header = {name: ["MIIB"]}
    reason = await refuse(verifier, sign(thief, claims(), header=header), caplog)
    assert reason == "the signature of the access token is not valid"
    unnamed = make_key(kid=None)
    await refuse(verifier, sign(unnamed, claims(), header=header), caplog)
    assert await verifier.verify(sign(KEY, claims(), header=header)), "it says nothing, neither good nor bad"
    assert set(web.asked) == {JWKS_URI}


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["http://example.invalid/UNDEFINED"], "http://example.invalid/UNDEFINED": True},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
    ],
    ids=str,
)
async def test_critical_extensions_are_refused(
    header: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await refuse(verifier_of(), sign(KEY, claims(), header=header), caplog)


async def test_unknown_parameters_of_a_header_are_ignored() -> None:
    token = sign(KEY, claims(), header={"nonce": "n", "cty": 1, "x5t": None, "long": "x" * 600})
    assert await verifier_of().verify(token)


@pytest.mark.parametrize(
    "typ", ["dpop+jwt", "logout+jwt", "secevent+jwt", "id_token", "oauth-authz-req+jwt", ""]
)
async def test_another_type_of_jwt_is_refused(typ: str, caplog: pytest.LogCaptureFixture) -> None:
    reason = await refuse(verifier_of(), sign(KEY, claims(), header={"typ": typ}), caplog)
    assert reason == "this type of token is no access token"


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b'["alg"]',
        b'"alg"',
        b"1",
        b"null",
        b'{"alg": 1}',
        b'{"alg": ["ES256"]}',
        b'{"alg": "ES256", "kid": 1}',
        b'{"alg": "ES256", "typ": []}',
        b'{"alg": "ES256", "alg": "none"}',
        b"[" * 5000,
        b'{"a":' * 1200,
        b'{"alg": ' + b"9" * 5000 + b"}",
        b"\xff",
    ],
    ids=lambda header: header[:30].decode("latin-1"),
)
async def test_a_malformed_header_is_refused(header: bytes, caplog: pytest.LogCaptureFixture) -> None:
    await refuse(verifier_of(), sign(KEY, claims(), header=header), caplog)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: ".",
        lambda token: "..",
        lambda token: token.split(".")[0],
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token + "." + token,
        lambda token: token + ".AAAA.AAAA",
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.replace(".", "\n."),
        lambda token: token + "é",
        lambda token: token + "\udc80",
        lambda token: token.replace(".", "\N{FULLWIDTH FULL STOP}"),
        lambda token: token.swapcase(),
        lambda token: decode(token.split(".")[1]).decode(),
    ],
)
async def test_what_is_no_jwt_is_refused(change: Any, caplog: pytest.LogCaptureFixture) -> None:
    await refuse(verifier_of(), change(sign(KEY, claims())), caplog)


async def test_an_oversized_token_is_refused_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = sign(KEY, claims(padding="x" * 13_000))
    assert await refuse(verifier_of(), long, caplog) == "the access token is too long"
    assert await verifier_of(max_token_bytes=20_000).verify(long)


async def test_a_token_that_is_bound_to_a_key_is_accepted_if_something_else_checks_the_proof() -> None:
    token = sign(KEY, claims(cnf={"jkt": "x"}))
    assert await verifier_of(accept_bound=True).verify(token)


async def test_a_token_of_another_issuer_makes_nobody_fetch_keys(caplog: pytest.LogCaptureFixture) -> None:
    web = FakeWeb()
    verifier = JwtVerifier(ISSUER, AUDIENCE, jwks_uri=JWKS_URI, fetch=web, clock=Clock())
    await refuse(verifier, sign(KEY, claims(iss="https://evil.example")), caplog)
    assert not web.asked


# The cache of verified tokens.


class CountingKeys:
    """Counts how often the keys are needed, which is once for each token that is really verified."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        self.count, self.clock, self.web = 0, clock, FakeWeb()
        self.web.publish(KEY)
        outer = self

        class Counted(Jwks):
            async def find(self, kid: str | None, algorithm: str) -> Any:
                outer.count += 1
                return await super().find(kid, algorithm)

        keys = Counted(JWKS_URI, fetch=self.web, clock=clock)
        self.verifier = JwtVerifier(ISSUER, AUDIENCE, keys=keys, clock=clock, **options)


async def test_a_verified_token_is_not_verified_again() -> None:
    counting = CountingKeys(Clock())
    token = sign(KEY, claims())
    first = await counting.verifier.verify(token)
    assert all([await counting.verifier.verify(token) is first for _ in range(5)])
    assert counting.count == 1


async def test_a_remembered_token_ends_when_it_expires(caplog: pytest.LogCaptureFixture) -> None:
    counting = CountingKeys(Clock(), cache_seconds=10_000)
    token = sign(KEY, claims(exp=NOW + 60))
    await counting.verifier.verify(token)
    counting.clock.now = NOW + 89
    await counting.verifier.verify(token)
    assert counting.count == 1
    counting.clock.now = NOW + 91
    assert await refuse(counting.verifier, token, caplog) == "the access token has expired"


async def test_a_token_is_believed_for_cache_seconds_although_its_key_was_withdrawn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counting = CountingKeys(Clock(), cache_seconds=700)
    token = sign(KEY, claims())
    await counting.verifier.verify(token)
    counting.web.publish(make_key(kid="k2"))
    counting.clock.now = NOW + 699
    await counting.verifier.verify(token)
    counting.clock.now = NOW + 701
    assert await refuse(counting.verifier, token, caplog) == "the access token is signed by an unknown key"


async def test_the_memory_of_tokens_is_bounded() -> None:
    counting = CountingKeys(Clock(), cache_size=2)
    tokens = [sign(KEY, claims(sub=f"s{number}")) for number in range(3)]
    for number in (0, 1, 0, 2):  # the second was used longest ago when the third comes
        await counting.verifier.verify(tokens[number])
    assert counting.count == 3
    await counting.verifier.verify(tokens[0])
    assert counting.count == 3
    await counting.verifier.verify(tokens[1])
    assert counting.count == 4


async def test_a_refused_token_is_not_remembered(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    verifier, token = verifier_of(clock=clock), sign(KEY, claims(nbf=NOW + 100))
    await refuse(verifier, token, caplog)
    clock.now = NOW + 100
    assert await verifier.verify(token)


async def test_without_caching_each_request_is_verified() -> None:
    counting = CountingKeys(Clock(), cache_seconds=0)
    token = sign(KEY, claims())
    await counting.verifier.verify(token)
    await counting.verifier.verify(token)
    assert counting.count == 2


# The keys that a program gives.


async def test_keys_can_be_given_in_every_common_form(rsa_key: RSAKey) -> None:
    token = sign(rsa_key, claims(), "RS256")
    own_class = RSAKey.import_key(public(rsa_key))
    pem = rsa_key.as_pem()
    forms: list[Any] = [pem, pem.decode(), public(rsa_key), {"keys": [public(rsa_key)]}, own_class]
    forms += [KeySet([own_class]), [make_key().as_pem(), pem], (public(KEY), public(rsa_key))]
    for form in forms:
        assert await JwtVerifier(ISSUER, AUDIENCE, keys=form, clock=Clock()).verify(token), form
    for algorithm in ("ES384", "Ed25519"):
        key: Any = make_key(algorithm)
        verifier = JwtVerifier(ISSUER, AUDIENCE, keys=key.as_pem(), clock=Clock())
        assert await verifier.verify(sign(key, claims(), algorithm))


async def test_a_shared_secret_is_accepted_if_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    key = make_key("HS256")
    secret = key.as_dict(private=True)
    verifier = JwtVerifier(ISSUER, AUDIENCE, keys=secret, algorithms=["HS256"], clock=Clock())
    assert await verifier.verify(sign(key, claims(), "HS256"))
    await refuse(verifier, sign(key, claims(), "HS384"), caplog)
    await refuse(verifier, sign(KEY, claims()), caplog)
    assert secret["k"] not in repr(verifier)


def bad_settings(rsa_key: RSAKey) -> dict[str, dict[str, Any]]:
    secret = make_key("HS256").as_dict(private=True)
    return {
        "none": {"keys": public(KEY), "algorithms": ["none"]},
        "unknown algorithm": {"keys": public(KEY), "algorithms": ["ES256K"]},
        "no algorithm": {"keys": public(KEY), "algorithms": []},
        "public key as a secret": {"keys": public(rsa_key), "algorithms": ["HS256"]},
        "public PEM as a secret": {"keys": rsa_key.as_pem(), "algorithms": ["HS256"]},
        "text as a secret": {"keys": "a secret of more than thirty-two bytes", "algorithms": ["HS256"]},
        "secret for public keys": {"keys": secret},
        "both kinds": {"keys": [secret, public(KEY)], "algorithms": ["HS256", "ES256"]},
        "secret and public key": {"keys": [secret, public(KEY)], "algorithms": ["HS256"]},
        "published secret": {"jwks_uri": JWKS_URI, "algorithms": ["HS256"]},
        "short secret": {"keys": {"kty": "oct", "k": encode(b"x" * 31)}, "algorithms": ["HS256"]},
        "private JWK": {"keys": KEY.as_dict(private=True)},
        "private PEM": {"keys": rsa_key.as_pem(private=True)},
        "private key": {"keys": KEY},
        "no keys": {"keys": {"keys": []}},
        "no key": {"keys": []},
        "odd JWK": {"keys": {"kty": "EC"}},
        "JWK for encryption": {"keys": public(KEY, use="enc")},
        "key of no algorithm": {"keys": public(KEY), "algorithms": ["RS256"]},
        "damaged PEM": {"keys": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"},
        "too many": {"keys": [public(KEY)] * 101},
        "keys twice": {"keys": public(KEY), "jwks_uri": JWKS_URI},
        "keys and fetch": {"keys": public(KEY), "fetch": FakeWeb()},
        "plain http": {"jwks_uri": "http://issuer.example/keys"},
        "credentials": {"jwks_uri": "https://me:secret@issuer.example/keys"},
        "no URL": {"jwks_uri": "keys.json"},
        "issuer with a fragment": {"keys": public(KEY), "issuer": f"{ISSUER}#a"},
        "issuer without keys": {"issuer": "accounts"},
        "no issuer": {"keys": public(KEY), "issuer": ""},
        "no audience": {"keys": public(KEY), "audience": []},
        "empty audience": {"keys": public(KEY), "audience": ""},
        "leeway": {"keys": public(KEY), "leeway": -1},
        "size": {"keys": public(KEY), "cache_size": 0},
    }


async def test_settings_that_are_unsafe_or_make_no_sense_are_refused(rsa_key: RSAKey) -> None:
    for case, settings in bad_settings(rsa_key).items():
        options = {"issuer": ISSUER, "audience": AUDIENCE, **settings}
        with pytest.raises(ValueError, match=r"\w") as caught:
            raise AssertionError(f"{case}: {JwtVerifier(**options)}")
        for key in ("d", "k"):
            for secret in (settings.get("keys"), KEY.as_dict(private=True)):
                if isinstance(secret, dict) and key in secret:
                    assert not find_leaks(str(secret[key]), str(caught.value)), case


async def test_an_issuer_that_is_no_url_is_accepted_with_keys() -> None:
    verifier = JwtVerifier("kubernetes/serviceaccount", AUDIENCE, keys=public(KEY), clock=Clock())
    principal = await verifier.verify(sign(KEY, claims(iss="kubernetes/serviceaccount")))
    assert principal.name == "kubernetes/serviceaccount#ada"


async def test_without_keys_those_of_the_issuer_are_found() -> None:
    web = FakeWeb()
    web.put(
        "https://issuer.example/.well-known/oauth-authorization-server/realm",
        {"issuer": ISSUER, "jwks_uri": JWKS_URI},
    )
    web.publish(KEY)
    verifier = JwtVerifier(ISSUER, AUDIENCE, fetch=web, clock=Clock())
    assert await verifier.verify(sign(KEY, claims()))


def test_without_joserfc_the_verifier_says_what_is_missing() -> None:
    others = "trio_mcp.StaticTokens; trio_mcp.Introspection; trio_mcp.AnyOf; print('others')"
    code = f"import sys; sys.modules['joserfc'] = None\nimport trio_mcp; {others}; trio_mcp.JwtVerifier"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: verifying JWTs needs joserfc: pip install 'trio-mcp[auth]'" in done.stderr
    assert done.stdout == "others\n", "which need no library"


async def test_an_outage_is_not_an_invalid_token(caplog: pytest.LogCaptureFixture) -> None:
    web = FakeWeb()
    web.cut()
    verifier = JwtVerifier(ISSUER, AUDIENCE, jwks_uri=JWKS_URI, fetch=web, clock=Clock())
    token = sign(KEY, claims())
    with pytest.raises(VerifierUnavailable) as caught:
        await verifier.verify(token)
    assert caught.value.retry_after >= 1
    assert not find_leaks(token, caplog.text + str(caught.value))
