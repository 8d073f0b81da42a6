"""The store in a SQLite file: the suite of all stores, and what only this one promises."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from msgspec import Raw
from msgspec.structs import replace

from tests.support.limits import HANG_SECONDS
from tests.tasks.store_cases import (
    ALICE,
    ASKED,
    NOW,
    SECOND,
    WORK,
    NewStore,
    assert_ended,
    completed,
    create_many,
    held,
    make_record,
    put,
    read_list,
    read_until,
    report,
)
from tests.tasks.store_suite import TaskStoreSuite
from trio_mcp import Context, Server, open_client, open_server
from trio_mcp.errors import TaskOverload, TaskStoreError
from trio_mcp.tasks import sqlite_schema
from trio_mcp.tasks.memory_store import MemoryTaskStore
from trio_mcp.tasks.record import TaskRecord, utc_now
from trio_mcp.tasks.record import TaskStatus as Status
from trio_mcp.tasks.sqlite_store import SQLiteTaskStore
from trio_mcp.tasks.store import TaskChange, TaskStore

Call: TypeAlias = Callable[[TaskStore], Awaitable[object]]


class TestSQLiteTaskStore(TaskStoreSuite):
    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        numbers = count()

        def new_store(**caps: Any) -> SQLiteTaskStore:
            return SQLiteTaskStore(tmp_path / f"tasks{next(numbers)}.db", **caps)

        return new_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("name", ["max_records", "max_record_bytes", "write_behind", "sweep_interval"])
@pytest.mark.parametrize("value", [0, -1, "9", None])
def test_settings_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        SQLiteTaskStore("tasks.db", **{name: value})


async def test_a_store_says_what_it_is(path: Path) -> None:
    store = SQLiteTaskStore(path)
    assert (store.write_behind, store.sweep_interval, store.is_shared) == (0.2, 60.0, False)
    assert repr(store) == f"<SQLiteTaskStore '{path}' (closed)>"
    async with store.open():
        assert repr(store) == f"<SQLiteTaskStore '{path}' (open)>"
    with pytest.raises(TaskStoreError, match="not open"):
        await store.get("id", NOW)


# the file and its owner


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.usefixtures("no_umask")
async def test_only_the_owner_of_the_file_can_read_it(path: Path) -> None:
    async with SQLiteTaskStore(path).open():
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(["tasks.db", "tasks.db-lock", "tasks.db-wal", "tasks.db-shm"], 0o600)


async def test_a_file_is_open_once_in_a_process(path: Path) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        record = await held(store, make_record())
        for other in (SQLiteTaskStore(path), store):
            with pytest.raises(TaskStoreError, match="open"):
                async with other.open():
                    pytest.fail("it is open twice")
        with pytest.raises(TaskStoreError, match=r"tasks.db: this process has it open, .* read_only=True"):
            async with SQLiteTaskStore(path).open():
                pytest.fail("it is open twice")
        assert not await put(store, record.changed(NOW)), "the first is still the owner"
    async with SQLiteTaskStore(path).open():
        pass


async def test_a_link_is_the_same_file(path: Path) -> None:
    link = path.parent / "link.db"
    async with SQLiteTaskStore(path).open():
        os.symlink(path, link)
        with pytest.raises(TaskStoreError, match="this process has it open"):
            async with SQLiteTaskStore(link).open():
                pytest.fail("it is open twice")
    async with SQLiteTaskStore(link).open():
        pass


OPEN = """
import sys, trio
from datetime import UTC, datetime
from trio_mcp import SQLiteTaskStore, TaskStoreError

async def main():
    store = SQLiteTaskStore(sys.argv[1], read_only=sys.argv[2] == "read")
    try:
        async with store.open():
            page = await store.list_page(None, None, 9, datetime.now(UTC))
            print([record.tool for record in page.records])
    except TaskStoreError as error:
        print(error)

trio.run(main)
"""


async def open_elsewhere(path: Path, how: str) -> str:
    """What another process says that opens the file."""
    with trio.fail_after(HANG_SECONDS):
        done = await trio.run_process(
            [sys.executable, "-c", OPEN, str(path), how], capture_stdout=True, stderr=subprocess.STDOUT
        )
    return done.stdout.decode()


async def test_another_process_is_told_who_has_the_file(path: Path) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        await store.create(make_record(tool="mine"))
        assert f"process {os.getpid()} has it open" in await open_elsewhere(path, "write")
        assert await open_elsewhere(path, "read") == "['mine']\n"
        await store.create(make_record(tool="still mine"))
    assert await open_elsewhere(path, "write") == "['still mine', 'mine']\n"


async def test_a_file_that_nobody_has_open_can_be_read(path: Path) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        record = await held(store, make_record())
    reader = SQLiteTaskStore(path, read_only=True)
    async with reader.open():
        assert await reader.get(record.id, NOW) == record
        async with store.open():
            assert await store.recover(NOW)
        found = await reader.get(record.id, NOW)
        assert found is not None
        assert found.status is Status.FAILED


async def test_a_reader_reads_and_changes_nothing(path: Path) -> None:
    store = SQLiteTaskStore(path)
    reader = SQLiteTaskStore(path, read_only=True)
    async with store.open():
        first, second = await create_many(store, 2)
        await store.put([TaskChange(first.changed(NOW), 1, [report(1)])])
        async with reader.open():
            assert repr(reader) == f"<SQLiteTaskStore '{path}' (read only)>"
            assert await reader.get(first.id, NOW) == first.changed(NOW)
            assert await reader.load(second.id) == await store.load(second.id)
            assert await read_list(reader, ALICE, 1) == [second, first.changed(NOW)]
            assert await reader.read_reports(first.id, 0, 9) == [report(1)]
            page = await reader.list_page(ALICE, None, 1, NOW)
            assert list((await store.list_page(ALICE, page.next_cursor, 9, NOW)).records) == [
                first.changed(NOW)
            ], "cursors are those of the file"
            for change in (
                reader.create(make_record()),
                put(reader, first.changed(NOW).changed(NOW)),
                reader.release(first, 1),
                reader.claim({"tool"}, 1, NOW),
                reader.recover(NOW),
                reader.answer(first.id, {}, NOW),
                reader.cancel(first.id, NOW),
                reader.delete(first.id),
                reader.delete_expired(NOW),
            ):
                with pytest.raises(TaskStoreError, match="read_only=True"):
                    await change
        assert not await put(store, second.changed(NOW))


async def test_a_reader_sees_changes_of_the_owner(path: Path) -> None:
    store = SQLiteTaskStore(path)
    reader = SQLiteTaskStore(path, read_only=True)
    async with store.open(), reader.open():
        record = await held(store, make_record())
        async with reader.subscribe(record.id) as changes:
            await put(store, record.changed(NOW))
            await put(store, completed(record.changed(NOW)))
            assert (await read_until(changes, 2)).is_final
            await store.delete(record.id)
            await assert_ended(changes)
        async with reader.subscribe("nobody's") as changes:
            await assert_ended(changes)


# what is written, and when


async def test_what_waits_together_is_committed_together(path: Path) -> None:
    store = SQLiteTaskStore(path)
    records = [make_record(owner=replace(ALICE, name=str(i))) for i in range(150)]
    async with store.open():

        async def run(record: TaskRecord) -> None:
            await store.create(record, WORK)
            assert not await put(store, completed(record))

        async with trio.open_nursery() as nursery:
            for record in records:
                nursery.start_soon(run, record)
        assert store.statistics().commits < 20
        found = await read_list(store, None, 200)
        assert {record.id: record for record in found} == {record.id: completed(record) for record in records}


async def test_a_storm_of_progress_is_few_commits(path: Path) -> None:
    """At most two in each `write_behind`, however many tasks put how often; status changes come at once."""
    store = SQLiteTaskStore(path, write_behind=0.2)
    async with store.open():
        records = [await held(store, make_record()) for _ in range(100)]
        before, started = store.statistics().commits, time.monotonic()

        async def report_much(record: TaskRecord) -> None:
            for i in range(5):
                record = record.reported(NOW, i, 5, None)
                assert not await store.put([TaskChange(record, 1, [report(i + 1)])])

        async with trio.open_nursery() as nursery:
            for record in records:
                nursery.start_soon(report_much, record)
        commits = store.statistics().commits - before
        assert commits <= (time.monotonic() - started) / 0.1 + 2
        assert len(await store.read_reports(records[99].id, 0, 9)) == 5


async def test_progress_goes_with_a_change_of_status(path: Path) -> None:
    """Progress that would wait for an hour is committed with the end of another task."""
    store = SQLiteTaskStore(path, write_behind=7200)
    async with store.open():
        first, second = await held(store, make_record()), await held(store, make_record())
        await put(store, first.reported(NOW, 1, 2, None))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, store, second.reported(NOW, 1, 2, None))
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(HANG_SECONDS):
                assert await store.get(second.id, NOW) == second, "a look does not wait, nor commit"
                await put(store, completed(first.changed(NOW)))


@pytest.mark.parametrize("change", ["status", "attempt", "checkpoint", "inputs", "ttl"])
async def test_what_is_more_than_progress_does_not_wait(path: Path, change: str) -> None:
    store = SQLiteTaskStore(path, write_behind=7200)
    async with store.open():
        record = await held(store, make_record())
        await put(store, record := record.reported(NOW, 1, 2, None))
        values: dict[str, Any] = {
            "status": {"status": Status.INPUT_REQUIRED},
            "attempt": {"attempt": 2},
            "inputs": {"inputs": ASKED},
            "ttl": {"ttl": 5},
        }.get(change, {})
        newer = record.changed(NOW, **values)
        with trio.fail_after(HANG_SECONDS):
            await store.put([TaskChange(newer, 1, checkpoint=Raw(b"1") if change == "checkpoint" else None)])
        assert await store.get(record.id, NOW) == newer


async def test_progress_that_waits_can_be_cancelled(path: Path) -> None:
    store = SQLiteTaskStore(path, write_behind=7200)
    async with store.open():
        record = await held(store, make_record())
        await put(store, record := record.reported(NOW, 1, 2, None))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, store, record.reported(NOW, 2, 2, None))
            await trio.testing.wait_all_tasks_blocked()
            assert store.statistics().waiting == 1
            nursery.cancel_scope.cancel()
        assert store.statistics().waiting == 0
        assert await store.get(record.id, NOW) == record


async def test_whoever_waits_when_the_store_is_closed_gets_an_error(path: Path) -> None:
    store = SQLiteTaskStore(path, write_behind=7200)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(TaskStoreError, match="closed"):
                await put(store, record.reported(NOW, 2, 2, None))

        async with store.open():
            record = await held(store, make_record())
            await put(store, record := record.reported(NOW, 1, 2, None))
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
    async with store.open():
        assert await store.get(record.id, NOW) == record


async def test_calls_that_are_cancelled_change_nothing_or_all(path: Path) -> None:
    store = SQLiteTaskStore(path)
    made: list[TaskRecord] = []
    async with store.open():
        for turns in range(40):
            record = make_record(ttl=3600)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def create(record: TaskRecord) -> None:
                        await store.create(record, WORK)
                        made.append(record)

                    nursery.start_soon(create, record)
                    for _ in range(turns % 20):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        found = {record.id for record in await read_list(store, ALICE, 50)}
        assert found == {record.id for record in made}, "those whose call has returned"


async def test_an_idle_store_does_nothing(path: Path, autojump_clock: trio.testing.MockClock) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        async with trio.open_nursery() as nursery:
            for i in range(1000):
                record = completed(make_record(owner=replace(ALICE, name=str(i)), ttl=3600))
                nursery.start_soon(store.create, record)
        before = store.statistics()
        await trio.sleep(60)
        assert store.statistics() == before


async def test_a_task_that_has_ended_leaves_only_its_row(path: Path) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        ended, deleted, expired = [
            await held(store, make_record(ttl=9, inputs=ASKED), WORK) for _ in range(3)
        ]
        for record in (ended, deleted, expired):
            await store.put([TaskChange(record.changed(NOW), 1, [report(1)], Raw(b"1"))])
            await store.answer(record.id, {"a": Raw(b"1")}, NOW)
        assert count_rows(path) == [3, 3, 3, 3, 3]
        await put(store, completed(ended.changed(NOW)).changed(NOW, ttl=None))
        assert count_rows(path) == [3, 2, 2, 2, 3]
        await store.delete(deleted.id)
        await store.delete_expired(NOW + 9 * SECOND)
        assert count_rows(path) == [1, 0, 0, 0, 1]


def count_rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        tables = ("tasks", "works", "checkpoints", "answers", "reports")
        return [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


async def test_one_call_that_fails_fails_alone(path: Path) -> None:
    """Calls that are committed together: two of them are refused, and the others are done."""
    store = SQLiteTaskStore(path)
    known = make_record()
    results: dict[str, object] = {}

    async def note(name: str, function: Any, *args: Any) -> None:
        try:
            results[name] = await function(*args)
        except (ValueError, TaskStoreError) as error:
            results[name] = type(error)

    async with store.open():
        await store.create(known)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "new", store.create, make_record())
            nursery.start_soon(note, "known", store.create, known)
            nursery.start_soon(note, "huge", put, store, replace(known, version=2**70))
            nursery.start_soon(note, "put", put, store, known.changed(NOW))
            nursery.start_soon(note, "delete", store.delete, "nobody's")
        assert results["known"] is ValueError
        assert results["huge"] is TaskStoreError
        assert not results["put"]
        assert await store.get(known.id, NOW) == known.changed(NOW)
        assert len(await read_list(store, ALICE, 9)) == 2


async def test_delete_expired_returns_the_ids_that_create_forgot(path: Path) -> None:
    store = SQLiteTaskStore(path, max_records=2)
    async with store.open():
        first, second = make_record(ttl=10), make_record(ttl=20)
        await store.create(first)
        await store.create(second)
        await store.create(make_record(created_at=NOW + 10 * SECOND))
        assert list(await store.delete_expired(NOW + 20 * SECOND)) == [first.id, second.id]
        assert list(await store.delete_expired(NOW + 20 * SECOND)) == []


async def test_the_cap_counts_what_was_kept_before(path: Path) -> None:
    for _ in range(2):
        store = SQLiteTaskStore(path, max_records=2)
        async with store.open():
            await store.create(make_record())
    async with store.open():
        with pytest.raises(TaskOverload):
            await store.create(make_record())


@pytest.mark.parametrize("seed", range(4))
async def test_calls_that_are_done_together_do_what_they_do_alone(path: Path, seed: int) -> None:
    """Many calls at once for different tasks, beside the same calls of a store in memory."""
    choose = random.Random(seed)
    stores: list[TaskStore] = [SQLiteTaskStore(path), MemoryTaskStore()]
    records: dict[str, TaskRecord] = {}
    async with stores[0].open(), stores[1].open():
        for turn in range(25):
            now = NOW + turn * SECOND
            calls: list[Call] = []
            for i in range(choose.randrange(1, 12)):
                record = make_record(owner=replace(ALICE, name=f"{turn}-{i}"), created_at=now, ttl=1000)
                records[record.id] = record
                key = choose.choice([None, None, record.id])
                calls.append(partial(create_one, record=record, key=key, is_queued=choose.random() < 0.3))
            for task_id in choose.sample(sorted(records), k=min(len(records), 30)):
                if len(calls) < 60 and records[task_id].created_at < now:
                    calls.append(some_call(choose, records[task_id], now))
            results = [await call_all(store, calls) for store in stores]
            assert results[0] == results[1]
            for task_id in list(records):
                kept = [without_holder(await store.load(task_id)) for store in stores]
                assert kept[0] == kept[1]
                if kept[0] is not None:
                    records[task_id] = kept[0].record
                offsets = [
                    [each.offset for each in await store.read_reports(task_id, 0, 9)] for store in stores
                ]
                assert offsets[0] == offsets[1]
            claimed = [await store.claim({"tool"}, 1000, now) for store in stores]
            found = [{task.record.id: without_holder(task) for task in tasks} for tasks in claimed]
            assert found[0] == found[1]
            for task_id, task in found[0].items():
                records[task_id] = task.record
                if choose.random() < 0.5:
                    assert [await store.release(task.record, task.claim) for store in stores] == [True, True]


async def create_one(store: TaskStore, record: TaskRecord, key: str | None, is_queued: bool) -> object:
    return without_holder(await store.create(record, WORK, key=key, is_queued=is_queued))


def some_call(choose: random.Random, record: TaskRecord, now: datetime) -> Call:
    """A call for one task, which may be held, queued, final or gone."""
    claim = choose.choice([1, 1, 1, 2])
    newer = replace(record, version=record.version + choose.choice([0, 1, 3]))
    offset = (record.version << 8) + 1
    put_reports = [TaskChange(newer, claim, [report(offset), report(offset + 1)], Raw(b"1"))]
    final = [TaskChange(completed(record) if not record.is_final else newer, claim, [report(offset)])]
    calls: list[Call] = [
        lambda store: store.put([TaskChange(newer, claim)]),
        lambda store: store.put(put_reports),
        lambda store: store.put([*put_reports, *final]),
        lambda store: store.put(final),
        lambda store: store.cancel(record.id, now),
        lambda store: store.delete(record.id),
        lambda store: store.get(record.id, now),
        lambda store: store.answer(record.id, {"a": Raw(b"1")}, now),
        lambda store: store.release(newer, claim),
    ]
    return choose.choice(calls)


async def call_all(
    store: TaskStore, calls: Sequence[Callable[[TaskStore], Awaitable[object]]]
) -> list[object]:
    results: list[object] = [None] * len(calls)

    async def call(number: int) -> None:
        result = await calls[number](store)
        results[number] = sorted(result) if isinstance(result, (list, tuple, set)) else result

    async with trio.open_nursery() as nursery:
        for number in range(len(calls)):
            nursery.start_soon(call, number)
    return results


def without_holder(task: Any) -> Any:
    return None if task is None else replace(task, holder=None if task.holder is None else "held")


# what it costs


async def test_the_statements_use_the_indexes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement that the store runs looks tasks up, and goes through no table as a whole."""
    statements: set[str] = set()
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.set_trace_callback(statements.add)
        return db

    monkeypatch.setattr(sqlite3, "connect", traced)
    store = SQLiteTaskStore(path)
    async with store.open():
        statements.clear()
        record = await held(store, make_record(inputs=ASKED, ttl=10), WORK)
        await store.put([TaskChange(record.changed(NOW), 1, [report(1)], Raw(b"1"))])
        await store.wait_sweep(NOW + 10 * SECOND)
        await store.answer(record.id, {"a": Raw(b"1")}, NOW)
        await store.release(record.changed(NOW).changed(NOW), 1, NOW)
        await store.wait_claimable({"tool"}, NOW)
        await store.claim({"tool"}, 5, NOW)
        await store.recover(NOW)
        await store.read_reports(record.id, 0, 5)
        for owner in (ALICE, None):
            page = await store.list_page(owner, None, 1, NOW)
            assert page.next_cursor is None
        await store.get(record.id, NOW)
        await store.load(record.id)
        await store.cancel(record.id, NOW)
        await store.delete_expired(NOW)
        await store.delete(record.id)
        asked = [each for each in statements if not each.startswith(("BEGIN", "COMMIT", "--"))]
        assert len(asked) > 15
        with closing(connect(path)) as db:
            for statement in asked:
                plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]
                scans = {step for step in plan if step.startswith("SCAN") and "INDEX" not in step}
                assert scans <= {"SCAN v", "SCAN CONSTANT ROW"}, (statement, plan)
                assert not any("TEMP B-TREE" in step for step in plan), (statement, plan)


# layouts


async def test_an_older_layout_becomes_the_newest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        record = await held(store, make_record())
    newer = (*sqlite_schema.MIGRATIONS, "ALTER TABLE tasks ADD COLUMN color TEXT DEFAULT 'red';")
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", newer)
    async with store.open():
        assert await store.get(record.id, NOW) == record
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT color FROM tasks").fetchone() == ("red",)


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteTaskStore(path)
    async with store.open():
        record = await held(store, make_record())
    with monkeypatch.context() as patch:
        newer = (*sqlite_schema.MIGRATIONS, "ALTER TABLE tasks ADD COLUMN color TEXT; SELECT nonsense;")
        patch.setattr(sqlite_schema, "MIGRATIONS", newer)
        with pytest.raises(TaskStoreError, match="nonsense"):
            async with store.open():
                pytest.fail("it is open")
    async with store.open():
        assert await store.get(record.id, NOW) == record


# a server on it


async def test_results_outlive_the_server(path: Path) -> None:
    store = SQLiteTaskStore(path)
    server = Server("durable", task_store=store)

    @server.tool(task=True)
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool(task=True)
    async def hang(ctx: Context) -> None:
        await ctx.report_progress(1, 2)
        reported.set()
        await trio.sleep_forever()

    reported = trio.Event()
    async with open_client(server) as client:
        task = await client.call_tool("add", {"a": 1, "b": 2}, task=True)
        assert (await task.result()).data == 3
        await client.call_tool("hang", task=True)
        await reported.wait()
    async with open_server(server) as running:
        record = await running.fetch_task(task.id)
        assert record.outcome is not None
        assert record.outcome.result is not None
        assert json.loads(bytes(record.outcome.result))["structuredContent"] == {"result": 3}
        page = await store.list_page(None, None, 9, utc_now())
        assert {each.status for each in page.records} == {Status.COMPLETED, Status.CANCELLED}
