"""The store in a SQLite file when what it stands on fails: nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import Raw

from tests.support.limits import HANG_SECONDS
from tests.tasks.store_cases import (
    ALICE,
    NOW,
    WORK,
    completed,
    create_many,
    held,
    make_record,
    put,
    read_list,
)
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks import sqlite_file
from trio_mcp.tasks.record import Outcome, TaskRecord
from trio_mcp.tasks.record import TaskStatus as Status
from trio_mcp.tasks.sqlite_store import SQLiteTaskStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


async def open_fails(path: Path, match: str, **options: Any) -> None:
    with pytest.raises(TaskStoreError, match=match) as failure:
        async with SQLiteTaskStore(path, **options).open():
            pytest.fail("it is open")
    assert str(path) in str(failure.value), "the message names the file"


# a full disk


async def fill(store: SQLiteTaskStore) -> dict[str, TaskRecord]:
    """Create and end tasks until the store is full; what was acknowledged until then, by its ids."""
    acknowledged: dict[str, TaskRecord] = {}
    result = b'{"x":"' + b"x" * 10_000 + b'"}'
    for _ in range(1000):
        record = make_record()
        try:
            await store.create(record, WORK)
            acknowledged[record.id] = record
            assert not await put(store, completed(record, result))
        except TaskStoreError as error:
            refusal = str(error)
            break
        acknowledged[record.id] = completed(record, result)
    else:
        raise AssertionError("it is never full")
    assert "full" in refusal
    assert "make room" in refusal
    return acknowledged


async def assert_kept(store: SQLiteTaskStore, acknowledged: dict[str, TaskRecord]) -> None:
    found = {record.id: record for record in await read_list(store, ALICE, 100)}
    assert found == acknowledged


async def test_a_full_database_keeps_what_it_has_and_goes_on_when_there_is_room(path: Path) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        await limit_pages(store, 60)
        acknowledged = await fill(store)
        assert len(acknowledged) > 3
        await assert_kept(store, acknowledged)
        # Calls that wait together: those that fit are done.
        results: list[str] = []

        async def create(size: int) -> None:
            record = make_record(status_message="x" * size)
            try:
                await store.create(record)
            except TaskStoreError:
                results.append("full")
            else:
                acknowledged[record.id] = record
                results.append("kept")

        gone = next(iter(acknowledged))
        await store.delete(gone)
        del acknowledged[gone]
        async with trio.open_nursery() as nursery:
            for size in (100, 300_000, 100):
                nursery.start_soon(create, size)
        assert sorted(results) == ["full", "kept", "kept"]
        await limit_pages(store, 1_000_000)
        record = await held(store, make_record())
        assert not await put(store, completed(record))
        acknowledged[record.id] = completed(record)
        await assert_kept(store, acknowledged)
    async with store.open():
        await assert_kept(store, acknowledged)


async def limit_pages(store: SQLiteTaskStore, pages: int) -> None:
    await store._read(lambda tables: tables.db.execute(f"PRAGMA max_page_count = {pages}").fetchone())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_keeps_what_it_has_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 200_000)
    store = SQLiteTaskStore(small_disk / "tasks.db")
    async with store.open():
        acknowledged = await fill(store)
        assert acknowledged
        await assert_kept(store, acknowledged)
        filler.unlink()
        record = await held(store, make_record())
        assert not await put(store, completed(record))
        acknowledged[record.id] = completed(record)
        await assert_kept(store, acknowledged)
    async with store.open():
        await assert_kept(store, acknowledged)


async def test_a_store_cannot_be_made_on_a_full_disk(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 1_000_000)
    await open_fails(small_disk / "tasks.db", "full|disk|space")
    filler.unlink()
    async with SQLiteTaskStore(small_disk / "tasks.db").open():
        pass


# a locked file


async def test_a_file_that_another_program_has_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.01)
    store = SQLiteTaskStore(path)
    async with store.open():
        record = await held(store, make_record())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TaskStoreError, match=r"tasks.db: database is locked: another program"):
                await put(store, completed(record))
            assert await store.get(record.id, NOW) == record, "it can be read"
        assert not await put(store, completed(record))
        assert await store.get(record.id, NOW) == completed(record)


async def test_a_file_that_is_locked_at_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.01)
    store = SQLiteTaskStore(path)
    async with store.open():
        record = await held(store, make_record())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        await open_fails(path, "database is locked: another program")
    async with store.open():
        assert await store.get(record.id, NOW) == record


# a damaged file


async def make_file(path: Path) -> list[TaskRecord]:
    store = SQLiteTaskStore(path)
    async with store.open():
        records = await create_many(store, 50)
        for record in records[:25]:
            await put(store, completed(record, b'"' + b"x" * 3000 + b'"'))
    return records


@pytest.mark.parametrize("place", ["head", "schema", "quarter", "half", "end", "cut", "cut short"])
async def test_a_damaged_file_is_not_opened(path: Path, place: str) -> None:
    await make_file(path)
    data = damage(path, place)
    await open_fails(path, "damaged|not a database|newer|another program")
    assert read(path) == data, "nothing was changed"


def damage(path: Path, place: str) -> bytes:
    """Damage the file at one place; returns what it holds then."""
    data = bytearray(path.read_bytes())
    if place == "cut":
        del data[len(data) // 2 :]
    elif place == "cut short":
        del data[1000:]
    else:
        pages = len(data) // 4096
        page = {"head": 0, "schema": 0, "quarter": pages // 4, "half": pages // 2, "end": pages - 2}[place]
        start = page * 4096 + (100 if place == "schema" else 0)
        data[start : start + 500] = b"\xa5" * 500
    path.write_bytes(data)
    return bytes(data)


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def test_a_task_that_is_damaged_fails_alone(path: Path) -> None:
    records = await make_file(path)
    store = SQLiteTaskStore(path)
    for damage in (b"", b"{}", b"[1,2]", b"\xff\xfe", b"null"):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE tasks SET record = ? WHERE id = ?", (damage, records[3].id))
        async with store.open():
            with pytest.raises(TaskStoreError, match=r"tasks.db: a task cannot be read .* damaged"):
                await store.get(records[3].id, NOW)
            assert await store.get(records[30].id, NOW) == records[30]
            record = await held(store, make_record())
            assert not await put(store, completed(record))


async def test_a_log_that_is_damaged_loses_no_more_than_its_end(path: Path, tmp_path: Path) -> None:
    """A copy of a file in use, as a power cut leaves it, whose log has garbage at its end."""
    copy = tmp_path / "copy.db"
    store = SQLiteTaskStore(path)
    async with store.open():
        records = await create_many(store, 20)
        write(copy, read(path))
        write(Path(f"{copy}-wal"), read(Path(f"{path}-wal")) + b"\xa5" * 5000)
    async with SQLiteTaskStore(copy).open():
        pass
    store = SQLiteTaskStore(copy)
    async with store.open():
        assert await read_list(store, ALICE, 50) == records[::-1]


# other files, and none


async def test_a_file_that_is_no_database(path: Path) -> None:
    write(path, b"tasks: none\n" * 1000)
    await open_fails(path, "not a database: .* a file of their own")


async def test_a_database_of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE tasks (id TEXT)")
    for read_only in (False, True):
        await open_fails(path, "is a database of another program", read_only=read_only)


async def test_a_file_of_a_newer_version(path: Path) -> None:
    await make_file(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    for read_only in (False, True):
        await open_fails(path, r"newer version of trio_mcp \(schema 99, .* knows 1\)", read_only=read_only)


async def test_a_directory(tmp_path: Path) -> None:
    await open_fails(tmp_path, "it is a directory")


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    await open_fails(tmp_path / "nowhere" / "tasks.db", "No such file or directory")


async def test_a_reader_makes_no_file(path: Path) -> None:
    await open_fails(path, "there is no such file", read_only=True)
    write(path, b"")
    await open_fails(path, "no tasks were ever kept in it", read_only=True)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.fixture
def anybody() -> Iterator[Path]:
    """A directory, and the rights of somebody who is not root."""
    user = os.geteuid()
    if not user:
        os.seteuid(65534)
    place = Path(tempfile.mkdtemp())
    yield place
    os.seteuid(user)
    place.chmod(0o777)
    shutil.rmtree(place)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o400, 0o000])
async def test_a_file_that_may_not_be_written(anybody: Path, mode: int) -> None:
    path = anybody / "tasks.db"
    await make_file(path)
    set_mode(path, mode)
    await open_fails(path, "change its permissions|the file cannot be opened")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
async def test_a_directory_that_may_not_be_written(anybody: Path) -> None:
    set_mode(anybody, 0o555)
    await open_fails(anybody / "tasks.db", "Permission denied")


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


# a process that is killed

WRITER = """
import sys, trio
from datetime import UTC, datetime
from msgspec import Raw
from trio_mcp import Owner, SQLiteTaskStore, TaskRecord, TaskStatus
from trio_mcp.tasks.record import Outcome
from trio_mcp.tasks.store import TaskChange

async def run(store, number):
    now = datetime.now(UTC)
    record = TaskRecord(
        id=f"{sys.argv[2]}-{number}", tool="tool", owner=Owner("principal", "alice"),
        created_at=now, last_updated_at=now,
    )
    await store.create(record)
    print(record.id, record.version, flush=True)
    for step in range(5):
        record = record.reported(now, step, 5, None)
        await store.put([TaskChange(record)])
        print(record.id, record.version, flush=True)
    outcome = Outcome("result", result=Raw(b'{"x":"' + b"x" * 1000 + b'"}'))
    await store.put([TaskChange(record.moved(TaskStatus.COMPLETED, now, outcome=outcome))])
    print(record.id, record.version + 1, flush=True)

async def main():
    store = SQLiteTaskStore(sys.argv[1], write_behind=0.01)
    async with store.open(), trio.open_nursery() as nursery:
        for number in range(100_000):
            nursery.start_soon(run, store, number)
            while len(nursery.child_tasks) > 20:
                await trio.sleep(0.001)

trio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    """A process that writes is killed after so many lines, each of which was acknowledged before."""
    acknowledged: dict[str, int] = {}
    for turn, lines in enumerate((10, 77, 150)):
        with trio.fail_after(HANG_SECONDS):
            async with trio.open_nursery() as nursery:
                run = partial(trio.run_process, stdout=subprocess.PIPE, check=False)
                process = await nursery.start(run, [sys.executable, "-c", WRITER, str(path), str(turn)])
                text = b""
                async for chunk in process.stdout:
                    text += chunk
                    if text.count(b"\n") >= lines:
                        process.send_signal(signal.SIGKILL)
        for line in text.decode().splitlines(keepends=True):
            if line.endswith("\n"):
                task_id, version = line.split()
                acknowledged[task_id] = int(version)
        store = SQLiteTaskStore(path)
        async with store.open():
            for task_id, version in acknowledged.items():
                record = await store.get(task_id, NOW)
                assert record is not None, f"{task_id} is lost"
                assert record.version >= version
                if version == 6:
                    assert record.outcome == Outcome("result", result=Raw(b'{"x":"' + b"x" * 1000 + b'"}'))
            await store.recover(NOW)
            page = await store.list_page(None, None, 10_000, NOW)
            assert all(record.status in (Status.COMPLETED, Status.FAILED) for record in page.records)
    assert len(acknowledged) > 20
