"""TARGET: a file, a command line, or the command after `--`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trio_mcp.cli.status import CommandError
from trio_mcp.cli.targets import move_command, read_target


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
