"""The requests of authorization: their answers are bounded, and redirects lead nowhere else."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.transports.http.http_peer import Call, serving
from trio_mcp.errors import AuthorizationError, DiscoveryError
from trio_mcp.oauth.requests import (
    MAX_ANSWER_BYTES,
    REQUEST_SECONDS,
    OAuthAnswer,
    get_json,
    post_form,
    post_json,
    read_refusal,
)
from trio_mcp.oauth.token_set import TokenSet, load_tokens, read_tokens, write_scopes
from trio_mcp.oauth.url_policy import Reach, UrlPolicy

POLICY = UrlPolicy(reach=Reach.LOOPBACK)


async def test_a_redirect_is_followed_within_the_origin() -> None:
    async def handle(call: Call) -> None:
        if call.path == "/mcp":
            await call.reply(307, headers={"location": "/there"})
        else:
            await call.reply_json({"path": call.path, "accept": call.headers["accept"]})

    async with serving(handle) as server:
        answer = await get_json(server.url, policy=POLICY, what="the metadata")
    assert answer.body == b'{"path": "/there", "accept": "application/json"}'


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:9/there",
        "http://169.254.169.254/",
        "https://as.example.com/",
        "ftp://127.0.0.1/",
        "//evil",
    ],
)
async def test_a_redirect_to_another_origin_is_refused(location: str) -> None:
    async def handle(call: Call) -> None:
        await call.reply(302, headers={"location": location})

    async with serving(handle) as server:
        with pytest.raises(DiscoveryError):
            await get_json(server.url, policy=POLICY, what="the metadata")
    assert len(server.calls) == 1


async def test_what_is_posted_is_never_sent_elsewhere() -> None:
    async def handle(call: Call) -> None:
        await call.reply(307, headers={"location": "/there"})

    async with serving(handle) as server:
        with pytest.raises(DiscoveryError, match="redirects"):
            await post_json(server.url, {"a": 1}, policy=POLICY, what="the endpoint")
    assert len(server.calls) == 1


async def test_redirects_end() -> None:
    async def handle(call: Call) -> None:
        await call.reply(302, headers={"location": call.path + "x"})

    async with serving(handle) as server:
        with pytest.raises(DiscoveryError, match="more than 3 times"):
            await get_json(server.url, policy=POLICY, what="the metadata")


async def test_an_answer_that_is_too_long_is_not_read_to_its_end() -> None:
    async def handle(call: Call) -> None:
        await call.reply(200, b"x" * (MAX_ANSWER_BYTES + 1))

    async with serving(handle) as server:
        with pytest.raises(AuthorizationError, match="longer than"):
            await get_json(server.url, policy=POLICY, what="the metadata")


async def test_nobody_listening_is_an_error_of_authorization() -> None:
    with pytest.raises(AuthorizationError, match="the token endpoint cannot be asked"):
        await post_form("http://127.0.0.1:9/", {}, policy=POLICY, what="the token endpoint")


class FixedNames(trio.abc.HostnameResolver):
    """A name server for which every name is this machine."""

    async def getaddrinfo(self, host: object, port: object, *args: object, **options: object) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def getnameinfo(self, *args: object) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize("name", ["as.example.com", "other.example.com"])
async def test_a_certificate_is_for_the_name_although_its_address_is_pinned(
    name: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files = [tmp_path / "key.pem", tmp_path / "chain.pem"]
    certificate = authority.issue_cert("as.example.com")
    certificate.private_key_pem.write_to_path(files[0])
    for part in certificate.cert_chain_pems:
        part.write_to_path(files[1], append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    trio.socket.set_custom_hostname_resolver(FixedNames())

    async def handle(call: Call) -> None:
        await call.reply_json(call.headers["host"])

    policy = UrlPolicy(reach=Reach.LOOPBACK, ssl_context=context)
    async with serving(handle, (str(files[1]), str(files[0]))) as server:
        port = server.url.rpartition(":")[2].partition("/")[0]
        asking = partial(get_json, f"https://{name}:{port}/x", policy=policy, what="the metadata")
        if name == "as.example.com":
            assert (await asking()).body == f'"{name}:{port}"'.encode()
            return
        with pytest.raises(AuthorizationError, match="certificate"):
            await asking()


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(call: Call) -> None:
        await call.reply_json({"host": call.headers["host"], "type": call.headers["accept"]})

    async with serving(handle) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/mcp"))
        policy = UrlPolicy(allow_private=True)
        answer = await get_json("http://as.internal/x", policy=policy, what="the metadata")
        assert answer.body == b'{"host": "as.internal", "type": "application/json"}'
        with pytest.raises(DiscoveryError, match="must not"):
            await get_json("http://127.0.0.1/x", policy=UrlPolicy(), what="the metadata")


class SilentNames(trio.abc.HostnameResolver):
    """A name server that never answers."""

    async def getaddrinfo(self, *args: object, **options: object) -> list[object]:  # type: ignore[override]
        await trio.sleep_forever()
        raise AssertionError

    async def getnameinfo(self, *args: object) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_request_takes_a_bounded_time(autojump_clock: MockClock) -> None:
    trio.socket.set_custom_hostname_resolver(SilentNames())
    with pytest.raises(AuthorizationError, match="within 30 seconds"):
        await get_json("https://as.example.com/", policy=UrlPolicy(), what="the metadata")
    assert trio.current_time() == REQUEST_SECONDS


def answer(body: bytes, status: int = 200, secrets: tuple[str, ...] = ()) -> OAuthAnswer:
    return OAuthAnswer(status, {}, body, secrets)


def test_a_refusal_tells_its_code_and_repeats_no_secret() -> None:
    body = b'{"error":"invalid_grant","error_description":"sesame1 \\u001b[2J is spent, sesame1"}'
    error = read_refusal(answer(body, 400, ("sesame1",)), "the token endpoint", "https://as")
    assert (error.error, error.issuer) == ("invalid_grant", "https://as")
    assert "sesame" not in str(error)
    assert "\x1b" not in str(error)
    assert "is spent" in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 5}', b"\xff"])
def test_a_refusal_without_a_code_tells_its_status(body: bytes) -> None:
    error = read_refusal(answer(body, 502), "the token endpoint")
    assert (error.error, str(error)) == (None, "the token endpoint answered 502")


@pytest.mark.parametrize(
    ("members", "expires_at"),
    [
        ('"expires_in": 60', 1060.0),
        ('"expires_in": 60.5', 1060.5),
        ('"expires_in": "60"', 1060.0),
        ('"expires_in": "soon"', None),
        ('"expires_in": -1', None),
        ('"expires_in": null', None),
        ('"x": 1', None),
    ],
)
def test_the_life_of_a_token_is_read_as_servers_write_it(members: str, expires_at: float | None) -> None:
    body = f'{{"access_token": "t", "token_type": "BEARER", {members}}}'.encode()
    assert read_tokens(answer(body), now=1000.0).expires_at == expires_at


def test_the_scopes_are_those_that_were_granted_or_else_asked_for() -> None:
    plain = b'{"access_token": "t", "token_type": "Bearer"}'
    granted = b'{"access_token": "t", "token_type": "Bearer", "scope": "b a"}'
    assert read_tokens(answer(plain), now=0).scopes is None
    assert read_tokens(answer(plain), now=0, asked=["x"]).scopes == {"x"}
    assert read_tokens(answer(granted), now=0, asked=["x"]).scopes == {"a", "b"}
    assert write_scopes({"b", "a"}) == "a b"


def test_tokens_are_kept_as_values_and_shown_without_their_secrets() -> None:
    tokens = TokenSet("sesame1", "Bearer", 5.0, "sesame2", frozenset({"a"}))
    assert load_tokens(tokens.dump()) == tokens
    assert "sesame" not in repr(tokens)
    for damaged in (None, {}, {"access_token": 1}, [tokens.dump()]):
        with pytest.raises(ValueError, match="no tokens"):
            load_tokens(damaged)


def test_a_token_is_renewed_before_it_expires() -> None:
    tokens = TokenSet("t", expires_at=1000.0)
    assert [tokens.is_expired(now) for now in (980.0, 995.0, 1001.0)] == [False, True, True]
    assert not TokenSet("t").is_expired(1e12)
