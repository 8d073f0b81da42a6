"""`--auth` of the commands that connect, and which targets get the tokens of a login."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.cli.logins.world import World
from trio_mcp.cli.access import KeptTokens, find_access, find_target, give_access
from trio_mcp.cli.commands import app
from trio_mcp.cli.request_options import RequestOptions
from trio_mcp.cli.status import CommandError
from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.errors import AuthorizationError
from trio_mcp.transports.http.authorizer import Refusal

Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[World]]

URL = "https://host.example/mcp"


@pytest.mark.parametrize("form", ["plain", "env", "file"])
async def test_a_token_of_the_option_is_used_and_not_shown(
    opened: Opened, form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with opened() as world:
        token = world.issuer.issue_token("bob", audience=world.url, scopes=["read"])
        world.secrets.add(token)
        monkeypatch.setenv("MY_TOKEN", token)
        (tmp_path / "token").write_text(f"{token}\n")
        given = {"plain": token, "env": "env:MY_TOKEN", "file": f"file:{tmp_path / 'token'}"}
        status, output, errors = await world.list(given[form])
        assert (status, errors) == (0, "")
        assert "Count your albums." in output
        assert not world.file.exists(), "it is kept nowhere"


async def test_a_token_that_is_refused_is_not_shown(opened: Opened) -> None:
    async with opened() as world:
        token = world.issuer.issue_token("bob", audience="https://other.example")
        world.secrets.add(token)
        await world.log_in()
        status, output, errors = await world.list(token)  # it prevails over the login
        assert (status, output) == (2, "")
        assert "the access token is meant for another server" in errors


@pytest.mark.parametrize(
    ("target", "auth", "message"),
    [
        (URL, "env:NOT_THERE", "--auth: there is no environment variable 'NOT_THERE', or it is empty"),
        (URL, "file:/not/there", "--auth: cannot read '/not/there': No such file or directory"),
        (URL, "", "--auth is empty"),
        (URL, "sesame with spaces", "characters that no header can hold"),
        ("npx some-server", "sesame", "--auth is for servers with a URL"),
        ("https://me:pass@host.example/mcp", "sesame", "the URL has credentials of its own"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(target: str, auth: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        find_target(target, (), None, auth)
    assert message in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_an_odd_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content, message in ((b"", "is empty"), (b"\xff", "is no text"), (b"x" * 100_000, "is longer than")):
        path.write_bytes(content)
        with pytest.raises(CommandError, match=message):
            find_target(URL, (), None, f"file:{path}")


def test_the_token_prevails_over_a_header_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(
        '{"mcpServers": {"a": {"url": "https://h/mcp", "headers": {"authorization": "x", "x-other": "y"}}}}'
    )
    target, options = find_access(find_target(str(path), (), None, "sesame"))
    assert (target, options["auth"], options["headers"]) == ("https://h/mcp", "sesame", {"x-other": "y"})
    assert "sesame" not in repr(find_target(str(path), (), None, "sesame"))


def test_only_a_server_with_a_url_and_no_credentials_gets_the_tokens_of_a_login() -> None:
    assert isinstance(find_access(URL)[1]["auth"], KeptTokens)
    assert isinstance(give_access(ServerEntry(URL, prefix="a")).options["auth"], KeptTokens)
    assert give_access(ServerEntry(URL, prefix="a")).prefix == "a"
    assert find_access("https://me:pass@host.example/mcp")[1] == {}
    headers = {"headers": {"AUTHORIZATION": "Basic x"}}
    assert find_access(ServerEntry(URL, options=headers))[1] == headers
    assert find_access(["npx", "some-server"])[1] == {}


@pytest.mark.parametrize(
    "words",
    [
        *(["list"], ["call"], ["read"], ["prompt"], ["complete"], ["bench"]),
        *(["tasks", name] for name in ("list", "watch", "result", "cancel")),
    ],
    ids=" ".join,
)
def test_every_command_that_connects_has_the_option(words: list[str]) -> None:
    more = {"list": [], "complete": ["x", "x=y"]}.get(words[-1], ["x"])
    line = [*words, URL, *more, "--auth", "env:NAME"]
    _, bound, _ = app.parse_args(line, exit_on_error=False, print_error=False)
    options = bound.arguments.get("options")
    found = options.auth if isinstance(options, RequestOptions) else bound.arguments.get("auth")
    assert found == "env:NAME"
    assert "env:NAME" not in repr(options)


async def test_what_a_server_says_reaches_the_terminal_printable_and_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    header = 'Bearer error="insufficient_scope", scope="a;reboot \x1b[2J ' + "b " * 100 + '"'
    refusal = Refusal(403, {"www-authenticate": header}, {}, "POST", URL)
    with pytest.raises(AuthorizationError) as caught:
        await KeptTokens(URL).answer(refusal)
    message = str(caught.value)
    assert message.startswith(
        f"{URL} wants an access token: trio-mcp login {URL} --scope 'a;reboot' --scope "
    )
    assert "\x1b" not in message
    assert message.count("--scope") == 20


async def test_a_refusal_that_no_login_helps_against_is_left_as_it_is() -> None:
    assert not await KeptTokens(URL).answer(Refusal(403, {}, {}, "POST", URL))
