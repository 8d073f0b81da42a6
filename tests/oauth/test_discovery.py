"""Where the metadata of an authorization server is looked for, and when looking ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.transports.http.http_peer import Call, Scripted, serving
from trio_mcp.errors import AuthorizationError, DiscoveryError
from trio_mcp.oauth.discovery import Discovery, choose_issuer, discover_issuer, require_endpoint
from trio_mcp.oauth.registration import (
    ClientRegistration,
    choose_method,
    dump_registration,
    load_registration,
)
from trio_mcp.oauth.url_policy import Reach, UrlPolicy
from trio_mcp.wire.authorization import AuthorizationServerMetadata

POLICY = UrlPolicy(reach=Reach.LOOPBACK)
INSERTED = "/.well-known/oauth-authorization-server/tenant"
OPENID = "/.well-known/openid-configuration/tenant"
APPENDED = "/tenant/.well-known/openid-configuration"


@asynccontextmanager
async def serving_at(documents: dict[str, tuple[int, Any]]) -> AsyncIterator[tuple[Scripted, str]]:
    """An authorization server with documents at some paths; yields it and its issuer."""

    async def handle(call: Call) -> None:
        status, document = documents.get(call.path, (404, {}))
        if document == "good":
            document = {"issuer": issuer}
        await call.reply_json(document, status)

    async with serving(handle) as server:
        issuer = server.url.removesuffix("/mcp") + "/tenant"
        yield server, issuer


@pytest.mark.parametrize("place", [INSERTED, OPENID, APPENDED])
async def test_the_places_are_tried_in_order_until_there_is_a_document(place: str) -> None:
    async with serving_at({place: (200, "good")}) as (server, issuer):
        assert (await discover_issuer(issuer, POLICY)).issuer == issuer
    places = [INSERTED, OPENID, APPENDED]
    assert [call.path for call in server.calls] == places[: places.index(place) + 1]


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ((200, {"issuer": "https://attacker.example"}), "to the letter"),
        ((200, {"issuer": 5}), "malformed"),
        ((200, []), "malformed"),
        ((503, {}), "503"),
    ],
)
async def test_a_document_that_is_not_to_be_used_ends_the_search(first: tuple[int, Any], reason: str) -> None:
    async with serving_at({INSERTED: first, OPENID: (200, "good")}) as (server, issuer):
        with pytest.raises(DiscoveryError, match=reason) as refused:
            await discover_issuer(issuer, POLICY)
    assert refused.value.issuer == issuer
    assert len(server.calls) == 1


async def test_an_issuer_without_a_document_is_named() -> None:
    async with serving_at({}) as (server, issuer):
        with pytest.raises(DiscoveryError, match="has no metadata: it answered 404, 404, 404"):
            await discover_issuer(issuer, POLICY)
    assert len(server.calls) == 3


@pytest.mark.parametrize("issuer", ["https://h/x?y=1", "https://h#x", "mailto:x", ""])
async def test_what_is_no_issuer_is_not_asked(issuer: str) -> None:
    with pytest.raises(DiscoveryError, match="no authorization server"):
        await discover_issuer(issuer, POLICY)


def test_the_issuer_that_is_known_goes_on_being_used_while_the_server_trusts_it() -> None:
    both = Discovery("https://h", ("https://a", "https://b"))
    assert choose_issuer(both, None, None) == "https://a"
    assert choose_issuer(both, None, "https://b") == "https://b"
    assert choose_issuer(both, None, "https://gone") == "https://a"
    assert choose_issuer(both, "https://b", "https://a") == "https://b"
    with pytest.raises(DiscoveryError, match="trusts https://a, https://b"):
        choose_issuer(both, "https://a/", None)


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with pytest.raises(DiscoveryError, match="https://a has no token endpoint"):
        require_endpoint(None, "token endpoint", "https://a", POLICY)


def metadata(methods: list[str] | None) -> AuthorizationServerMetadata:
    return AuthorizationServerMetadata(issuer="https://a", token_endpoint_auth_methods_supported=methods)


def test_how_a_client_proves_itself_is_what_both_can() -> None:
    assert choose_method(metadata(None), has_secret=False) == "none"
    assert choose_method(metadata(None), has_secret=True) == "client_secret_basic"
    assert choose_method(metadata(["client_secret_post", "client_secret_basic"]), has_secret=True) == (
        "client_secret_basic"
    )
    assert choose_method(metadata(["client_secret_post"]), has_secret=True) == "client_secret_post"
    with pytest.raises(AuthorizationError, match="only private_key_jwt"):
        choose_method(metadata(["private_key_jwt"]), has_secret=True)


def test_a_secret_goes_where_the_method_says_and_is_not_shown() -> None:
    basic = ClientRegistration("a b", "c:d", "client_secret_basic")
    fields, headers = basic.authenticate({"x": "y"})
    assert (fields, headers) == ({"x": "y"}, {"authorization": "Basic YSUyMGI6YyUzQWQ="})  # a%20b:c%3Ad
    post = ClientRegistration("a", "c", "client_secret_post")
    assert post.authenticate({"x": "y"}) == ({"x": "y", "client_id": "a", "client_secret": "c"}, {})
    assert ClientRegistration("a").authenticate({}) == ({"client_id": "a"}, {})
    assert "c:d" not in repr(basic)


def test_a_registration_is_kept_as_text() -> None:
    registration = ClientRegistration("a", "c", "client_secret_post", ("http://127.0.0.1/",), 5.0, True)
    assert load_registration(dump_registration(registration)) == registration
    assert registration.serves("http://127.0.0.1/", 4.0)
    assert not registration.serves("http://127.0.0.1/", 5.0)
    assert not registration.serves("http://127.0.0.1:1/", 4.0)
    for damaged in ("", "[]", "{}", '{"client_id": 1}'):
        assert load_registration(damaged) is None
