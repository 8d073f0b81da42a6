"""A server of ours behind `Bearer`, the authorization server for development, and the commands against both.

The commands run in this process, as their functions. The user is `DevAuthorizationServer.open_browser`, or
nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import Bearer, Context, InvalidToken, JwtVerifier, Principal, Server, serve_http
from trio_mcp.cli.access import find_target
from trio_mcp.cli.listing import list_offers
from trio_mcp.cli.logins.book import Login
from trio_mcp.cli.logins.login import log_in
from trio_mcp.cli.running import run_reporting
from trio_mcp.testing.authorization import DevAuthorizationServer, open_authorization_server


def make_server() -> Server:
    """A server with a tool for everybody who may read, and one that needs more."""
    server = Server("albums", version="1.0")

    @server.tool(scopes=["read"])
    def count(ctx: Context) -> str:
        """Count your albums."""
        assert isinstance(ctx.principal, Principal)
        return f"{ctx.principal.subject} has 2 albums"

    @server.tool
    async def delete(ctx: Context, album: str) -> str:
        """Delete an album, which is listed for everybody."""
        ctx.require_scopes("delete")
        return f"deleted {album}"

    @server.tool(scopes=["admin"])
    def administer() -> None:
        """Do what others do not even see."""

    return server


@attrs.define
class World:
    """Both servers, and the place where the logins of the test are."""

    issuer: DevAuthorizationServer
    url: str
    verifier: JwtVerifier
    state: Path
    capture: pytest.CaptureFixture[str]
    printed: list[str] = attrs.field(factory=list)
    secrets: set[str] = attrs.field(factory=set)
    refuses_tokens: bool = False

    @property
    def file(self) -> Path:
        return self.state / "trio_mcp" / "tokens.json"

    @property
    def stored(self) -> dict[str, Any]:
        """All that the file holds, decoded."""
        return {key: _decode(text) for key, text in msgspec.json.decode(self.file.read_bytes()).items()}

    @property
    def tokens(self) -> dict[str, Any]:
        found: dict[str, Any] = self.stored[f"tokens {self.url}"]["tokens"]
        return found

    async def log_in(self, *, secret: str | None = None, **options: Any) -> tuple[int, str, str]:
        """Log in with the options of `Login`; returns the status and what was printed."""
        login = Login(has_secret=secret is not None, **options)
        work = partial(log_in, self.url, login, secret, open_browser=self.issuer.open_browser)
        return await self.run(work)

    async def list(self, auth: str | None = None) -> tuple[int, str, str]:
        """List the server's tools."""
        target = find_target(self.url, (), None, auth)
        return await self.run(partial(list_offers, target, protocol="auto", as_json=False))

    async def run(self, work: Any) -> tuple[int, str, str]:
        """Do what a command does; returns its exit status, stdout and stderr."""
        status = await run_reporting(work)
        output, errors = self.capture.readouterr()
        self.printed += [output, errors]
        self.note_secrets()
        return status, output, errors

    def note_secrets(self) -> None:
        """Remember what is kept now and must never be shown."""
        if self.file.exists():
            for text in msgspec.json.decode(self.file.read_bytes(), type=dict[str, str]).values():
                tokens = _decode(text)
                held = tokens.get("tokens", {}) if isinstance(tokens, dict) else {}
                self.secrets |= {held.get("access_token"), held.get("refresh_token")} - {None}

    def count(self, *endpoints: str) -> list[int]:
        """How often each endpoint was asked."""
        return [self.issuer.counts[endpoint] for endpoint in endpoints]


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


@asynccontextmanager
async def open_world(
    tmp_path: Path,
    capture: pytest.CaptureFixture[str],
    *,
    scopes: Collection[str] = ("read",),
    optional: bool = False,
    **options: Any,
) -> AsyncIterator[World]:
    """Serve both; `options` are those of the authorization server."""
    worlds: list[World] = []

    async def verify(token: str) -> Principal:
        (world,) = worlds
        if world.refuses_tokens:
            raise InvalidToken("the access token was revoked")
        return await world.verifier.verify(token)

    with trio.fail_after(HANG_SECONDS):
        async with open_authorization_server(**options) as issuer, trio.open_nursery() as nursery:
            guard = Bearer(
                verify,
                authorization_servers=[issuer.issuer],
                scopes=() if optional else scopes,
                optional=optional,
                leeway=0,
            )
            serve = partial(serve_http, make_server(), bind="127.0.0.1:0", auth=guard, shutdown_grace=0.0)
            (url,) = await nursery.start(serve)
            world = World(issuer, url, JwtVerifier(issuer.issuer, url, leeway=0), tmp_path, capture)
            worlds.append(world)
            yield world
            nursery.cancel_scope.cancel()
    shown = "".join(world.printed)
    for secret in world.secrets:
        assert secret not in shown, "a token was shown"
