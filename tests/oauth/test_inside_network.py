"""A server on the internet cannot lead its client into the client's own network, whichever URL it puts there.

(MCP security best practices, "Server-Side Request Forgery")
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs
import pytest

from tests.oauth.fake_network import ISSUER, METADATA_URL, SERVER, Asked, Network, Tokens, answer, meet
from tests.support.leaks import Leaks
from trio_mcp import AuthorizationError, OAuth

INSIDE = (
    "https://10.0.0.1",
    "https://127.0.0.1",
    "https://localhost:8443",
    "https://169.254.169.254",
    "https://[fd00::1]",
    "https://[::ffff:10.0.0.1]",
    "http://127.0.0.1:9000",
)
ISSUER_METADATA = f"{ISSUER}/.well-known/oauth-authorization-server"


@attrs.define(eq=False)
class World:
    """A client and its user, who agrees, with servers that are changed for a test."""

    network: Network = attrs.field(repr=False)
    leaks: Leaks = attrs.field(repr=False)
    shown: list[str] = attrs.field(factory=list, repr=False)
    hint: str = METADATA_URL

    def publish(self, resource: dict[str, Any] | None = None, **issuer: Any) -> None:
        """Serve the metadata of the server and of its issuer, with these members changed."""
        self.network.add_server(**(resource or {}))
        members = {
            "authorization_endpoint": f"{ISSUER}/authorize",
            "registration_endpoint": f"{ISSUER}/register",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.network.add_issuer(Tokens(), **{**members, **issuer})
        self.network.handlers[f"{ISSUER}/register"] = lambda asked: answer({"client_id": "client"}, 201)

    async def agree(self, url: str) -> str:
        self.shown.append(url)
        fields = dict(parse_qsl(urlsplit(url).query))
        self.leaks.note(fields["state"], "s3cret-code")
        return urlencode({"code": "s3cret-code", "state": fields["state"], "iss": ISSUER})

    async def run(self) -> bool:
        """Let the client be refused by its server; whether it has got a token."""
        auth = OAuth(redirect=self.agree, redirect_uri="http://127.0.0.1:4000/callback")
        headers = {"www-authenticate": f'Bearer resource_metadata="{self.hint}"'}
        try:
            return await meet(auth.for_server(SERVER, None), headers=headers)
        finally:
            self.leaks.note(*(asked.fields.get("code_verifier", "") for asked in self.network.asked))
            self.leaks.show(auth)

    async def fail(self, inside: str) -> None:
        """Run, and nobody inside was asked anything."""
        with pytest.raises(AuthorizationError):
            await self.run()
        assert not [asked.url for asked in self.network.asked if asked.url.startswith(inside)]
        assert not [url for url in self.shown if url.startswith(inside)]


@pytest.fixture
def world(network: Network, leaks: Leaks) -> World:
    return World(network, leaks)


async def test_without_an_attack_the_client_gets_a_token(world: World) -> None:
    world.publish()
    assert await world.run()
    assert len(world.shown) == 1


@pytest.mark.parametrize("inside", INSIDE)
async def test_the_challenge_leads_nowhere_inside(world: World, inside: str) -> None:
    world.publish()
    world.hint = f"{inside}/.well-known/oauth-protected-resource/mcp"
    await world.fail(inside)


@pytest.mark.parametrize("inside", INSIDE)
async def test_the_metadata_of_the_server_lead_to_no_issuer_inside(world: World, inside: str) -> None:
    world.publish({"authorization_servers": [inside]})
    await world.fail(inside)
    assert not world.shown


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "registration_endpoint"])
async def test_the_metadata_of_an_issuer_lead_to_no_endpoint_inside(
    world: World, name: str, inside: str
) -> None:
    world.publish(**{name: f"{inside}/{name}"})
    await world.fail(inside)


@pytest.mark.parametrize("inside", [INSIDE[0], "https://other.example"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("url", [METADATA_URL, ISSUER_METADATA, f"{ISSUER}/register", f"{ISSUER}/token"])
async def test_no_answer_leads_to_another_host_by_a_redirect(
    world: World, url: str, status: int, inside: str
) -> None:
    world.publish()

    def redirect(asked: Asked) -> Any:
        return answer({}, status, {"location": f"{inside}/elsewhere"})

    world.network.handlers[url] = redirect
    await world.fail(inside)
