"""`trio-mcp run --tasks`: the store of a served file, and what is said if it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

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
