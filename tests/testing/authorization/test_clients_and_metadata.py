"""How the server describes itself, and how clients become known to it (RFC 8414, RFC 7591, CIMD)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.oauth_dance import CALLBACK, ClientKey, Clock, Dance, make_server
from trio_mcp.testing.authorization import Answer, DevAuthorizationServer

DOCUMENT_URL = "https://app.example.com/client.json"


def document(**changes: Any) -> dict[str, Any]:
    members = {
        "client_id": DOCUMENT_URL,
        "client_name": "Documented",
        "redirect_uris": [CALLBACK],
        **changes,
    }
    return {name: value for name, value in members.items() if value is not None}


@pytest.mark.parametrize(
    ("issuer", "paths"),
    [
        (
            "https://auth.example.com",
            ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
        ),
        (
            "https://auth.example.com/tenant/1",
            [
                "/.well-known/oauth-authorization-server/tenant/1",
                "/.well-known/openid-configuration/tenant/1",
                "/tenant/1/.well-known/openid-configuration",
            ],
        ),
    ],
)
async def test_the_metadata_is_at_each_url_of_the_specification(issuer: str, paths: list[str]) -> None:
    server = DevAuthorizationServer(issuer)
    for path in paths:
        answer = await server.request("GET", f"https://auth.example.com{path}")
        assert answer.json["issuer"] == issuer
        assert answer.json["code_challenge_methods_supported"] == ["S256"]
        assert answer.json["token_endpoint"] == f"{issuer}/token"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] == "public, max-age=60"
    head = await server.request("HEAD", f"https://auth.example.com{paths[0]}")
    assert (head.status, head.body) == (200, b"")
    other = await server.request("GET", "https://auth.example.com/.well-known/other")
    assert other.status == 404
    assert server.counts["oauth_metadata"] == 2


async def test_every_endpoint_of_the_metadata_is_there() -> None:
    server = DevAuthorizationServer("https://auth.example.com/tenant")
    for name, url in server.metadata.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            assert (await server.request("OPTIONS", url)).status == 204
    for hidden in ("oauth_metadata", "tokens", ""):
        assert (await server.request("GET", f"{server.issuer}/{hidden}")).status == 404


async def test_metadata_says_what_the_server_was_told_to_do() -> None:
    server = make_server(scopes_supported=["read"], registration=False, client_documents=False)
    metadata = server.metadata
    assert set(metadata["scopes_supported"]) > {"read", "offline_access"}
    assert "registration_endpoint" not in metadata
    assert metadata["client_id_metadata_document_supported"] is False
    assert (await server.request("POST", "register", body=b"{}")).status == 404


async def test_published_keys_are_public_and_rotate() -> None:
    server = make_server()
    first = server.issue_token()
    (key,) = (await server.request("GET", "jwks")).json["keys"]
    assert (key["kty"], key["kid"], "d" in key) == ("EC", "key-1", False)
    assert server.rotate_keys() == "key-2"
    assert [key["kid"] for key in (await server.request("GET", "jwks")).json["keys"]] == ["key-1", "key-2"]
    assert server.keys.verify(first)[0]["kid"] == "key-1"
    server.rotate_keys(keep=0)
    assert [key["kid"] for key in (await server.request("GET", "jwks")).json["keys"]] == ["key-3"]
    with pytest.raises(ValueError, match="cannot be verified"):
        server.keys.verify(first)


async def test_a_request_for_another_host_and_a_peer_elsewhere_are_refused() -> None:
    server = make_server()
    rebound = await server.request("GET", "jwks", headers={"host": "evil.example"})
    assert rebound.status == 421
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body of a refused request is not read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/jwks",
        "headers": [(b"host", b"auth.example.com")],
        "client": ("192.0.2.1", 5),
    }
    await server(scope, receive, send)
    assert sent[0]["status"] == 403


async def register(server: DevAuthorizationServer, **changes: Any) -> Answer:
    members = {
        "client_name": "Registered",
        "application_type": "native",
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        **changes,
    }
    given = {name: value for name, value in members.items() if value is not None}
    return await server.request(
        "POST", "register", headers={"content-type": "application/json"}, body=msgspec.json.encode(given)
    )


async def test_a_client_registers_itself_and_gets_a_token() -> None:
    server = make_server()
    answer = await register(server)
    assert answer.status == 201
    assert answer.json["redirect_uris"] == [CALLBACK]
    assert "client_secret" not in answer.json
    assert "refresh_token" in await Dance(server, answer.json["client_id"]).tokens()
    server.forget_client(answer.json["client_id"])
    gone = await Dance(server, answer.json["client_id"]).refresh("x")
    assert (gone.status, gone.json["error"]) == (401, "invalid_client")


async def test_a_client_gets_a_secret_or_hands_in_its_keys() -> None:
    clock = Clock()
    server = make_server(clock)
    with_secret = (await register(server, token_endpoint_auth_method=None)).json
    assert with_secret["token_endpoint_auth_method"] == "client_secret_basic"
    assert (len(with_secret["client_secret"]), with_secret["client_secret_expires_at"]) == (43, 0)
    keyed = await register(server, token_endpoint_auth_method="private_key_jwt", jwks=ClientKey(clock).jwks)
    assert keyed.status == 201
    assert "client_secret" not in keyed.json


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uris": None}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://app.example.com/callback"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"{CALLBACK}#part"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["/callback"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://[::1/callback"]}, "invalid_redirect_uri"),
        ({"application_type": "web"}, "invalid_redirect_uri"),
        ({"application_type": "toaster"}, "invalid_client_metadata"),
        ({"redirect_uris": "http://127.0.0.1/"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({"grant_types": ["implicit"]}, "invalid_client_metadata"),
        ({"grant_types": "authorization_code"}, "invalid_client_metadata"),
        ({"scope": ["read"]}, "invalid_client_metadata"),
    ],
)
async def test_a_registration_that_does_not_fit_is_refused(changes, error) -> None:
    answer = await register(make_server(), **changes)
    assert (answer.status, answer.json["error"]) == (400, error)


async def test_a_registration_is_a_json_object() -> None:
    server = make_server()
    for media, body in (("application/json", b"[]"), ("application/json", b"\xff"), ("text/plain", b"{}")):
        answer = await server.request("POST", "register", headers={"content-type": media}, body=body)
        assert answer.json["error"] == "invalid_client_metadata"


async def test_a_web_application_registers_an_address_that_is_not_this_machine() -> None:
    web = await register(
        make_server(), application_type="web", redirect_uris=["https://app.example.com/callback"]
    )
    assert (web.status, web.json["application_type"]) == (201, "web")
    local = await register(
        make_server(), application_type="web", redirect_uris=["https://localhost/callback"]
    )
    assert local.json["error"] == "invalid_redirect_uri"


async def test_a_client_that_does_not_say_what_it_is_is_a_native_one_unless_the_server_is_strict() -> None:
    lenient = await register(make_server(), application_type=None)
    assert (lenient.status, lenient.json["application_type"]) == (201, "native")
    strict = await register(make_server(strict_redirects=True), application_type=None)
    assert strict.json["error"] == "invalid_redirect_uri"


async def test_the_scopes_of_a_registration_limit_its_client_only_if_that_is_asked_for() -> None:
    """Clients such as those of the official SDK register with what they ask for first."""
    server = make_server(strict_scopes=True)
    client_id = (await register(server, scope="read")).json["client_id"]
    assert (await Dance(server, client_id).callback(scope="write"))["error"] == "invalid_scope"
    server = make_server()
    client_id = (await register(server, scope="read")).json["client_id"]
    assert "code" in await Dance(server, client_id).callback(scope="write")


async def test_the_url_of_a_metadata_document_is_the_id_of_a_client() -> None:
    server = make_server(documents={DOCUMENT_URL: document()})
    tokens = await Dance(server, DOCUMENT_URL).tokens()
    assert server.keys.verify(tokens["access_token"])[1]["client_id"] == DOCUMENT_URL


async def test_a_metadata_document_is_fetched_once() -> None:
    fetched: list[str] = []

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        return msgspec.json.encode(document())

    server = make_server(fetch_document=fetch)
    dance = Dance(server, DOCUMENT_URL)
    await dance.tokens()
    await dance.tokens()
    assert fetched == [DOCUMENT_URL]


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "https://other.example.com/client.json"},
        {"client_id": None},
        {"client_name": None},
        {"redirect_uris": None},
        {"redirect_uris": [5]},
        {"redirect_uris": ["http://app.example.com/callback"]},
        {"client_secret": "s"},
        {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"grant_types": "authorization_code"},
    ],
)
async def test_a_metadata_document_that_does_not_fit_makes_no_client(changes) -> None:
    server = make_server(documents={DOCUMENT_URL: document(**changes)})
    answer = await server.request("GET", Dance(server, DOCUMENT_URL).url())
    assert (answer.status, "location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example.com/client.json",
        "https://app.example.com",
        "https://user@app.example.com/client.json",
        "https://app.example.com/client.json#part",
        "https://app.example.com/a/../client.json",
        "https://[::1/client.json",
        "ftp://app.example.com/client.json",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/client.json",
        "https://app.example.com/client.json",
    ],
)
async def test_a_document_is_not_fetched_from_a_bad_url_or_from_another_machine(url: str) -> None:
    server = make_server()
    answer = await server.request("GET", Dance(server, url).url())
    assert answer.status == 400
    assert "invalid_client" in answer.body.decode()


async def test_a_document_that_cannot_be_read_makes_no_client() -> None:
    async def fetch(url: str) -> bytes:
        raise OSError("no route")

    for server in (
        make_server(fetch_document=fetch),
        make_server(client_documents=False, documents={DOCUMENT_URL: document()}),
    ):
        refused = await Dance(server, DOCUMENT_URL).refresh("x")
        assert refused.json["error"] == "invalid_client"


async def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="issuer must be an http or https URL"):
        DevAuthorizationServer("auth.example.com")
    with pytest.raises(TypeError, match="not one string"):
        DevAuthorizationServer(default_scopes="read")
    with pytest.raises(TypeError, match="unexpected keyword"):
        DevAuthorizationServer(unknown=1)
