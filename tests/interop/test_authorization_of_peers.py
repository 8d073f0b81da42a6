"""Protected servers and clients that are authorized, ours with those of other implementations.

Tokens come from the authorization server for development, which all of them ask over HTTP.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from tests.support.protected_server import open_protected
from trio_mcp import Context, MCPError, OAuth, Server, open_client
from trio_mcp.testing.authorization import DevAuthorizationServer, open_authorization_server

PEERS = Path(__file__).parents[1] / "peers"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
SERVERS = {"mcp2": "sdk_protected_server.py", "fastmcp42": "fastmcp_protected_server.py"}


def make_server() -> Server:
    server = Server("our-server")

    @server.tool
    async def whoami(ctx: Context) -> str:
        assert ctx.principal is not None
        assert ctx.principal.scopes is not None
        return f"{ctx.principal.subject}: {' '.join(sorted(ctx.principal.scopes))}"

    @server.tool(scopes=["erase"])
    async def erase(ctx: Context) -> str:
        return "erased"

    return server


@pytest.mark.parametrize(("mode", "version"), [("legacy", LEGACY), ("auto", MODERN)])
async def test_the_client_of_the_sdk_reaches_our_tools_by_its_own_oauth(
    mode: str, version: str, environment: Callable[[str], Path]
) -> None:
    """It finds the authorization server, registers, gets a token, and another for a tool that needs more."""
    python = environment("mcp2") / "bin" / "python"
    tokens: list[str] = []
    with trio.fail_after(HANG_SECONDS):
        async with (
            open_authorization_server(path="/tenant") as issuer,
            open_protected(make_server(), issuer, tokens, scopes=["read"]) as url,
        ):
            command = [python, PEERS / "sdk_oauth_client.py", mode, url]
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["protocol_version"] == version
    assert report["tools"] == ["whoami"]  # the other one is shown to those who may use it
    assert report["whoami"] == "alice: read"
    assert report["erase"] == "erased"
    assert [set(scopes.split()) for scopes in report["asked"]] == [{"read"}, {"read", "erase"}]
    assert issuer.counts["register"] == 1
    assert len(set(tokens)) == 2


@asynccontextmanager
async def open_peer(python: Path, script: str, issuer: DevAuthorizationServer) -> AsyncIterator[str]:
    """The URL of a protected server of another implementation, which must end without errors."""
    run = partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, capture_stderr=True)
    async with trio.open_nursery() as nursery:
        command = [python, PEERS / script, issuer.issuer, issuer.metadata["jwks_uri"]]
        process = await nursery.start(run, command)
        url = b""
        while not url.endswith(b"\n"):
            more = await process.stdout.receive_some()
            assert more, "the server did not start"
            url += more
        yield url.decode().strip()
        await process.stdin.aclose()


async def call(url: str, auth: OAuth | str, protocol: str) -> str:
    async with open_client(url, auth=auth, protocol=protocol) as client:
        assert client.protocol_version == protocol
        return (await client.call_tool("whoami")).text


@pytest.mark.parametrize("peer", SERVERS)
async def test_our_client_reaches_a_protected_tool_of_another_implementation(
    peer: str, environment: Callable[[str], Path]
) -> None:
    """By OAuth from the URL alone, and with a token that it has got beforehand, in both eras."""
    python = environment(peer) / "bin" / "python"
    with trio.fail_after(HANG_SECONDS):
        async with (
            open_authorization_server(path="/tenant") as issuer,
            open_peer(python, SERVERS[peer], issuer) as url,
        ):
            oauth = OAuth(open_browser=issuer.open_browser)
            token = issuer.issue_token("bob", audience=url, scopes=["read"])
            for protocol in (LEGACY, MODERN):
                assert await call(url, oauth, protocol) == "alice: read"
                assert await call(url, token, protocol) == "bob: read"
                elsewhere = issuer.issue_token("bob", audience="https://other.example", scopes=["read"])
                with pytest.raises(MCPError):
                    await call(url, elsewhere, protocol)
    assert issuer.counts["authorize"] == 1  # the second client has used the token of the first
