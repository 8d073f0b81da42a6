"""The syntax of challenges, metadata documents, and the URLs of discovery (MCP authorization)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.wire.authorization import (
    AuthorizationServerMetadata,
    Challenge,
    ClientInformation,
    ProtectedResourceMetadata,
    TokenResponse,
    authorization_server_urls,
    canonical_resource,
    find_challenge,
    parse_challenges,
    protected_resource_urls,
    read_document,
    render_challenge,
    resource_covers,
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer", [Challenge("bearer")]),
        ("", []),
        (" , ,", []),
        (
            'Bearer resource_metadata="https://h/.well-known/x", scope="a b"',
            [Challenge("bearer", {"resource_metadata": "https://h/.well-known/x", "scope": "a b"})],
        ),
        ("bearer Error=invalid_token", [Challenge("bearer", {"error": "invalid_token"})]),
        (
            'Basic realm="a, b", Bearer scope="x"',
            [Challenge("basic", {"realm": "a, b"}), Challenge("bearer", {"scope": "x"})],
        ),
        ("Negotiate, Bearer a=b", [Challenge("negotiate"), Challenge("bearer", {"a": "b"})]),
        (
            "Negotiate YWJj==, DPoP algs=ES256",
            [Challenge("negotiate", {}, "YWJj=="), Challenge("dpop", {"algs": "ES256"})],
        ),
        (r'Bearer realm="say \"hi\" \\ there"', [Challenge("bearer", {"realm": 'say "hi" \\ there'})]),
        ('Bearer scope = "a" ,error= "b"', [Challenge("bearer", {"scope": "a", "error": "b"})]),
        ('Bearer scope="a", scope="b"', [Challenge("bearer", {"scope": "a"})]),
    ],
)
def test_a_header_is_read_as_its_challenges(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges(header) == expected


@pytest.mark.parametrize(
    "header",
    ['Bearer scope="a", realm="unfinished', 'Bearer scope="a", @@, ', 'Bearer scope="a", x=, =y'],
)
def test_what_follows_a_flaw_does_not_hide_what_came_before(header: str) -> None:
    challenge = find_challenge(header)
    assert challenge is not None
    assert challenge.parameters["scope"] == "a"


def test_a_parameter_before_any_scheme_belongs_to_none() -> None:
    assert parse_challenges('scope="a", Bearer scope="b"') == [Challenge("bearer", {"scope": "b"})]


@given(st.text())
def test_no_header_breaks_the_reader(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(
        st.sampled_from(["scope", "error", "realm"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    )
)
def test_a_challenge_that_is_rendered_is_read_again(parameters: dict[str, str]) -> None:
    assert parse_challenges(render_challenge("Bearer", parameters)) == [Challenge("bearer", parameters)]


def test_a_rendered_challenge_cannot_break_out_of_its_header() -> None:
    assert (
        render_challenge("Bearer", {"error": 'a"\r\nSet-Cookie: b'}) == 'Bearer error="a\\"??Set-Cookie: b"'
    )


def test_the_metadata_of_a_server_is_looked_for_under_its_path_and_then_at_the_root() -> None:
    assert protected_resource_urls("https://h.example/public/mcp") == (
        "https://h.example/.well-known/oauth-protected-resource/public/mcp",
        "https://h.example/.well-known/oauth-protected-resource",
    )
    assert protected_resource_urls("https://h.example/") == (
        "https://h.example/.well-known/oauth-protected-resource",
    )
    assert protected_resource_urls("wss://H.example:443/ws")[0] == (
        "https://h.example/.well-known/oauth-protected-resource/ws"
    )


def test_the_metadata_of_an_issuer_is_looked_for_in_the_order_of_the_specification() -> None:
    assert authorization_server_urls("https://auth.example.com/tenant1") == (
        "https://auth.example.com/.well-known/oauth-authorization-server/tenant1",
        "https://auth.example.com/.well-known/openid-configuration/tenant1",
        "https://auth.example.com/tenant1/.well-known/openid-configuration",
    )
    for issuer in ("https://auth.example.com", "https://auth.example.com/"):
        assert authorization_server_urls(issuer) == (
            "https://auth.example.com/.well-known/oauth-authorization-server",
            "https://auth.example.com/.well-known/openid-configuration",
        )


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/x",
        "https://",
        "https:///x",
        "https://u:p@h/x",
        "https://h\\@evil/x",
        "https://h:99999/",
        "x",
        " https://h",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    for read in (protected_resource_urls, authorization_server_urls, canonical_resource):
        with pytest.raises(ValueError, match=r"URL|[Pp]ort") as refused:
            read(url)
        assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("issuer", ["https://h/x?y", "https://h/x#y", "https://h?", "https://h#"])
def test_an_issuer_has_no_query_and_no_fragment(issuer: str) -> None:
    with pytest.raises(ValueError, match="query or a fragment"):
        authorization_server_urls(issuer)


@pytest.mark.parametrize(
    ("url", "resource"),
    [
        ("https://MCP.Example.com/mcp", "https://mcp.example.com/mcp"),
        ("https://mcp.example.com:443/", "https://mcp.example.com"),
        ("http://127.0.0.1:8000/mcp#part", "http://127.0.0.1:8000/mcp"),
        ("wss://mcp.example.com/mcp/", "https://mcp.example.com/mcp/"),
        ("ws://[::1]:80/mcp?a=b", "http://[::1]/mcp?a=b"),
    ],
)
def test_the_resource_of_a_url_is_canonical(url: str, resource: str) -> None:
    assert canonical_resource(url) == resource


@pytest.mark.parametrize(
    ("resource", "url", "covered"),
    [
        ("https://h/mcp", "https://h/mcp", True),
        ("https://h/mcp/", "https://h/mcp", True),
        ("https://h", "https://h/mcp", True),
        ("https://H:443/mcp", "https://h/mcp/sub", True),
        ("https://h/mcp", "wss://h/mcp", True),
        ("https://h/mcp", "https://h/mcp2", False),
        ("https://h/mcp/sub", "https://h/mcp", False),
        ("http://h/mcp", "https://h/mcp", False),
        ("https://h:8443/mcp", "https://h/mcp", False),
        ("https://h.evil/mcp", "https://h/mcp", False),
        ("https://h/mcp?t=1", "https://h/mcp?t=1", True),
        ("https://h/mcp?t=1", "https://h/mcp", False),
        ("https://h/mcp#x", "https://h/mcp", False),
        ("urn:x", "https://h/mcp", False),
    ],
)
def test_a_resource_covers_the_urls_below_it(resource: str, url: str, covered: bool) -> None:
    assert resource_covers(resource, url) is covered


def test_a_document_is_read_without_what_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    raw = b'{"resource":"https://h","scopes_supported":"all","authorization_servers":["https://a"],"new":1}'
    metadata = read_document(raw, ProtectedResourceMetadata, "the metadata")
    assert metadata.authorization_servers == ["https://a"]
    assert metadata.scopes_supported is None
    assert "scopes_supported of the metadata is left out" in caplog.text


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"issuer":1}', b"\xff", b"<html>"])
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="the metadata"):
        read_document(raw, AuthorizationServerMetadata, "the metadata")


def test_the_answer_of_a_token_endpoint_shows_no_secret() -> None:
    tokens = read_document(
        b'{"access_token":"sesame1","refresh_token":"sesame2","expires_in":"3600"}',
        TokenResponse,
        "the answer",
    )
    client = read_document(b'{"client_id":"c","client_secret":"sesame3"}', ClientInformation, "the answer")
    assert tokens.expires_in == "3600"
    assert "sesame" not in f"{tokens!r}{client!r}{tokens}{client}"
    assert list(tokens.__rich_repr__()) == []
