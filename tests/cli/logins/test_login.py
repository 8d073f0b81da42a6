"""`trio-mcp login`: the user is asked once, and the other commands use what was got."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import keyring
import pytest

from tests.cli.logins.world import World
from tests.oauth.test_storage import FakeKeyring, mode_of
from trio_mcp.cli.access import find_target, find_tokens_file
from trio_mcp.cli.call import CallOptions, call_tool
from trio_mcp.cli.logins import kept
from trio_mcp.cli.logins.flow import show_page
from trio_mcp.cli.logins.logout import log_out
from trio_mcp.cli.running import Interrupt
from trio_mcp.testing.authorization import Fault

Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[World]]


async def test_other_commands_use_the_tokens_of_a_login_and_ask_nobody(opened: Opened) -> None:
    async with opened() as world:
        status, output, errors = await world.log_in()
        assert (status, output) == (0, "")
        assert f"Logged in to {world.url} at {world.issuer.issuer} as the client " in errors
        assert errors.endswith(", scopes: read.\n")
        asked = world.count("authorize", "token", "register")
        status, output, errors = await world.list()
    assert (status, errors) == (0, "")
    assert "Count your albums." in output
    assert "others do not even see" not in output
    assert world.count("authorize", "token", "register") == asked


async def test_the_tokens_are_in_a_file_that_only_its_owner_can_read(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        assert mode_of(world.file) == 0o600
        assert mode_of(world.file.parent) == 0o700
        assert list(world.stored["logins"]) == [world.url]
        assert not world.secrets.intersection(str(world.stored["logins"]))


async def test_without_a_login_one_line_says_how_to_log_in(opened: Opened) -> None:
    async with opened() as world:
        status, output, errors = await world.list()
        assert (status, output) == (2, "")
        assert errors == f"trio-mcp: {world.url} wants an access token: trio-mcp login {world.url}\n"
        assert world.count("authorize", "register") == [0, 0]
        assert not world.file.exists()


async def test_a_token_that_is_over_is_renewed_without_a_word(opened: Opened) -> None:
    async with opened(access_token_seconds=5) as world:  # renewed ten seconds before its end
        await world.log_in()
        first = world.tokens
        status, _, errors = await world.list()
        assert (status, errors) == (0, "")
        assert world.tokens["access_token"] != first["access_token"]
        assert world.count("authorize") == [1]


async def test_a_login_that_is_over_is_told_with_the_command_that_renews_it(opened: Opened) -> None:
    async with opened(access_token_seconds=5) as world:
        await world.log_in()
        world.issuer.revoke_subject("alice")
        world.refuses_tokens = True
        before = world.count("authorize", "register")
        status, output, errors = await world.list()
    assert (status, output) == (2, "")
    assert errors == (
        f"trio-mcp: {world.url} does not accept your login any more: trio-mcp login {world.url}\n"
    )
    assert world.count("authorize", "register") == before


async def test_without_a_terminal_missing_scopes_are_named(opened: Opened) -> None:
    async with opened(optional=True) as world:
        await world.log_in(scopes=("read",))
        status, _, errors = await call(world, "delete")
    assert status == 2
    assert errors == (
        f"trio-mcp: {world.url} needs more than was granted: trio-mcp login {world.url} --scope delete\n"
    )


async def test_at_a_terminal_the_user_is_asked_for_missing_scopes(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(optional=True) as world:
        await world.log_in(scopes=("read",))
        monkeypatch.setattr(kept, "has_terminal", lambda: True)
        monkeypatch.setattr(kept, "choose_browser", lambda login: world.issuer.open_browser)
        status, output, _ = await call(world, "delete")
        assert (status, output) == (0, "deleted summer\n")
        assert world.tokens["scopes"] == ["delete", "read"]
        monkeypatch.setattr(kept, "has_terminal", lambda: False)
        status, output, _ = await call(world, "delete")  # what was granted is kept
        assert (status, output) == (0, "deleted summer\n")


async def test_a_new_login_takes_the_place_of_the_one_before(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        first = world.tokens
        status, _, errors = await world.log_in(scopes=("delete",))
        assert status == 0
        assert errors.endswith(", scopes: delete read.\n")
        assert world.tokens["access_token"] != first["access_token"]
        assert world.count("authorize") == [2]


async def test_a_login_that_fails_leaves_the_one_before(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        before = world.stored
        world.issuer.faults.endpoints["token"] = Fault(status=400, error="invalid_grant")
        status, _, errors = await world.log_in(client_id=None, scopes=("delete",))
        assert status == 2
        assert errors.count("\n") == 1
        assert "invalid_grant" in errors
        assert world.stored == before


async def test_a_client_registered_beforehand_logs_in_with_its_secret(opened: Opened) -> None:
    async with opened(access_token_seconds=5) as world:
        secret = "a-secret-of-the-client"
        world.secrets.add(secret)
        world.issuer.add_client("albums-cli", secret=secret, redirect_uris=["http://127.0.0.1/callback"])
        status, _, errors = await world.log_in(client_id="albums-cli", secret=secret)
        assert status == 0
        assert "as the client albums-cli, " in errors
        assert world.count("register") == [0]
        assert secret not in str(world.stored["logins"])
        status, _, _ = await world.list()  # the refresh needs the secret
        assert status == 0
        assert world.count("authorize") == [1]


async def test_a_server_that_does_not_trust_the_given_issuer_is_refused(opened: Opened) -> None:
    async with opened() as world:
        status, _, errors = await world.log_in(issuer="https://other.example")
        assert status == 2
        assert "and not https://other.example" in errors
        assert world.count("authorize", "register") == [0, 0]
        assert not world.file.exists()


async def test_a_server_that_lets_everybody_in_can_be_logged_in_to(opened: Opened) -> None:
    async with opened(optional=True) as world:
        status, _, errors = await world.log_in()
        assert status == 0
        assert "Logged in" in errors
        assert world.count("authorize") == [1]


async def test_tokens_can_be_kept_in_the_keyring(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeKeyring()
    monkeypatch.setattr(keyring, "get_password", backend.get_password)
    monkeypatch.setattr(keyring, "set_password", backend.set_password)
    monkeypatch.setattr(keyring, "delete_password", backend.delete_password)
    async with opened() as world:
        await world.log_in()
        status, _, _ = await world.log_in(place="keyring")
        assert status == 0
        assert list(world.stored) == ["logins"], "nothing else is left in the file"
        status, output, _ = await world.list()
        assert status == 0
        assert "Count your albums." in output
        await world.run(partial(log_out, world.url))
        assert not backend.values


async def test_the_address_is_printed_and_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    await show_page("https://issuer.example/authorize?state=x")
    assert opened == ["https://issuer.example/authorize?state=x"]
    assert "https://issuer.example/authorize?state=x\n" in capsys.readouterr().err


async def test_a_damaged_list_of_logins_is_told_and_left(opened: Opened) -> None:
    async with opened() as world:
        world.file.parent.mkdir()
        world.file.write_text('{"logins": "[]"}')
        for done in (await world.log_in(), await world.list()):
            assert done[0] == 2
            assert done[2].startswith(f"trio-mcp: token storage {world.file}: ")
        assert world.count("authorize") == [0]
        assert world.file.read_text() == '{"logins": "[]"}'


async def call(world: World, tool: str) -> tuple[int, str, str]:
    """Call a tool as `trio-mcp call` does."""
    options: Any = CallOptions(
        json=None,
        structured=False,
        idle_timeout=None,
        max_timeout=None,
        protocol="auto",
        log_level="info",
        quiet=True,
        task=False,
        ttl=None,
        interrupt=Interrupt(),
    )
    target = find_target(world.url, (), None, None)
    return await world.run(partial(call_tool, target, tool, ["album=summer"], options))


def test_a_path_of_the_state_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert find_tokens_file() == tmp_path / "trio_mcp" / "tokens.json"
