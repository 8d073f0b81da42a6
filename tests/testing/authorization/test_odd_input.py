"""Whatever a peer sends, the server answers, and what it answers and logs holds no secret."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from tests.support.oauth_dance import CALLBACK, Clock, Dance, make_server
from trio_mcp.testing.authorization import jose

DEEP = b"[" * 30_000


def encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def jwt_of(header: Any, claims: bytes = b"{}") -> str:
    return f"{encode(msgspec.json.encode(header))}.{encode(claims)}.{encode(b'signature')}"


ODD_TOKENS = [
    "",
    ".",
    "..",
    "a.b.c.d",
    "é.b.c",
    "\x00",
    jwt_of([]),
    jwt_of({}),
    jwt_of({"alg": 5}),
    jwt_of({"alg": "none"}),
    jwt_of({"alg": "ES256", "kid": {}}),
    jwt_of({"alg": "ES256", "crit": ["b64"], "b64": False}),
    jwt_of({"alg": "ES256"}, b"[]"),
    jwt_of({"alg": "ES256"}, b"\xff"),
    jwt_of({"alg": "ES256"}, DEEP),
    jwt_of({"alg": "ES256", "x": "y" * 5000}),
    f"{encode(DEEP)}.{encode(b'{}')}.x",
]
ODD_KEYS = [
    None,
    5,
    {},
    {"kty": 5},
    {"kty": "EC"},
    {"kty": "EC", "crv": "P-256", "x": 5, "y": []},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kty": "EC", "crv": {}, "x": "AA", "y": "AA"},
    {"kty": "RSA", "n": "", "e": ""},
    {"kty": "RSA", "n": "AA", "e": None},
    {"kty": "OKP", "crv": "Ed25519", "x": "!"},
    {"kty": "oct", "k": "c2VjcmV0"},
    {"kty": "EC", "use": ["sig"], "crv": "P-256", "x": "AA", "y": "AA"},
]


@pytest.mark.parametrize("token", ODD_TOKENS, ids=range(len(ODD_TOKENS)))
async def test_an_odd_token_is_refused_wherever_a_token_is_read(token: str) -> None:
    server = make_server()
    server.trust("https://cluster.example", server.keys.document)
    with pytest.raises(jose.InvalidJwt):
        server.keys.verify(token)
    forms: list[dict[str, str]] = [
        {
            "grant_type": "client_credentials",
            "client_assertion": token,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        },
        {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": token},
    ]
    for form in forms:
        answer = await server.request("POST", "token", form=form)
        assert answer.status in (400, 401)
    if token.isascii() and token.isprintable():
        answer = await Dance(server).redeem("x", headers={"dpop": token})
        assert answer.json["error"] == "invalid_dpop_proof"


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
async def test_an_odd_key_is_refused_wherever_a_key_is_read(key: Any) -> None:
    server = make_server()
    header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": key}
    proof = await Dance(server).redeem("x", headers={"dpop": jwt_of(header)})
    assert proof.json["error"] == "invalid_dpop_proof"
    if isinstance(key, dict) and key.get("kty") == "oct":
        return  # a key set may hold one; nothing that it signs is accepted
    body = {
        "application_type": "native",
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [key]},
    }
    registered = await server.request(
        "POST", "register", headers={"content-type": "application/json"}, body=msgspec.json.encode(body)
    )
    assert registered.json["error"] == "invalid_client_metadata"


@pytest.mark.parametrize("body", [DEEP, b"\xff", b"=&&;=", b"a=%", b"a=%ff", b"x=1&" * 101, b""])
@pytest.mark.parametrize("endpoint", ["token", "register", "introspect", "revoke"])
async def test_an_odd_body_is_refused(endpoint: str, body: bytes) -> None:
    server = make_server()
    for media in ("application/x-www-form-urlencoded", "application/json", "text/plain; charset"):
        answer = await server.request("POST", endpoint, headers={"content-type": media}, body=body)
        assert answer.status in (400, 401)
        assert set(answer.json) == {"error", "error_description"}


@pytest.mark.parametrize(
    "query",
    [
        "%ff",
        "a=%zz",
        "client_id=%00",
        "client_id=://",
        "client_id=https://[",
        "client_id=http://127.0.0.1:x/c",
    ],
)
async def test_an_odd_query_gets_a_page(query: str) -> None:
    server = make_server()
    answer = await server.request("GET", f"{server.issuer}/authorize?{query}")
    assert (answer.status, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")


async def test_no_secret_is_in_an_error_or_in_the_log(caplog, capsys) -> None:
    caplog.set_level("DEBUG")
    clock = Clock()
    server = make_server(clock)
    dance = Dance(server)
    tokens = await dance.tokens()
    token, refresh = tokens["access_token"], tokens["refresh_token"]
    answers = [
        await dance.redeem(token),
        await dance.refresh(token),
        await dance.redeem("x", headers={"dpop": token}),
        await server.request(
            "POST", "token", headers={"authorization": f"Bearer {refresh}"}, form={"a": "b"}
        ),
        await dance.ask_token(
            grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=token, scope=refresh
        ),
        await server.request("GET", dance.url(client_id=token, state=refresh)),
    ]
    said = [answer.body.decode() for answer in answers]
    said += [caplog.text, *capsys.readouterr(), repr(server.seen), repr(server)]
    for text in said:
        assert token not in text
        assert refresh not in text


def test_without_joserfc_the_message_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['joserfc'] = None\n"
        "import trio_mcp.testing\n"
        "try: trio_mcp.testing.open_authorization_server\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs joserfc: pip install 'trio-mcp[auth]'" in done.stdout
