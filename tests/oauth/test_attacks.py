"""What an attacker may try against a client that is being authorized, end to end; nothing gets through.

The client is ours, the protected server too, and the authorization server is the one for development, which
is made to misbehave. (MCP authorization, "Security Considerations"; RFC 9207; RFC 9700)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import attrs
import pytest
import trio

from tests.support.leaks import Leaks
from tests.support.limits import HANG_SECONDS
from tests.support.protected_server import open_protected
from trio_mcp import Context, MCPError, OAuth, Server, open_client
from trio_mcp.testing.authorization import DevAuthorizationServer, Fault, open_authorization_server

REDIRECT = "http://127.0.0.1:4000/callback"


def make_server(calls: list[str]) -> Server:
    server = Server("albums")

    @server.tool
    async def count(ctx: Context) -> int:
        assert ctx.principal is not None
        calls.append(str(ctx.principal.subject))
        return 2

    return server


@attrs.define(eq=False)
class World:
    """A protected server, its authorization server and another one, and who has called the tool."""

    url: str
    issuer: DevAuthorizationServer
    other: DevAuthorizationServer
    calls: list[str]
    tokens: list[str] = attrs.field(repr=False)
    """The access tokens that the protected server has been sent."""
    auths: list[OAuth] = attrs.field(factory=list)

    def auth(self, redirect: Any = None, **options: Any) -> OAuth:
        made = OAuth(redirect=redirect or self.fetch, redirect_uri=REDIRECT, **options)
        self.auths.append(made)
        return made

    async def fetch(self, url: str) -> str:
        """The honest browser."""
        return await self.issuer.fetch_callback(url)

    async def call(self, auth: OAuth, way: str = "http") -> None:
        async with open_client(**self.find(way), auth=auth) as client:
            await client.call_tool("count")

    def find(self, way: str) -> dict[str, Any]:
        """The target of a client that comes over one of the transports."""
        if way == "websocket":
            return {"target": self.url.replace("http", "ws", 1)}
        if way == "sse":
            return {"target": self.url.replace("/mcp", "/sse"), "transport": "sse"}
        return {"target": self.url}

    async def fail(self, auth: OAuth, way: str = "http") -> str:
        """The error of a call that must not get through."""
        with pytest.raises(MCPError) as caught:
            await self.call(auth, way)
        assert self.calls == []
        return str(caught.value)


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    calls: list[str] = []
    tokens: list[str] = []
    with trio.fail_after(HANG_SECONDS):
        async with (
            open_authorization_server() as issuer,
            open_authorization_server(path="/other") as other,
            open_protected(make_server(calls), issuer, tokens) as url,
        ):
            yield World(url, issuer, other, calls, tokens)


@pytest.fixture
async def world(leaks: Leaks) -> AsyncIterator[World]:
    async with open_world() as opened:
        yield opened
        leaks.note(*opened.tokens)
        leaks.show(opened.issuer, opened.other, *opened.issuer.seen, *opened.other.seen, *opened.auths)


async def test_without_an_attack_the_user_gets_in(world: World, leaks: Leaks) -> None:
    await world.call(world.auth())
    assert world.calls == ["alice"]
    # A code, a verifier, a state, and a token with its parts; each of them is searched for.
    assert len(leaks.secrets) >= 6
    assert leaks.secrets >= set(world.tokens)


async def test_a_code_of_another_user_is_not_taken_for_an_answer(world: World) -> None:
    """The attacker begins a flow of their own and has the victim's browser finish it (CSRF)."""
    queries: list[str] = []

    async def record(url: str) -> str:
        queries.append(await world.issuer.fetch_callback(url))
        raise OSError("the attacker keeps it")

    with pytest.raises((MCPError, OSError)):
        await world.call(world.auth(record))

    async def inject(url: str) -> str:
        return queries[0]

    assert "state" in await world.fail(world.auth(inject))
    assert world.issuer.counts["token"] == 0


async def test_an_answer_that_was_taken_is_worth_nothing_again(world: World) -> None:
    """A flow has a state of its own, and a code that is used again ends what came of it."""
    answers: list[str] = []

    async def record(url: str) -> str:
        answers.append(await world.issuer.fetch_callback(url))
        return answers[-1]

    async def replay(url: str) -> str:
        return answers[0]

    await world.call(world.auth(record))
    world.calls.clear()
    redeemed = world.issuer.counts["token"]
    assert "state" in await world.fail(world.auth(replay))
    assert world.issuer.counts["token"] == redeemed


@pytest.mark.parametrize("way", ["websocket", "sse"])
async def test_over_other_transports_nothing_more_gets_through(world: World, way: str) -> None:
    answers: list[str] = []

    async def record(url: str) -> str:
        answers.append(await world.issuer.fetch_callback(url))
        return answers[-1]

    async def replay(url: str) -> str:
        return answers[0]

    await world.call(world.auth(record), way)
    assert world.calls == ["alice"]
    world.calls.clear()
    redeemed = world.issuer.counts["token"]
    assert "state" in await world.fail(world.auth(replay), way)
    world.issuer.faults.redirect["iss"] = "https://evil.example"
    assert "is not from" in await world.fail(world.auth(), way)
    world.issuer.faults.clear()
    world.issuer.faults.metadata["token_endpoint"] = "http://169.254.169.254/latest"
    await world.fail(world.auth(), way)
    world.issuer.faults.clear()
    world.issuer.faults.endpoints["oauth_metadata"] = Fault(
        status=302, headers={"location": world.other.issuer}
    )
    await world.fail(world.auth(), way)
    assert not world.other.counts
    assert world.issuer.counts["token"] == redeemed


@pytest.mark.parametrize(
    ("redirect", "problem"),
    [
        ({"iss": "https://evil.example"}, "is not from"),
        ({"iss": None}, "does not say that it is from"),
        ({"state": "guessed"}, "state"),
        ({"state": None}, "state"),
        ({"code": "x" * 43}, "invalid_grant"),
    ],
)
async def test_an_answer_with_a_false_part_is_refused(world: World, redirect, problem) -> None:
    world.issuer.faults.redirect.update(redirect)
    assert problem in await world.fail(world.auth())


async def test_an_error_of_another_issuer_is_neither_shown_nor_acted_upon(world: World) -> None:
    world.issuer.faults.redirect.update(iss="https://evil.example", error_description="call 555-0100")
    world.issuer.faults.endpoints["authorize"] = Fault(error="access_denied")
    said = await world.fail(world.auth())
    assert "555-0100" not in said
    assert "access_denied" not in said


async def test_a_mix_up_sends_no_code_of_one_issuer_to_another(world: World) -> None:
    """The other server sends the user on to the honest one, to get its code (RFC 9207, section 1)."""
    world.other.add_client("app", redirect_uris=[REDIRECT])
    world.issuer.add_client("app", redirect_uris=[REDIRECT])

    async def send_on(asked: str) -> str:
        query = urlsplit(asked).query
        return await world.issuer.fetch_callback(f"{world.issuer.issuer}/authorize?{query}")

    async with open_protected(Server("evil"), world.other, world.tokens) as url:
        with pytest.raises(MCPError, match="is not from"):
            async with open_client(url, auth=world.auth(send_on, client_id="app")):
                pass
    assert world.issuer.counts["authorize"] == 1
    assert world.other.counts["token"] == 0


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"code_challenge_methods_supported": None},
        {"code_challenge_methods_supported": ["plain"]},
        {"token_endpoint": "http://169.254.169.254/latest"},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"registration_endpoint": "http://[fe80::1]/register"},
        {"registration_endpoint": "http://10.0.0.1/register"},
    ],
    ids=str,
)
async def test_metadata_that_lead_elsewhere_are_not_followed(world: World, metadata) -> None:
    world.issuer.faults.metadata.update(metadata)
    await world.fail(world.auth())
    assert world.issuer.counts["token"] == 0


@pytest.mark.parametrize("endpoint", ["oauth_metadata", "register", "token"])
@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect_to_another_host_is_not_followed(world: World, endpoint: str, status: int) -> None:
    world.issuer.faults.endpoints[endpoint] = Fault(
        status=status, headers={"location": f"{world.other.issuer}/{endpoint}"}
    )
    await world.fail(world.auth())
    assert not world.other.counts


async def test_a_url_of_the_user_is_one_of_the_issuer(world: World) -> None:
    """The client asks for the code of this issuer, for this resource, with a challenge of its own."""
    shown: list[dict[str, list[str]]] = []

    async def look(url: str) -> str:
        assert url.startswith(f"{world.issuer.issuer}/authorize?")
        shown.append(parse_qs(urlsplit(url).query))
        return await world.issuer.fetch_callback(url)

    await world.call(world.auth(look))
    await world.call(world.auth(look))
    first, second = shown
    assert first["resource"] == second["resource"] == [world.url]
    assert first["code_challenge_method"] == ["S256"]
    for name in ("state", "code_challenge"):
        assert first[name] != second[name]
    assert len(urlencode(first, doseq=True)) < 2000
