"""Several processes, or several stores in one, share the tasks in one Redis server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeAlias

import attrs
import pytest
import trio
import trio.testing
from msgspec import Raw

from tests.support import redis_holder
from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import PROGRAMS, RedisServer, run_redis_server
from tests.tasks.store_cases import (
    ASKED,
    NOW,
    SECOND,
    assert_ended,
    completed,
    held,
    make_record,
    put,
    read_until,
    report,
)
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.record import new_task_id, utc_now
from trio_mcp.tasks.redis_store import RedisTaskStore
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_task import StoredTask, TaskWork

RESTART = TaskWork(recover="restart", attempts=3)
TOOLS = {"tool"}
_numbers = count()

NewStore: TypeAlias = Callable[..., RedisTaskStore]


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with run_redis_server(request.param) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    return f"shared-{next(_numbers)}"


@pytest.fixture
def new_store(server: RedisServer, prefix: str) -> NewStore:
    def new(**options: Any) -> RedisTaskStore:
        return RedisTaskStore(server.url, prefix=prefix, timeout=HANG_SECONDS, **options)

    return new


@pytest.fixture
async def pair(new_store: NewStore) -> AsyncIterator[tuple[RedisTaskStore, RedisTaskStore]]:
    one, other = new_store(), new_store()
    async with one.open(), other.open():
        yield one, other


Pair: TypeAlias = tuple[RedisTaskStore, RedisTaskStore]


async def next_changed(store: RedisTaskStore) -> str:
    with trio.fail_after(HANG_SECONDS):
        return await store.wait_changed()


async def test_any_store_reads_what_another_has_put(pair: Pair) -> None:
    one, other = pair
    record = await held(one, make_record())
    newer = record.reported(NOW, 1, 2, None)
    await one.put([TaskChange(newer, 1, [report(1)], Raw(b"1"))])
    assert await other.get(record.id, NOW) == newer
    assert await other.load(record.id) == await one.load(record.id)
    assert list((await other.list_page(record.owner, None, 9, NOW)).records) == [newer]
    assert await other.read_reports(record.id, 0, 9) == [report(1)]


async def test_a_cursor_is_good_at_every_store(pair: Pair) -> None:
    one, other = pair
    first, second = make_record(), make_record()
    await one.create(first)
    await other.create(second)
    cursor = (await one.list_page(first.owner, None, 1, NOW)).next_cursor
    assert list((await other.list_page(first.owner, cursor, 1, NOW)).records) == [first]


async def test_only_the_holder_puts(pair: Pair) -> None:
    one, other = pair
    record = await held(one, make_record())
    assert list(await put(other, completed(record))) == [record.id]
    assert not await other.release(record.changed(NOW), 1)
    assert not await put(one, completed(record))


async def test_a_key_gives_the_same_task_at_every_store(pair: Pair) -> None:
    one, other = pair
    task = await one.create(make_record(), key="key")
    assert await other.create(make_record(), key="key") == task


async def test_a_subscriber_hears_of_changes_at_another_store(pair: Pair) -> None:
    one, other = pair
    record = await held(one, make_record())
    async with other.subscribe(record.id) as changes:
        for _ in range(3):
            record = record.changed(NOW)
            await put(one, record)
            assert await read_until(changes, record.version) == record
        large = record.changed(NOW, status_message="x" * 100_000)
        await put(one, large)
        assert await read_until(changes, large.version) == large, "too large to be told in full"
        final = completed(large)
        await put(one, final)
        await one.delete(record.id)
        await assert_ended(changes)


async def test_a_final_record_is_delivered_also_if_it_is_deleted_at_once(pair: Pair) -> None:
    one, other = pair
    record = await held(one, make_record())
    async with other.subscribe(record.id) as changes:
        final = completed(record)
        await put(one, final)
        await one.delete(record.id)
        assert await read_until(changes, final.version) == final
        await assert_ended(changes)


@pytest.mark.parametrize("how", ["cancel", "answer", "delete", "expire"])
async def test_the_holder_hears_what_others_do_to_its_task(pair: Pair, how: str) -> None:
    one, other = pair
    record = await held(one, make_record(inputs=ASKED, status=Status.INPUT_REQUIRED, ttl=10))
    if how == "cancel":
        await other.cancel(record.id, NOW)
    elif how == "answer":
        await other.answer(record.id, {"a": Raw(b"1")}, NOW)
    elif how == "delete":
        await other.delete(record.id)
    else:
        assert await other.delete_expired(NOW + 10 * SECOND) == [record.id]
    assert await next_changed(one) == record.id
    task = await one.load(record.id)
    if how == "cancel":
        assert task is not None
        assert task.record.status is Status.CANCELLED
    elif how == "answer":
        assert task is not None
        assert dict(task.answers) == {"a": Raw(b"1")}
    else:
        assert task is None


async def test_the_holder_does_not_hear_of_what_it_does_itself(pair: Pair) -> None:
    one, other = pair
    record, last = await held(one, make_record()), await held(one, make_record())
    await one.cancel(record.id, NOW)
    await put(one, last.changed(NOW))
    await other.cancel(last.id, NOW)
    assert await next_changed(one) == last.id


async def test_a_task_is_claimed_by_one_of_many(new_store: NewStore) -> None:
    claimed: list[str] = []

    all_claimed = trio.Event()

    async def work(store: RedisTaskStore, expected: int) -> None:
        while True:
            tasks = await store.claim(TOOLS, 3, utc_now())
            claimed.extend(task.record.id for task in tasks)
            if len(claimed) >= expected:
                all_claimed.set()
            if not tasks:
                await store.wait_claimable(TOOLS, utc_now())

    async with open_many(new_store, 4) as stores:
        ids = [new_task_id() for _ in range(100)]
        async with trio.open_nursery() as nursery:
            for store in stores:
                nursery.start_soon(work, store, len(ids))
            for task_id in ids:
                await stores[0].create(make_record(id=task_id), is_queued=True)
            with trio.fail_after(HANG_SECONDS):
                await all_claimed.wait()
            nursery.cancel_scope.cancel()
        assert sorted(claimed) == sorted(ids)


@asynccontextmanager
async def open_many(new_store: NewStore, number: int) -> AsyncIterator[list[RedisTaskStore]]:
    stores: list[RedisTaskStore] = []
    opened = trio.Event()

    async def keep(task_status: trio.TaskStatus[None]) -> None:
        store = new_store()
        async with store.open():
            stores.append(store)
            task_status.started()
            await opened.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            await nursery.start(keep)
        yield stores
        opened.set()


async def test_a_worker_hears_of_what_another_store_has_queued(pair: Pair) -> None:
    one, other = pair
    claimed: list[StoredTask] = []

    async def work() -> None:
        while not claimed:
            claimed.extend(await other.claim(TOOLS, 1, utc_now()))
            if not claimed:
                await other.wait_claimable(TOOLS, utc_now())

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            record = make_record()
            await one.create(record, is_queued=True)
    assert claimed[0].record.id == record.id
    assert list(await put(one, completed(record))) == [record.id]
    assert not await put(other, completed(claimed[0].record), claim=1)


# leases


@attrs.define
class Clock:
    """The clock of a lease, as far as a test lets it go."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return trio.current_time() + self.ahead


async def test_a_process_counts_itself_lost_before_others_may_take_its_tasks(new_store: NewStore) -> None:
    clock = Clock()
    one, other = new_store(lease=60, clock=clock), new_store()
    async with one.open(), other.open():
        record = await held(one, make_record(), RESTART)
        clock.ahead = 41  # two thirds, and the server counts on until 60
        assert list(await put(one, completed(record))) == [record.id], "it is lost at once"
        with trio.fail_after(HANG_SECONDS):
            await one.wait_lost()
        assert await other.recover(NOW) == [], "nobody may take it yet"
        assert await other.get(record.id, NOW) == record
        again = await held(one, make_record())
        assert not await put(one, completed(again)), "what comes later is held anew"


async def test_a_short_wait_does_not_lose_the_lease(new_store: NewStore) -> None:
    clock = Clock()
    one = new_store(lease=60, clock=clock)
    async with one.open():
        record = await held(one, make_record())
        clock.ahead = 39
        assert not await put(one, completed(record))


async def test_an_opening_that_ends_gives_its_tasks_up_at_once(new_store: NewStore) -> None:
    one, other = new_store(lease=3600), new_store()
    async with other.open():
        async with one.open():
            record = await held(one, make_record(), RESTART)
            assert await other.recover(NOW) == []
        assert [each.id for each in await other.recover(NOW)] == [record.id]
        (task,) = await other.claim(TOOLS, 9, NOW)
        assert (task.record.id, task.claim, task.record.attempt) == (record.id, 2, 2)


@pytest.fixture
def start_holder(server: RedisServer, prefix: str) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(task_id: str, lease: float = 3.0) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", redis_holder.__name__, server.url, prefix, str(lease), task_id]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


async def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with trio.fail_after(HANG_SECONDS):
        return (await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)).strip()


async def take_over(store: RedisTaskStore) -> StoredTask:
    """Wait until another process counts as dead, and claim its task."""
    with trio.fail_after(HANG_SECONDS):
        while True:
            if await store.recover(utc_now()):
                break
            await trio.sleep(0.05)
    (task,) = await store.claim(TOOLS, 9, utc_now())
    return task


async def test_the_tasks_of_a_killed_process_are_taken_over(
    new_store: NewStore, start_holder: Callable[[str], subprocess.Popen[str]]
) -> None:
    task_id = new_task_id()
    async with open_one(new_store) as store:
        process = start_holder(task_id)
        assert await read_line(process) == "held"
        async with store.subscribe(task_id) as changes:
            with trio.fail_after(HANG_SECONDS):
                before = await changes.receive()
            process.kill()
            task = await take_over(store)
        assert task.record.id == task_id
        assert (task.claim, task.record.attempt) == (2, 2)
        assert task.record.progress is not None
        assert before.progress is not None
        assert task.record.progress.current >= before.progress.current, "what was stored is kept"
        assert not await put(store, completed(task.record), claim=2)


async def test_a_process_that_was_frozen_changes_nothing_when_it_thaws(
    new_store: NewStore, start_holder: Callable[[str], subprocess.Popen[str]]
) -> None:
    task_id = new_task_id()
    async with open_one(new_store) as store:
        process = start_holder(task_id)
        assert await read_line(process) == "held"
        process.send_signal(signal.SIGSTOP)
        task = await take_over(store)
        final = completed(task.record)
        await put(store, final, claim=2)
        process.send_signal(signal.SIGCONT)
        assert {await read_line(process), await read_line(process)} == {"lost", "refused"}
        assert await store.get(task_id, NOW) == final


@asynccontextmanager
async def open_one(new_store: NewStore) -> AsyncIterator[RedisTaskStore]:
    store = new_store()
    async with store.open():
        yield store
