"""A server that has nothing to do waits for no time: it wakes up when somebody comes, and not before."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import RedisServer, run_redis_server
from tests.support.shared_store import SharedState
from tests.tasks.store_cases import completed, make_record
from trio_mcp import (
    MemoryTaskStore,
    RedisTaskStore,
    Server,
    SQLiteTaskStore,
    TaskSettings,
    TaskStore,
    open_client,
    open_server,
)

TTL = 100_000.0
_numbers = count()

NewStore = Callable[[], TaskStore]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with run_redis_server("redis") as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "redis"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    """Makes stores; those in Redis share their tasks."""
    match request.param:
        case "memory":
            return MemoryTaskStore
        case "sqlite":
            return lambda: SQLiteTaskStore(tmp_path / f"tasks-{next(_numbers)}.db")
    url, prefix = request.getfixturevalue("redis").url, f"idle-{next(_numbers)}"
    return lambda: RedisTaskStore(url, prefix=prefix, timeout=HANG_SECONDS, clock=trio.current_time)


def make_server(store: TaskStore) -> Server:
    server = Server("idle", task_store=store, task_settings=TaskSettings(ttl=TTL, max_ttl=TTL))

    @server.tool(task=True)
    async def quick() -> str:
        return "done"

    @server.tool(task=True)
    async def slow() -> None:
        await trio.sleep_forever()

    return server


def next_deadline() -> float:
    """In how many seconds the event loop wakes up by itself."""
    return trio.lowlevel.current_statistics().seconds_to_next_deadline


async def settle(
    store: TaskStore, clock: MockClock, is_settled: Callable[[], bool] = lambda: next_deadline() == math.inf
) -> None:
    """Let time pass until nothing is to be done, or nothing but what `is_settled` allows for."""
    for _ in range(50):
        await wait_all_tasks_blocked()
        await store.get("nothing", datetime.now(UTC))  # each answer comes behind those before it
        await wait_all_tasks_blocked()
        if is_settled():
            return
        clock.jump(6)
    raise AssertionError(f"the next deadline is still in {next_deadline()} s")


def waits_for_expiry() -> bool:
    return TTL / 2 < next_deadline() <= TTL


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_server_with_finished_tasks_waits_only_for_their_expiry(
    new_store: NewStore, mock_clock: MockClock, stack: AsyncExitStack
) -> None:
    store = new_store()
    async with open_client(make_server(store)) as client:
        for _ in range(10):
            task = await client.call_tool("quick", task=True)
            await task.result()
        await settle(store, mock_clock, waits_for_expiry)


async def test_a_server_without_tasks_waits_for_nothing(new_store: NewStore, mock_clock: MockClock) -> None:
    store = new_store()
    async with open_server(make_server(store)):
        await settle(store, mock_clock)


async def test_what_was_there_before_the_start_is_forgotten_when_it_expires(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    store = SQLiteTaskStore(tmp_path / "tasks.db")
    async with open_client(make_server(store)) as client:
        task = await client.call_tool("quick", task=True)
        await task.result()
    async with open_server(make_server(store)):
        await settle(store, mock_clock, waits_for_expiry)
        assert await store.load(task.id) is not None
        mock_clock.jump(next_deadline())
        while await store.load(task.id) is not None:
            await wait_all_tasks_blocked()


async def test_an_idle_server_looks_after_a_busy_one_when_its_lease_could_end(
    redis: RedisServer, mock_clock: MockClock
) -> None:
    prefix = f"idle-{next(_numbers)}"
    holders, channel = f"{{{prefix}}}:holders", f"{{{prefix}}}:leases"
    store = RedisTaskStore(redis.url, prefix=prefix, timeout=HANG_SECONDS, clock=trio.current_time)

    async def wait_until(is_true: Callable[[], bool]) -> None:
        for _ in range(10_000):
            await store.get("nothing", datetime.now(UTC))
            if is_true():
                return
        raise AssertionError("it never was")

    async with open_server(make_server(store)):
        await settle(store, mock_clock)
        redis.command("ZADD", holders, str(int((time.time() + 1000) * 1000)), "another")
        assert redis.command("PUBLISH", channel, "another") == ":1"
        # Whoever waits for an answer waits for less.
        await wait_until(lambda: 500 < next_deadline() <= 1001)
        redis.command("ZADD", holders, "0", "another")
        mock_clock.jump(next_deadline())
        await wait_until(lambda: redis.command("ZSCORE", holders, "another") == "$-1")
        await wait_until(lambda: next_deadline() == math.inf)


async def test_a_store_asks_for_its_connection_only_while_a_task_is_followed(
    redis: RedisServer, mock_clock: MockClock
) -> None:
    prefix = f"idle-{next(_numbers)}"
    store = RedisTaskStore(redis.url, prefix=prefix, timeout=HANG_SECONDS, clock=trio.current_time)
    async with store.open():
        ended = completed(make_record())
        await store.create(ended)
        await settle(store, mock_clock)
        async with store.subscribe(ended.id):
            assert 0 < next_deadline() <= 5
        await settle(store, mock_clock)


async def test_the_tasks_of_a_tool_that_is_registered_later_are_claimed_at_once(
    autojump_clock: MockClock,
) -> None:
    state = SharedState()
    late = Server("late", task_store=state.make_view())
    async with (
        open_server(make_server(state.make_view()), runs_tasks=False) as front,
        open_server(late),
        open_client(front) as client,
    ):
        task = await client.call_tool("quick", task=True)
        await trio.sleep(1000)
        before = trio.current_time()

        @late.tool(task=True)
        async def quick() -> str:
            return "late"

        assert (await task.result()).data == "late"
        assert trio.current_time() - before < 1
