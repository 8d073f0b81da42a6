"""A workload shows the identity that its platform gave it, to the server that it is for, once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.oauth.fake_network import ISSUER, SERVER, Network, Tokens, meet, refuse, token_of
from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.jwt_bearer import AssertionSource, JwtBearer

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
KEY = ECKey.generate_key("P-256")


def sign(audience: Any = ISSUER, **claims: Any) -> str:
    named = {} if audience is None else {"aud": audience}
    return jwt.encode({"alg": "ES256"}, {"sub": "workload", **named, **claims}, KEY)


ASSERTION = sign()


@pytest.fixture
def network(network: Network) -> Network:
    network.add_server()
    network.add_issuer(Tokens(), token_endpoint_auth_methods_supported=["none"])
    return network


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["text", "path", "function"])
async def test_the_assertion_is_presented_as_the_grant(network: Network, tmp_path: Path, kind: str) -> None:
    async def fetch(audience: str) -> str:
        await trio.lowlevel.checkpoint()
        return sign(audience)

    sources: dict[str, AssertionSource] = {
        "text": ASSERTION,
        "path": write(tmp_path / "token", ASSERTION + "\n"),
        "function": fetch,
    }
    keeper = JwtBearer(sources[kind], client_id="client", scopes=["a"]).for_server(SERVER, None)
    assert await meet(keeper)
    assert await token_of(keeper) == "Bearer token-1"
    (form,) = network.forms()
    assert jwt.decode(form.fields.pop("assertion"), KEY, ["ES256"]).claims["aud"] == ISSUER
    assert form.fields == {"grant_type": GRANT, "client_id": "client", "resource": SERVER, "scope": "a"}


async def test_a_file_is_read_each_time(network: Network, tmp_path: Path) -> None:
    path = write(tmp_path / "token", sign(jti="1"))
    keeper = JwtBearer(path).for_server(SERVER, None)
    await meet(keeper)
    write(path, sign(jti="2"))
    await meet(keeper)
    ids = [jwt.decode(form.fields["assertion"], KEY, ["ES256"]).claims["jti"] for form in network.forms()]
    assert ids == ["1", "2"]
    assert "client_id" not in network.forms()[0].fields


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_scope", "unauthorized_client"])
async def test_a_refusal_is_told_and_neither_repeated_nor_another_grant_tried(
    network: Network, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    network.handlers[f"{ISSUER}/token"] = lambda asked: refuse(error, error_description=f"bad {ASSERTION}")
    auth = JwtBearer(ASSERTION, client_id="client")
    with pytest.raises(AuthorizationError, match=error) as failure:
        await meet(auth.for_server(SERVER, None))
    assert failure.value.error == error
    assert len(network.forms()) == 1
    assert ASSERTION not in f"{failure.value!r} {auth!r} {caplog.text}"


@pytest.mark.parametrize(
    ("audience", "is_sent"),
    [
        (ISSUER, True),
        (f"{ISSUER}/", True),
        (f"{ISSUER}/token", True),
        ([ISSUER, f"{ISSUER}/token"], True),
        ("https://another.example", False),
        ([ISSUER, "https://another.example"], False),
        ([], False),
        (None, False),
        (5, False),
    ],
)
async def test_an_assertion_goes_only_to_the_server_that_it_is_for(
    network: Network, audience: Any, is_sent: bool
) -> None:
    keeper = JwtBearer(sign(audience)).for_server(SERVER, None)
    if is_sent:
        assert await meet(keeper)
    else:
        with pytest.raises(AuthorizationError, match=r"another audience|no JWT"):
            await meet(keeper)
    assert len(network.forms()) == is_sent


async def test_an_audience_that_is_no_issuer_needs_a_pinned_issuer(network: Network) -> None:
    with pytest.raises(TypeError, match="needs issuer="):
        JwtBearer(sign("api://exchange"), audience="api://exchange")
    auth = JwtBearer(sign("api://exchange"), audience="api://exchange", issuer=ISSUER)
    assert await meet(auth.for_server(SERVER, None))


@pytest.mark.parametrize("text", ["", "s3cret", "s3cret.s3cret", "!.s3cret.!", "a.s3cret.b", "a.bnVsbA.b"])
async def test_what_is_no_assertion_is_not_sent_and_not_shown(network: Network, text: str) -> None:
    with pytest.raises(AuthorizationError, match="no JWT") as failure:
        await meet(JwtBearer(text).for_server(SERVER, None))
    assert "s3cret" not in str(failure.value)
    assert not network.forms()


@pytest.mark.parametrize(("content", "match"), [(None, "No such file"), (b"\xff", "no JWT")])
async def test_a_file_that_cannot_be_read_is_named(
    network: Network, tmp_path: Path, content: bytes | None, match: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        write(path, content.decode("latin-1"))
    with pytest.raises(AuthorizationError, match=match) as failure:
        await meet(JwtBearer(path).for_server(SERVER, None))
    assert str(path) in str(failure.value)


async def test_the_client_may_have_a_secret_which_one_issuer_gets(network: Network) -> None:
    network.add_issuer(Tokens())
    network.add_server("https://evil.example/mcp", "https://evil-auth.example")
    network.add_issuer(Tokens(), "https://evil-auth.example")

    async def fetch(audience: str) -> str:
        await trio.lowlevel.checkpoint()
        return sign(audience)

    evil = "https://evil.example/mcp"
    auth = JwtBearer(fetch, client_id="client", client_secret="s3cret")
    await meet(auth.for_server(SERVER, None))
    assert network.forms()[0].headers["authorization"].startswith("Basic ")
    with pytest.raises(AuthorizationError, match=r"and not https://auth\.example"):
        await meet(auth.for_server(evil, None), headers={}, url=evil)
    # Without a secret there is nothing that one server could use at another.
    public = JwtBearer(fetch)
    assert await meet(public.for_server(SERVER, None))
    assert await meet(public.for_server(evil, None), headers={}, url=evil)


@pytest.mark.parametrize(
    "options", [{"client_secret": "s3cret"}, {"private_key": KEY.as_pem(private=True)}, {"scopes": "read"}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        JwtBearer(ASSERTION, **options)
