"""`trio-mcp tasks ... --store`: what is printed, and the exit status."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import Raw
from msgspec.json import encode

from trio_mcp import MemoryTaskStore, TaskRecord, TaskStatus
from trio_mcp.cli.commands import run_command
from trio_mcp.cli.tasks import purge, source
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.record import BEARER, Outcome, Owner

URL = "redis://user:secret@host"
COMMANDS = [("list",), ("watch", "one"), ("result", "one"), ("cancel", "one"), ("purge",)]
ADA = Owner("principal", "ada")


class Replaceable(MemoryTaskStore):
    """A store whose methods a test can replace."""


def make(
    ident: str, status: TaskStatus = TaskStatus.WORKING, owner: Owner = BEARER, text: str = "done"
) -> TaskRecord:
    then = datetime.now(UTC) - timedelta(seconds=75)
    record = TaskRecord(id=ident, tool="count", owner=owner, created_at=then, last_updated_at=then, ttl=3600)
    record = record.reported(then, 5, 10, "half of it")
    content = Raw(encode({"content": [{"type": "text", "text": text}], "isError": text != "done"}))
    outcomes = {
        TaskStatus.COMPLETED: Outcome("result" if text == "done" else "tool_error", content),
        TaskStatus.CANCELLED: Outcome("cancelled"),
    }
    return record if status is TaskStatus.WORKING else record.moved(status, then, outcome=outcomes[status])


IDS = ["one", "two", "three", "four", "-five"]


def make_records() -> list[TaskRecord]:
    return [
        make("one", TaskStatus.COMPLETED),
        make("two", owner=ADA),
        make("three", TaskStatus.COMPLETED, text="the disk is full"),
        make("four", TaskStatus.CANCELLED, owner=Owner("session", "0123456789abcdef")),
        make("-five", TaskStatus.COMPLETED),
    ]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryTaskStore:
    """A store with the tasks above, which every command opens."""
    store = Replaceable()

    def find(url: str, *, read_only: bool, may_create: bool) -> MemoryTaskStore:
        assert (url, may_create) == (URL, False)
        return store

    async def fill() -> None:
        for record in make_records():
            await store.create(record)

    monkeypatch.setattr(source, "store_from_url", find)
    trio.run(fill)
    return store


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tasks(store: MemoryTaskStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command of `trio-mcp tasks` with --store."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(name: str, *words: str, url: str = URL) -> tuple[int, str, str]:
        status = run_command(["tasks", name, "--store", url, *words])
        return (status, *capsys.readouterr())

    return run


def kept(store: MemoryTaskStore) -> list[str]:
    async def read() -> list[str]:
        found = [await store.load(ident) for ident in IDS]
        return [each.record.id for each in found if each is not None]

    return trio.run(read)


def test_list_shows_the_tasks_of_everybody(tasks: Run) -> None:
    status, printed, _ = tasks("list")
    rows = [re.sub(r" [\d:]+ ", " AGE ", " ".join(line.split())) for line in printed.splitlines()]
    assert status == 0
    assert rows[1].split() == ["Task", "Status", "Age", "Tool", "Owner", "Message"]
    assert [row.split()[0] for row in rows[3:] if row] == ["-five", "four", "three", "two", "one"]
    assert any(row.startswith("two working AGE count ada half of it (5/10)") for row in rows)
    assert any(row.startswith("four cancelled AGE count session:01234567 half") for row in rows)
    assert any(row.startswith("one completed AGE count anybody half") for row in rows)


@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        ("ada", ["two"]),
        ("principal:ada", ["two"]),
        ("bob", []),
        ("session:0123456789abcdef", ["four"]),
        ("anybody", ["-five", "three", "one"]),
    ],
)
def test_list_shows_the_tasks_of_one_owner(tasks: Run, owner: str, ids: list[str]) -> None:
    status, printed, _ = tasks("list", "--owner", owner, "--json")
    assert status == 0
    assert [task["id"] for task in json.loads(printed)] == ids


def test_list_prints_json_with_what_no_client_is_told(tasks: Run) -> None:
    _, printed, _ = tasks("list", "--json")
    found = {task["id"]: task for task in json.loads(printed)}
    two = found["two"]
    assert (two["status"], two["current"], two["total"], two["ttl"]) == ("working", 5, 10, 3600)
    assert (two["tool"], two["owner"], two["attempt"]) == ("count", {"kind": "principal", "name": "ada"}, 1)
    assert found["four"]["owner"] == {"kind": "session", "name": "0123456789abcdef"}


def test_an_empty_list_says_so(tasks: Run) -> None:
    assert tasks("list", "--owner", "bob") == (0, "no tasks\n", "")


@pytest.mark.parametrize("owner", ["", "session:", "principal:"])
def test_an_owner_needs_a_name(tasks: Run, owner: str) -> None:
    status, _, errors = tasks("list", "--owner", owner)
    assert status == 2
    assert errors == f"trio-mcp: {owner!r} is no owner: say NAME, session:ID or anybody\n"


@pytest.mark.parametrize(
    ("ident", "status", "printed", "error"),
    [
        ("one", 0, "done\n", ""),
        ("-five", 0, "done\n", ""),
        ("three", 1, "", "the disk is full"),
        ("four", 1, "", "trio-mcp: task four was cancelled"),
    ],
)
def test_result_prints_as_call_does(tasks: Run, ident: str, status: int, printed: str, error: str) -> None:
    found, text, errors = tasks("result", ident)
    assert (found, text) == (status, printed)
    assert errors.splitlines()[-1] == (error or " 50% 5/10 half of it")
    assert (tasks("result", ident, "--quiet")[2] == "") is (not error)


@pytest.mark.parametrize(
    ("ident", "status", "printed"),
    [
        ("two", 0, "two is cancelled\n"),
        ("four", 0, "four is cancelled\n"),
        ("one", 1, "one has ended: completed\n"),
    ],
)
def test_cancel_prints_the_state_afterwards(tasks: Run, ident: str, status: int, printed: str) -> None:
    assert tasks("cancel", ident) == (status, printed, "")


def test_cancel_says_if_the_task_is_still_at_work(
    tasks: Run, store: MemoryTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(task_id: str, now: datetime) -> TaskRecord | None:
        return await store.get(task_id, now)

    monkeypatch.setattr(store, "cancel", ask)
    assert tasks("cancel", "two") == (0, "two is asked to end, and working still\n", "")


def test_watch_shows_a_line_for_each_task(tasks: Run) -> None:
    status, _, errors = tasks("watch", "one", "-five", "one")
    assert status == 0
    assert errors.splitlines() == [
        "one completed  50% 5/10 half of it",
        "-five completed  50% 5/10 half of it",
    ]
    status, _, errors = tasks("watch", "one", "three")
    assert status == 1
    assert errors.splitlines()[-1] == "three failed  50% 5/10 the disk is full"


@pytest.mark.parametrize("name", ["watch", "result", "cancel", "purge"])
def test_an_unknown_task_is_one_line_and_status_2(tasks: Run, name: str) -> None:
    assert tasks(name, "none") == (2, "", "trio-mcp: the store has no task 'none', or no longer\n")


def test_purge_forgets_what_has_ended(tasks: Run, store: MemoryTaskStore) -> None:
    assert tasks("purge", "--yes") == (0, "4 ended tasks forgotten\n", "")
    assert kept(store) == ["two"]
    assert tasks("purge", "--yes") == (0, "0 ended tasks forgotten\n", "")


@pytest.mark.parametrize("ident", ["two", "-five"])
def test_purge_forgets_one_task_whatever_its_status(tasks: Run, store: MemoryTaskStore, ident: str) -> None:
    assert tasks("purge", ident, "--yes") == (0, f"{ident} is forgotten\n", "")
    assert ident not in kept(store)
    assert len(kept(store)) == len(IDS) - 1


def test_purge_forgets_nothing_if_there_is_nobody_to_ask(
    tasks: Run, store: MemoryTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "can_prompt", lambda: False)
    status, _, errors = tasks("purge")
    assert (status, errors) == (
        2,
        "trio-mcp: there is no terminal to ask at; --yes forgets without asking\n",
    )
    assert len(kept(store)) == len(IDS)


@pytest.mark.parametrize(("typed", "status"), [("y", 0), ("YES", 0), ("n", 1), ("", 1), ("what?", 1)])
def test_purge_asks_before(
    tasks: Run, store: MemoryTaskStore, monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    async def answer(console: Any) -> str:
        return typed

    monkeypatch.setattr(purge, "can_prompt", lambda: True)
    monkeypatch.setattr(purge, "read_line", answer)
    found, printed, errors = tasks("purge")
    assert found == status
    assert errors.startswith("Forget 4 ended tasks of redis://***@host, with results? [y/N] ")
    assert printed == ("4 ended tasks forgotten\n" if status == 0 else "nothing is forgotten\n")
    assert len(kept(store)) == (1 if status == 0 else len(IDS))
    if status:
        assert "two is working. Forget it and stop it? [y/N] " in tasks("purge", "two")[2]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_store_that_fails_is_one_line_and_status_2(
    tasks: Run, store: MemoryTaskStore, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    async def fail(*arguments: Any, **options: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise TaskStoreError("redis://host is away: connection refused")

    for name in ("get", "list_page"):
        monkeypatch.setattr(store, name, fail, raising=True)
    assert tasks(*words) == (2, "", "trio-mcp: redis://host is away: connection refused\n")


@pytest.mark.parametrize("words", COMMANDS)
def test_a_wrong_url_is_one_line_without_its_password(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    status = run_command(["tasks", words[0], "--store", "postgres://me:secret@host", *words[1:]])
    printed, errors = capsys.readouterr()
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("trio-mcp: 'postgres://***@host' is no URL of a store: known are sqlite:PATH")
    assert "secret" not in errors


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("sqlite:none.db", "task store none.db: there is no such file"),
        ("memory:", "memory: would be a new store; the tasks of a process are only in that process"),
    ],
)
def test_a_store_that_is_not_there_is_not_made(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    url: str,
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["tasks", words[0], "--store", url, *words[1:]]) == 2
    assert capsys.readouterr() == ("", f"trio-mcp: {error}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["list", "--store", URL, "--", "npx", "server"], "--store stands in place of a server"),
        (["list", "--store", URL, "--cwd", "."], "--env and --cwd are for servers"),
        (["list", "--owner", "ada", "http://host"], "--owner needs --store"),
        (["list", "--store", URL, "server.py"], "server.py"),
        (["cancel", "--store", URL], "ID"),
        (["purge"], "--store"),
    ],
)
def test_what_does_not_go_together_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    assert run_command(["tasks", *words]) == 2
    assert error in capsys.readouterr().err


def test_an_option_of_a_server_after_the_dashes_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["tasks", "list", "--", "no-such-program", "--store", URL]) == 2
    assert "no-such-program" in capsys.readouterr().err
