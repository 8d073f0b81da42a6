"""Where a protected server says who issues tokens for it, and what it says (RFC 9728)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.authorization.tokens import Tokens, bearing
from tests.support.asgi_host import Exchange, Host, finish, open_host
from trio_mcp import Bearer, Server, asgi_app
from trio_mcp.wire.authorization import find_challenge

WELL_KNOWN = "/.well-known/oauth-protected-resource"
ISSUER = "https://issuer.example"

server = Server("described", version="1")


def make_auth(**options: Any) -> Bearer:
    return Bearer(Tokens({}), **{"authorization_servers": [ISSUER], **options})


async def get(host: Host, path: str, /, **headers: str) -> Exchange:
    return await host.request("GET", headers, path=path)


async def follow_challenge(host: Host, path: str) -> tuple[str, Any]:
    """Ask the endpoint at `path`, and read the metadata that its challenge names: their URL, and they."""
    refused = await finish(host.modern("tools/list", path=path))
    found = find_challenge(refused.headers["www-authenticate"])
    assert found is not None
    url = found.parameters["resource_metadata"]
    answer = await get(host, "/" + url.split("/", 3)[3])
    assert answer.status == 200
    return url, answer.json


async def test_the_metadata_of_a_server_need_no_token():
    auth = make_auth(scopes=["read"], scopes_supported=["read", "write"], resource_name="Files")
    async with open_host(asgi_app(server, auth=auth)) as host:
        answer = await get(host, f"{WELL_KNOWN}/mcp", origin="https://any.example")
        at_root = await get(host, WELL_KNOWN)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "max-age" in answer.headers["cache-control"]
    assert answer.json == at_root.json
    assert answer.json == {
        "resource": "http://localhost:8000/mcp",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["read", "write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Files",
    }


async def test_what_was_not_given_is_left_out_and_issuers_may_come_from_the_verifier():
    class Verifier(Tokens):
        issuers = (ISSUER,)

    async with open_host(asgi_app(server, auth=Bearer(Tokens({}), scopes=["read"]))) as host:
        described = (await get(host, WELL_KNOWN)).json
    assert described == {
        "resource": "http://localhost:8000/mcp",
        "scopes_supported": ["read"],
        "bearer_methods_supported": ["header"],
    }
    async with open_host(asgi_app(server, auth=Bearer(Verifier({})))) as host:
        described = (await get(host, WELL_KNOWN)).json
    assert described["authorization_servers"] == [ISSUER]
    assert "scopes_supported" not in described


async def test_metadata_answer_head_and_preflights_and_refuse_the_rest():
    async with open_host(asgi_app(server, auth=make_auth())) as host:
        path = f"{WELL_KNOWN}/mcp"
        assert (await host.request("HEAD", path=path)).status == 200
        wanted = {"origin": "https://page.example", "access-control-request-headers": "mcp-protocol-version"}
        preflight = await host.request("OPTIONS", wanted, path=path)
        refused = await host.request("POST", path=path)
        assert (await get(host, f"{WELL_KNOWN}/other")).status == 404
        assert (await get(host, f"{WELL_KNOWN}x")).status == 404
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert preflight.headers["access-control-allow-headers"] == "mcp-protocol-version"
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_a_server_without_tokens_has_no_metadata():
    async with open_host(asgi_app(server)) as host:
        assert (await get(host, f"{WELL_KNOWN}/mcp")).status == 404
    async with open_host(asgi_app(server, authenticate=lambda scope: "ann")) as host:
        assert (await get(host, f"{WELL_KNOWN}/mcp")).status == 404


async def test_metadata_name_only_hosts_that_the_server_is_known_by():
    async with open_host(asgi_app(server, auth=make_auth())) as host:
        assert (await get(host, f"{WELL_KNOWN}/mcp", host="evil.example")).status == 403
        host.address = ("192.0.2.1", 80)
        answer = await get(host, f"{WELL_KNOWN}/mcp", host="MCP.example:80")
        assert answer.json["resource"] == "http://mcp.example/mcp"
        for malformed in ("a/b", "user@mcp.example", "mcp.example?x", "a b", "mcp.example:x"):
            assert (await get(host, f"{WELL_KNOWN}/mcp", host=malformed)).status == 400
            refused = await finish(host.modern("tools/list", headers={"host": malformed}))
            assert refused.status == 401
            assert "resource_metadata" not in refused.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("root", "path", "asked", "url", "resource"),
    [
        ("", "/mcp", "/mcp", f"{WELL_KNOWN}/mcp", "/mcp"),
        ("", "/mcp", "/mcp/", f"{WELL_KNOWN}/mcp", "/mcp"),
        ("", "/", "/", WELL_KNOWN, ""),
        ("", "/a b", "/a b", f"{WELL_KNOWN}/a%20b", "/a%20b"),
        ("", "/a:b@c", "/a:b@c", f"{WELL_KNOWN}/a:b@c", "/a:b@c"),
        ("/api", "/mcp", "/api/mcp", f"/api{WELL_KNOWN}/mcp", "/api/mcp"),
        ("/mcp", "/mcp", "/mcp", f"/mcp{WELL_KNOWN}", "/mcp"),
    ],
)
async def test_the_challenge_of_an_endpoint_leads_to_its_metadata(root, path, asked, url, resource):
    async with open_host(asgi_app(server, path=path, auth=make_auth())) as host:
        host.scope["root_path"] = root
        if "%" not in url:
            found, described = await follow_challenge(host, asked)
        else:  # an ASGI scope has the path decoded
            refused = await finish(host.modern("tools/list", path=asked))
            challenge = find_challenge(refused.headers["www-authenticate"])
            assert challenge is not None
            found, described = challenge.parameters["resource_metadata"], None
            described = (await get(host, f"{WELL_KNOWN}{path}")).json
    assert found == "http://localhost:8000" + url
    assert described["resource"] == "http://localhost:8000" + resource


@pytest.mark.parametrize(
    ("resource", "url", "served"),
    [
        ("https://mcp.example/mcp", f"https://mcp.example{WELL_KNOWN}/mcp", f"{WELL_KNOWN}/mcp"),
        ("https://mcp.example", f"https://mcp.example{WELL_KNOWN}", WELL_KNOWN),
        ("HTTPS://MCP.example:443/", f"https://mcp.example{WELL_KNOWN}", WELL_KNOWN),
        ("https://mcp.example/a/mcp", f"https://mcp.example{WELL_KNOWN}/a/mcp", f"{WELL_KNOWN}/a/mcp"),
        ("https://mcp.example/a%20b", f"https://mcp.example{WELL_KNOWN}/a%20b", f"{WELL_KNOWN}/a b"),
    ],
)
async def test_behind_a_proxy_the_configured_url_counts(resource, url, served):
    async with open_host(asgi_app(server, auth=make_auth(resource=resource))) as host:
        refused = await finish(host.modern("tools/list", headers=bearing("unknown")))
        described = (await get(host, served)).json
    challenge = find_challenge(refused.headers["www-authenticate"])
    assert challenge is not None
    assert challenge.parameters["resource_metadata"] == url
    assert described["resource"] == resource.lower().replace(":443/", "")


async def test_a_server_over_tls_is_known_by_https():
    async with open_host(asgi_app(server, auth=make_auth())) as host:
        host.scope["scheme"] = "https"
        assert (await get(host, WELL_KNOWN)).json["resource"] == "https://localhost:8000/mcp"
