"""FILE[:NAME]: the server of a file, and the messages if it is not clear which."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_mcp.cli.server_file import Place, load_server, read_place
from trio_mcp.cli.status import FAILED, TOOL_FAILED, CommandError

ONE = "from trio_mcp import Server\nserver = Server('one')\n"
TWO = ONE + "alias = server\nother = Server('two')\n"


@pytest.fixture(autouse=True)
def clean_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(tmp_path: Path, text: str, name: str = "served.py") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_name_may_follow_the_file(tmp_path: Path) -> None:
    assert read_place("a/b.py") == Place(Path("a/b.py"))
    assert read_place("a/b.py:app") == Place(Path("a/b.py"), "app")
    assert str(read_place("a/b.py:app")) == "a/b.py:app"
    odd = write(tmp_path, ONE, "odd.py:app")
    assert read_place(str(odd)) == Place(odd)


def test_the_only_server_is_found(tmp_path: Path) -> None:
    assert load_server(Place(write(tmp_path, ONE))).name == "one"


def test_two_names_of_one_server_are_one(tmp_path: Path) -> None:
    assert load_server(Place(write(tmp_path, ONE + "alias = server\n"))).name == "one"


def test_a_name_chooses_the_server(tmp_path: Path) -> None:
    assert load_server(Place(write(tmp_path, TWO), "other")).name == "two"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (TWO, None, "more than one Server: say which, as PATH:server or PATH:alias or PATH:other"),
        ("x = 1\n", None, "'PATH' has no Server at module level"),
        (ONE, "missing", "'missing' in 'PATH' does not exist; the file has server"),
        (ONE + "x = 1\n", "x", "'x' in 'PATH' is no Server; the file has server"),
        ("x = 1\n", "y", "the file has no Server at module level"),
    ],
)
def test_an_unclear_choice_of_server_is_explained(
    tmp_path: Path, text: str, name: str | None, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CommandError) as caught:
        load_server(Place(path, name))
    assert message.replace("PATH", str(path)) in str(caught.value)
    assert caught.value.status == FAILED


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no file"):
        load_server(Place(tmp_path / "none.py"))


@pytest.mark.parametrize("text", ["def broken(:\n", "1 / 0\n", "import no_such_module_anywhere\n"])
def test_a_failing_import_shows_its_own_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(CommandError) as caught:
        load_server(Place(write(tmp_path, text)))
    assert caught.value.status == TOOL_FAILED
    shown = capsys.readouterr().err
    assert "served.py" in shown
    assert "Error" in shown
    assert "loader.py" not in shown
    assert "importlib" not in shown


def test_what_the_file_prints_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_server(Place(write(tmp_path, ONE + "print('hello')\n")))
    assert capsys.readouterr() == ("", "hello\n")


def test_neighbours_can_be_imported_and_main_does_not_run(tmp_path: Path) -> None:
    write(tmp_path, ONE, "neighbour_of_served.py")
    path = write(tmp_path, "from neighbour_of_served import server\nif __name__ == '__main__':\n    1 / 0\n")
    assert load_server(Place(path)).name == "one"


def test_a_file_may_be_named_like_a_module_in_use(tmp_path: Path) -> None:
    import trio

    assert load_server(Place(write(tmp_path, ONE, "trio.py"))).name == "one"
    assert sys.modules["trio"] is trio
