"""The benchmarks of task stores: which cells there are, the servers they need, and what counts as idle."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import idle_stores
from cells import redis_server, stores
from cells.beside import pair_cells
from cells.cell import OURS, Cell
from cells.checkout import Checkout
from cells.redis_server import PERSISTENT, find_server, run_redis
from cells.selection import Selection
from idle_stores import MOST_CPU, MOST_GROWTH, Idle, count_wakes, read_cpu
from report.scores import rows
from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import PROGRAMS, find_program

CONTESTANTS = Path(stores.__file__).parents[1] / "contestants"


class FakeWorker:
    """Takes the place of a worker; knows how it was made, and answers no question."""

    def __init__(self, name: str, command: object, **options: object) -> None:
        self.name, self.options = name, options

    def measure(self, what: str, n: int) -> float:
        return float(n)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Workers and servers are fake; the list names the servers that are started."""
    started: list[str] = []

    def start(self: stores.Places, kind: str) -> str:
        started.append(kind)
        return f"redis://{kind}"

    monkeypatch.setattr(stores, "Worker", FakeWorker)
    monkeypatch.setattr(stores.Places, "_start", start)
    monkeypatch.setattr(Selection, "admits", lambda self, name: self.has_rivals)
    return started


def make_cells(selection: Selection) -> dict[str, Cell]:
    with selection.at_end:
        return {cell.name: cell for cell in stores.make_cells(selection)[0]}


def test_each_store_is_beside_memory_and_redis_beside_others(places: list[str]) -> None:
    cells = make_cells(Selection())
    assert {name: list(cell.samplers) for name, cell in cells.items()} == {
        "50 tasks of 20 in SQLite, stdio": [OURS, "trio_mcp memory"],
        "2,000 updates of 10 tasks in SQLite, stdio": [OURS, "trio_mcp memory"],
        "50 tasks of 20 in Redis, stdio": [OURS, "trio_mcp memory", "trio_mcp Valkey", "fastmcp"],
        "2,000 updates of 10 tasks in Redis, stdio": [OURS, "trio_mcp memory", "trio_mcp Valkey", "fastmcp"],
        "50 queued tasks in Redis": [OURS, "streaq"],
    }
    assert places == ["redis", "valkey"]


def test_the_targets_are_those_that_were_set(places: list[str]) -> None:
    targets = {name: cell.targets for name, cell in make_cells(Selection()).items() if cell.targets}
    assert targets == {
        "50 tasks of 20 in SQLite, stdio": {"trio_mcp memory": pytest.approx(1 / 3)},
        "50 tasks of 20 in Redis, stdio": {"fastmcp": 5},
        "2,000 updates of 10 tasks in Redis, stdio": {"fastmcp": 5},
        "50 queued tasks in Redis": {"streaq": 1},
    }


def test_every_contestant_of_a_cell_does_the_same_amount(places: list[str]) -> None:
    for cell in make_cells(Selection(is_full=True)).values():
        assert {take() for take in cell.samplers.values()} == {cell.count}, cell.name
        assert cell.count % 10 == 0


def test_no_server_starts_for_cells_that_are_not_selected(places: list[str]) -> None:
    assert list(make_cells(Selection(only="tasks of 20 in SQLite"))) == ["50 tasks of 20 in SQLite, stdio"]
    assert places == []


def test_two_versions_are_compared_without_anybody_else(places: list[str]) -> None:
    cells = make_cells(Selection(has_rivals=False))
    assert len(cells) == 5
    assert {name for cell in cells.values() for name in cell.samplers} == {OURS}


def test_a_version_without_stores_has_no_such_cells(places: list[str], tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    assert make_cells(Selection(checkout=Checkout(tmp_path))) == {}


def test_without_redis_the_cells_of_sqlite_remain(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores.Places, "_start", lambda self, kind: None)
    assert {name.split(", ")[0].split()[-1] for name in make_cells(Selection())} == {"SQLite"}


def test_the_file_of_sqlite_is_gone_after_the_run(places: list[str]) -> None:
    with ExitStack() as stack:
        scheme, _, path = stores.Places(Selection(at_end=stack)).sqlite.partition(":")
        assert scheme == "sqlite"
        assert Path(path).parent.is_dir()
    assert not Path(path).parent.exists()


def test_cells_that_one_version_lacks_are_left_out() -> None:
    cell, more = (Cell(name, {OURS: lambda: 1.0}, {}) for name in ("old", "new"))
    for versions in ({"this": [more, cell], "other": [cell]}, {"other": [cell], "this": [more, cell]}):
        assert [paired.name for paired in pair_cells(versions)] == ["old"]


def test_a_third_of_the_rate_is_a_target_that_can_be_met_and_missed() -> None:
    cell = Cell("tasks", {}, {"trio_mcp memory": 1 / 3}, count=100)
    for seconds, verdict in ((0.29, "met"), (0.31, "MISSED")):
        cell.samples = {OURS: [seconds], "trio_mcp memory": [0.1]}
        assert rows(cell)[0][-2:] == ["0.333x", verdict]


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_server_answers_within_the_block_and_has_ended_behind_it(kind: str) -> None:
    with (
        run_redis(str(find_program(kind)), *PERSISTENT) as port,
        socket.create_connection(("127.0.0.1", port), timeout=HANG_SECONDS) as link,
    ):
        link.sendall(b"CONFIG GET appendonly\r\n")
        assert b"yes" in link.recv(1000)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=HANG_SECONDS)


def test_a_server_that_does_not_start_ends_the_run() -> None:
    with pytest.raises(SystemExit, match="did not start"), run_redis("false"):
        raise AssertionError("there is no server")


def test_a_missing_server_is_left_out_with_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TRIO_MCP_REDIS_SERVER", raising=False)
    monkeypatch.setattr(redis_server.shutil, "which", lambda name: None)
    find_server.cache_clear()
    try:
        assert find_server("redis") is None
        assert "redis is left out" in capsys.readouterr().err
    finally:
        find_server.cache_clear()


def test_a_process_beside_ends_with_the_one_that_started_it() -> None:
    script = "import time, lifeline; lifeline.end_with_parent(); print('up', flush=True); time.sleep(1000)"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=CONTESTANTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            process.stdin.close()
            assert process.wait(HANG_SECONDS) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("cpu", "growth", "is_idle"),
    [(MOST_CPU, MOST_GROWTH, True), (MOST_CPU * 1.1, 0, False), (0, MOST_GROWTH + 1, False)],
)
def test_idle_is_who_uses_neither_processor_nor_more_memory(cpu: float, growth: int, is_idle: bool) -> None:
    idle = Idle("memory", 60, 60 * cpu, 0, growth, 2**20)
    assert idle.is_idle is is_idle
    assert idle.row()[-1] == ("met" if is_idle else "MISSED")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
async def test_every_server_is_watched_after_its_tasks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(idle_stores, "SETTLE_SECONDS", 0)
    places = {"sqlite": f"sqlite:{tmp_path / 'tasks.db'}", "memory": "memory:"}
    idles = await idle_stores.watch_all(places, 3, 0.01)
    assert [idle.store for idle in idles] == ["sqlite", "memory"]
    assert all(idle.cpu >= 0 and idle.wakes >= 0 and idle.peak > 2**20 for idle in idles)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the numbers are read from /proc")
def test_a_process_is_watched_from_outside() -> None:
    before = time.process_time()
    cpu = read_cpu(os.getpid())
    assert before - 0.02 < cpu < time.process_time() + 0.02
    wakes = count_wakes(os.getpid())
    subprocess.run([sys.executable, "-c", ""], check=True)  # which is waited for
    assert count_wakes(os.getpid()) > wakes
