"""`trio-mcp whoami` and `logout`: what is shown of a login, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeAlias

import pytest

from tests.cli.logins.world import World
from trio_mcp.cli.logins.logout import log_out
from trio_mcp.cli.logins.whoami import describe_end, show_logins
from trio_mcp.oauth.token_keeper import Grant
from trio_mcp.oauth.token_set import TokenSet
from trio_mcp.testing.authorization import Fault

Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[World]]


async def test_whoami_shows_what_was_granted_and_no_token(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        status, output, errors = await world.run(partial(show_logins, world.url))
        assert (status, errors) == (0, "")
        client = world.stored[f"tokens {world.url}"]["client_id"]
        lines = [line.rstrip() for line in output.splitlines()]
        assert lines[:4] == [
            world.url,
            f"  issuer   {world.issuer.issuer}",
            f"  client   {client}",
            "  scopes   read",
        ]
        assert lines[4].startswith("  expires  in ")
        assert lines[4].endswith(", renewed by itself")
        assert lines[5:] == ["  storage  file"]
        assert world.secrets, "else nothing is searched for"


async def test_whoami_without_a_url_shows_all_logins_also_as_json(opened: Opened) -> None:
    async with opened() as world:
        status, output, errors = await world.run(partial(show_logins, None))
        assert (status, output, errors) == (0, "", "You are not logged in to any server.\n")
        await world.log_in()
        _, output, _ = await world.run(partial(show_logins, None, as_json=True))
        (found,) = json.loads(output)["logins"]
        assert (found["server"], found["issuer"]) == (world.url, world.issuer.issuer)
        assert (found["scopes"], found["storage"], found["isRenewable"]) == (["read"], "file", True)
        assert found["expiresAt"] == world.tokens["expires_at"]


@pytest.mark.parametrize("command", [show_logins, log_out])
async def test_a_server_without_a_login_is_told(opened: Opened, command: Callable[..., object]) -> None:
    async with opened() as world:
        status, output, errors = await world.run(partial(command, f"{world.url}/other"))
        assert (status, output) == (2, "")
        assert errors == f"trio-mcp: you are not logged in to {world.url}/other\n"


async def test_logout_revokes_the_tokens_and_forgets_all(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in(client_id=None)
        kept, client = world.tokens, {"client_id": world.stored[f"tokens {world.url}"]["client_id"]}
        status, output, errors = await world.run(partial(log_out, world.url))
        assert (status, output) == (0, "")
        assert errors == f"Logged out of {world.url}: the tokens were revoked.\n"
        assert world.stored == {"logins": {}}
        assert world.count("revoke") == [2]
        form = {**client, "grant_type": "refresh_token", "refresh_token": kept["refresh_token"]}
        refused = await world.issuer.request("POST", "token", form=form)
        assert (refused.status, json.loads(refused.body)["error"]) == (400, "invalid_grant")
        status, _, errors = await world.list()
        assert "trio-mcp login" in errors


async def test_a_secret_of_the_client_is_forgotten_as_well(opened: Opened) -> None:
    async with opened() as world:
        world.issuer.add_client("mine", secret="of-the-client", redirect_uris=["http://127.0.0.1/callback"])
        await world.log_in(client_id="mine", secret="of-the-client")
        assert "of-the-client" in world.file.read_text()
        status, _, errors = await world.run(partial(log_out, world.url))
        assert (status, "were revoked" in errors) == (0, True)
        assert "of-the-client" not in world.file.read_text()


async def test_tokens_that_cannot_be_revoked_are_forgotten_here(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        world.issuer.faults.endpoints["revoke"] = Fault(status=503)
        status, _, errors = await world.run(partial(log_out, world.url))
        assert status == 0
        assert "the tokens are forgotten here, but could not be revoked: " in errors
        assert errors.count("\n") == 1
        assert world.stored == {"logins": {}}


async def test_an_issuer_that_revokes_nothing_is_told(opened: Opened) -> None:
    async with opened() as world:
        world.issuer.faults.metadata["revocation_endpoint"] = None
        await world.log_in()
        status, _, errors = await world.run(partial(log_out, world.url))
        assert status == 0
        assert errors == f"Logged out of {world.url}: the tokens were not revoked, only forgotten here.\n"


@pytest.mark.parametrize(
    ("end", "refresh", "told"),
    [
        (None, None, "not told"),
        (None, "r", "not told, renewed by itself"),
        (100.0, None, "over"),
        (99.0, "r", "over, renewed by itself"),
        (100.5, None, "in 0 seconds"),
        (160.0, None, "in 1 minute"),
        (100.0 + 7300, None, "in 2 hours"),
        (100.0 + 3 * 86_400, None, "in 3 days"),
    ],
)
def test_the_end_of_a_token_is_told_in_words(end: float | None, refresh: str | None, told: str) -> None:
    tokens = TokenSet("a", expires_at=end, refresh_token=refresh)
    assert describe_end(Grant(tokens, "https://i", "c", "https://r"), now=100.0) == told
