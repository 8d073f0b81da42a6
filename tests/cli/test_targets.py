"""TARGET: a file, a command line, or the command after `--`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trio_mcp.cli.status import CommandError
from trio_mcp.cli.targets import move_command, read_config, read_target, split_target
from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.client.stdio_server import StdioServer


@pytest.mark.parametrize("name", ["server.py", "my server.py"])
@pytest.mark.parametrize("suffix", ["", ":app"])
def test_a_python_file_is_served_by_run(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / name
    path.touch()
    assert read_target(f"{path}{suffix}") == [sys.executable, "-m", "trio_mcp.cli", "run", f"{path}{suffix}"]


def test_a_text_with_a_space_is_a_command_line() -> None:
    assert read_target("npx 'some server' -y") == ["npx", "some server", "-y"]
    assert read_target("python server.py") == ["python", "server.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.py", "there is no file 'none.py'"),
        ("none.py:app", "there is no file 'none.py'"),
        ("serve", "'serve' is no .py file; if it is a command, say it at the end: -- serve"),
        ("say 'it", "is no command line: No closing quotation"),
        (" ", "the target is empty"),
    ],
)
def test_any_other_target_is_refused(text: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        read_target(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("words", [["serve"], ["npx", "some server", "--flag"], ["server.py"]])
def test_what_follows_two_dashes_is_a_command(words: list[str]) -> None:
    name, target, *rest = move_command(["call", "add", "a=1", "--", *words])
    assert (name, rest) == ("call", ["add", "a=1"])
    assert read_target(target) == words


def test_without_two_dashes_nothing_moves() -> None:
    assert move_command(["list", "server.py"]) == ["list", "server.py"]


def test_two_dashes_need_a_command_after_them() -> None:
    with pytest.raises(CommandError, match="after -- there must be a command"):
        move_command(["list", "--"])


def test_a_command_may_have_an_environment_and_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server.py"
    path.touch()
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "trio_mcp.cli", "run"]
    assert read_target("npx x", ["A=b=c", "B="]) == StdioServer("npx", ["x"], env={"A": "b=c", "B": ""})
    # The file is named from where the user is, not from where the server runs.
    assert read_target("server.py", cwd="/") == StdioServer(
        command[0], [*command[1:], str(path)], env={}, cwd="/"
    )


@pytest.mark.parametrize(
    ("text", "env", "cwd", "message"),
    [
        ("http://host", ["A=b"], None, "are for servers that are started here"),
        ("npx x", ["secret"], None, "--env needs NAME=VALUE"),
        ("npx x", ["=secret"], None, "--env needs NAME=VALUE"),
        ("npx x", [], "/no/such", "there is no directory '/no/such'"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(
    text: str, env: list[str], cwd: str | None, message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        read_target(text, env, cwd)


CONFIG = """{"mcpServers": {
    "my-files": {"command": "npx", "args": ["files"], "env": {"A": "1"}, "cwd": "/"},
    "web": {"url": "https://host/mcp"},
    "locked": {"url": "https://host/mcp", "headers": {"Authorization": "Bearer x"}}
}}"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mcp servers.json"
    path.write_text(CONFIG)
    return path


def test_a_server_of_a_json_file_is_a_target(config: Path) -> None:
    files = StdioServer("npx", ["files"], env={"A": "1"}, cwd="/")
    assert read_target(f"{config}:my-files") == files
    assert read_target(f"{config}:web") == "https://host/mcp"
    locked = ServerEntry("https://host/mcp", options={"headers": {"Authorization": "Bearer x"}})
    assert read_target(f"{config}:locked") == locked
    assert split_target(locked) == ("https://host/mcp", {"headers": {"Authorization": "Bearer x"}})
    assert split_target(files) == (files, {})


def test_options_are_added_to_those_of_a_json_file(config: Path, tmp_path: Path) -> None:
    assert read_target(f"{config}:my-files", ["B=2", "A=3"]) == StdioServer(
        "npx", ["files"], env={"A": "3", "B": "2"}, cwd="/"
    )
    moved = read_target(f"{config}:my-files", cwd=str(tmp_path))
    assert moved == StdioServer("npx", ["files"], env={"A": "1"}, cwd=str(tmp_path))
    with pytest.raises(CommandError, match="not for https://host/mcp"):
        read_target(f"{config}:locked", ["A=b"])


def test_the_only_server_of_a_json_file_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"mcpServers": {"one": {"command": "serve"}}}')
    assert read_target(str(path)) == StdioServer("serve", [])


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("", "has more than one server: say which, as "),
        (":wed", "has no server 'wed': did you mean 'web'?"),
    ],
)
def test_it_must_be_clear_which_server_of_a_json_file_is_meant(
    config: Path, suffix: str, message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        read_target(f"{config}{suffix}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is not JSON"),
        ("{}", "there is no object 'mcpServers'"),
        ('{"mcpServers": {}}', "has no server"),
        ('{"mcpServers": {"a": {}}}', "server 'a' needs either 'command' or 'url'"),
    ],
)
def test_a_json_file_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(text)
    with pytest.raises(CommandError, match=message):
        read_target(str(path))
    with pytest.raises(CommandError, match=r"cannot read 'none\.json': No such file"):
        read_target("none.json:a")


def test_only_a_json_file_without_a_name_stands_for_all_its_servers(config: Path) -> None:
    servers = read_config(str(config))
    assert servers is not None
    assert list(servers) == ["my-files", "web", "locked"]
    for text in (f"{config}:web", "server.py", "http://host/a.json", "npx server --config x.json"):
        assert read_config(text) is None
    assert read_target("npx server --config x.json") == ["npx", "server", "--config", "x.json"]
    assert read_target("http://host/a.json") == "http://host/a.json"
