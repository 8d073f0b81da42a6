"""How a client shows who it is: by a secret, by an assertion, or not at all."""

from __future__ import annotations

import json
import warnings
from base64 import b64decode
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_authentication import ASSERTION_SECONDS, KeyClient, make_authentication
from trio_mcp.oauth.signing_key import make_key, read_key
from trio_mcp.wire.authorization import AuthorizationServerMetadata

ISSUER = "https://auth.example"
FORM = {"grant_type": "client_credentials"}
SECRET = "s3cret:ü &%+"
EC = ECKey.generate_key("P-256")
RSA = RSAKey.generate_key(2048)
ED = OKPKey.generate_key("Ed25519")


def metadata(**options: Any) -> AuthorizationServerMetadata:
    return AuthorizationServerMetadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/other/token", **options)


def decode(token: str, key: Any, algorithm: str) -> jwt.Token:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc warns of the name EdDSA
        return jwt.decode(token, key, [algorithm])


# secrets


async def test_basic_encodes_id_and_secret_before_it_joins_them() -> None:
    form = await make_authentication("a:b c", client_secret=SECRET).authenticate(FORM, metadata())
    assert form.fields == FORM
    scheme, _, value = form.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert b64decode(value) == b"a%3Ab+c:s3cret%3A%C3%BC+%26%25%2B"


@pytest.mark.parametrize(
    ("accepted", "method", "is_basic"),
    [
        (None, None, True),
        (["client_secret_post", "client_secret_basic"], None, True),
        (["none", "client_secret_post"], None, False),
        (None, "client_secret_post", False),
        (["client_secret_basic"], "client_secret_post", False),
        (["client_secret_post"], "client_secret_basic", True),
    ],
)
async def test_a_secret_is_sent_as_the_server_takes_it_or_as_was_asked_for(
    accepted: list[str] | None, method: str | None, is_basic: bool
) -> None:
    client = make_authentication("client", client_secret=SECRET, method=method)
    form = await client.authenticate(FORM, metadata(token_endpoint_auth_methods_supported=accepted))
    assert ("authorization" in form.headers) == is_basic
    assert (form.fields.get("client_secret") == SECRET) != is_basic
    assert ("client_id" in form.fields) != is_basic


async def test_a_secret_is_not_sent_to_a_server_that_takes_none() -> None:
    client = make_authentication("client", client_secret=SECRET)
    with pytest.raises(AuthorizationError, match="does not take client_secret_basic or client_secret_post"):
        await client.authenticate(FORM, metadata(token_endpoint_auth_methods_supported=["private_key_jwt"]))


async def test_a_public_client_only_says_its_id() -> None:
    form = await make_authentication("client").authenticate(FORM, metadata())
    assert form.fields == {**FORM, "client_id": "client"}
    assert not form.headers


# keys


@pytest.mark.parametrize(
    ("key", "accepted", "algorithm"),
    [
        (EC, None, "ES256"),
        (EC, ["RS256", "ES256"], "ES256"),
        (RSA, None, "RS256"),
        (RSA, ["PS256", "ES256"], "PS256"),
        (ED, None, "Ed25519"),
        (ED, ["EdDSA"], "EdDSA"),
    ],
)
@pytest.mark.parametrize("form_of_key", ["pem", "text", "jwk"])
async def test_an_assertion_names_the_client_and_is_for_the_issuer_alone(
    key: Any, accepted: list[str] | None, algorithm: str, form_of_key: str
) -> None:
    pem = key.as_pem(private=True)
    material = {"pem": pem, "text": pem.decode(), "jwk": {**key.as_dict(private=True), "kid": "one"}}
    client = make_authentication("client", private_key=material[form_of_key])
    server = metadata(token_endpoint_auth_signing_alg_values_supported=accepted)
    form = await client.authenticate(FORM, server)
    assert form.fields["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    token = decode(form.fields["client_assertion"], key, algorithm)
    claims = token.claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("client", "client", ISSUER)
    assert claims["exp"] == claims["iat"] + ASSERTION_SECONDS
    assert token.header.get("kid") == ("one" if form_of_key == "jwk" else None)
    again = await client.authenticate(FORM, server)
    assert decode(again.fields["client_assertion"], key, algorithm).claims["jti"] != claims["jti"]


async def test_a_service_may_sign_the_assertion() -> None:
    async def sign(audience: str) -> str:
        return f"signed for {audience}"

    form = await make_authentication("client", private_key=sign).authenticate(FORM, metadata())
    assert form.fields["client_assertion"] == f"signed for {ISSUER}"


async def test_a_key_that_the_server_cannot_check_is_an_error() -> None:
    client = make_authentication("client", private_key=EC.as_pem(private=True))
    with pytest.raises(AuthorizationError, match="signs with ES256, of which the server accepts none"):
        await client.authenticate(FORM, metadata(token_endpoint_auth_signing_alg_values_supported=["RS256"]))


@pytest.mark.parametrize(
    ("material", "match"),
    [
        ("s3cret", "cannot be read"),
        (b"", "cannot be read"),
        ("-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----", "cannot be read"),
        (EC.as_pem(private=True, password="p"), "cannot be read"),
        ({"kty": "EC", "d": "s3cret"}, "cannot be read"),
        (OctKey.generate_key(256).as_dict(private=True), "cannot be read"),
        ({}, "cannot be read"),
        (EC.as_pem(private=False), "no private part"),
        (ED.as_dict(private=False), "no private part"),
        (OKPKey.generate_key("X25519").as_pem(private=True), "cannot sign"),
    ],
)
def test_what_is_no_private_key_is_refused_without_being_shown(material: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match) as failure:
        read_key(material)
    assert "s3cret" not in str(failure.value)
    assert failure.value.__cause__ is None


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256", "ES384"])
def test_an_algorithm_that_does_not_fit_the_key_is_refused(algorithm: str) -> None:
    with pytest.raises(ValueError, match=f"cannot sign with '{algorithm}'"):
        read_key(EC.as_pem(private=True), algorithm)


def test_a_key_is_read_as_it_was_dumped() -> None:
    key = make_key("ES384")
    again = read_key(json.loads(json.dumps(key.dump())))
    assert again.thumbprint() == key.thumbprint()
    assert again.algorithms == ("ES384",)
    assert "d" not in key.public_jwk


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256"])
def test_a_key_is_made_for_curves_only(algorithm: str) -> None:
    with pytest.raises(ValueError, match="keys are made for"):
        make_key(algorithm)


# contradictions


@pytest.mark.parametrize(
    "options",
    [
        {"client_secret": "s3cret", "private_key": EC.as_pem(private=True)},
        {"client_secret": "s3cret", "method": "private_key_jwt"},
        {"private_key": EC.as_pem(private=True), "method": "client_secret_post"},
        {"method": "client_secret_basic"},
        {"algorithm": "ES256"},
    ],
)
def test_credentials_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"secret|private key"):
        make_authentication("client", **options)


async def test_no_repr_shows_a_secret() -> None:
    key = read_key(EC.as_pem(private=True))
    shown = [make_authentication("client", client_secret=SECRET), KeyClient("client", key), key]
    forms = [await client.authenticate({"assertion": SECRET}, metadata()) for client in shown[:2]]  # type: ignore[union-attr]
    private = EC.as_dict(private=True)["d"]
    for each in [*shown, *forms]:
        assert "s3cret" not in repr(each)
        assert str(private) not in repr(each)
