"""TARGET: a file, a command line, or the command after `--`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trio_mcp.cli.status import CommandError
from trio_mcp.cli.targets import move_command, read_target
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
