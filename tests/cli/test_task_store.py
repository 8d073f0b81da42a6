"""`trio-mcp run --tasks`: the store of a served file, and what is said if it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_network import run_without
from trio_mcp import MemoryTaskStore, Server
from trio_mcp.cli.commands import run_command
from trio_mcp.cli.status import CommandError
from trio_mcp.cli.task_store import use_store

AWAY = """
from contextlib import asynccontextmanager

from trio_mcp import MemoryTaskStore, Server
from trio_mcp.errors import TaskStoreError


class Away(MemoryTaskStore):
    @asynccontextmanager
    async def open(self):
        raise TaskStoreError("tasks.db is no database: move it away")
        yield


server = Server("away", task_store=Away())
"""


def test_the_store_takes_the_place_of_the_servers_own() -> None:
    own = MemoryTaskStore()
    server = Server("kept", task_store=own)
    use_store(server, None)
    assert server.task_store is own
    use_store(server, "memory:")
    assert isinstance(server.task_store, MemoryTaskStore)
    assert server.task_store is not own


def test_a_wrong_url_is_an_error_of_the_command() -> None:
    with pytest.raises(CommandError, match=r"'\*\*\*@host' is no URL of a store: known are sqlite:PATH"):
        use_store(Server("kept"), "secret@host")


@pytest.mark.parametrize("words", [(), ("--http", ":0"), ("--ws", ":0")])
def test_a_store_that_cannot_be_opened_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    path = tmp_path / "away_server.py"
    path.write_text(AWAY)
    assert run_command(["run", str(path), *words]) == 2
    assert capsys.readouterr() == ("", "trio-mcp: tasks.db is no database: move it away\n")


def test_a_wrong_url_ends_the_command_before_anything_is_served(
    server_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", str(server_file), "--http", ":0", "--tasks", "tasks.db"]) == 2
    assert capsys.readouterr().err.endswith("; for a file say sqlite:tasks.db\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "worker", "tasks"])
def test_a_missing_extra_is_one_line(server_file: Path, command: str) -> None:
    words = ["list", "--store"] if command == "tasks" else [server_file, "--tasks"]
    done = run_without(["coredis"], command, *words, "redis://host")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "trio-mcp: RedisTaskStore needs coredis: pip install 'trio-mcp[redis]'"
    )


@pytest.mark.parametrize("words", [(), ("--tasks", "memory:")])
def test_tasks_can_be_left_to_workers_only_in_a_store_that_is_shared(
    server_file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run_command(["run", str(server_file), "--queue-only", *words]) == 2
    assert "--queue-only leaves the tasks to workers, which need a store that they can share" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("words", [(), ("--tasks", "memory:")])
def test_a_worker_needs_a_store_that_others_fill(
    server_file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run_command(["worker", str(server_file), *words]) == 2
    assert "a worker needs a store that others fill: say --tasks redis://HOST" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--max-running", "0"), "must be a number larger than 0"),
        (("--drain", "-1"), "must be a number of seconds, or 0"),
        (("--tasks", "tasks.db"), "for a file say sqlite:tasks.db"),
    ],
)
def test_wrong_options_of_a_worker_are_refused(
    server_file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], error: str
) -> None:
    assert run_command(["worker", str(server_file), *words]) == 2
    assert error in capsys.readouterr().err
