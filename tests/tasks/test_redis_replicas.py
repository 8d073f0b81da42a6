"""Two servers that share one Redis: a task of one is seen, answered, cancelled and ends through the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeAlias

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import PROGRAMS, RedisServer, run_redis_server
from tests.tasks.task_server import Name, make_server
from trio_mcp import Context, RedisTaskStore, Server, TaskCancelled, open_server
from trio_mcp.server.running import RunningServer

_numbers = count()


@pytest.fixture(scope="module", params=PROGRAMS)
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with run_redis_server(request.param) as running:
        yield running


@pytest.fixture(params=[MODERN, LEGACY])
def memory(request: pytest.FixtureRequest) -> Wire:
    return Wire("memory", request.param)


@attrs.frozen
class Fleet:
    """Two replicas; the tool "hang" sets `reached`, and `cancelled` when it is cancelled."""

    a: RunningServer
    b: RunningServer
    reached: trio.Event
    cancelled: trio.Event


OpenFleet: TypeAlias = Callable[[], Any]


@pytest.fixture
def open_fleet(redis: RedisServer) -> OpenFleet:
    prefix = f"replicas-{next(_numbers)}"

    @asynccontextmanager
    async def open_both() -> AsyncIterator[Fleet]:
        server = make_server()
        reached, cancelled = add_hang(server)
        add_greet(server)
        server.task_store = RedisTaskStore(redis.url, prefix=prefix)
        async with open_server(server) as a:
            server.task_store = RedisTaskStore(redis.url, prefix=prefix)
            async with open_server(server) as b:
                yield Fleet(a.authenticated("ann"), b.authenticated("ann"), reached, cancelled)

    return open_both


def add_hang(server: Server) -> tuple[trio.Event, trio.Event]:
    reached, cancelled = trio.Event(), trio.Event()

    @server.tool(task=True)
    async def hang() -> None:
        reached.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    return reached, cancelled


def add_greet(server: Server) -> None:
    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who are you?", Name)
        return f"Hello, {answer.data.name}!" if answer.accepted else str(answer.action)


async def test_a_result_and_all_progress_come_through_another_replica(
    open_fleet: OpenFleet, memory: Wire
) -> None:
    seen: list[float] = []
    async with (
        open_fleet() as fleet,
        memory.open_running(fleet.a) as one,
        memory.open_running(fleet.b) as other,
    ):
        with trio.fail_after(HANG_SECONDS):
            task = await one.call_tool("count", {"n": 20}, task=True)
            result = await other.await_task(
                task.id, progress_handler=lambda current, total, message: seen.append(current)
            )
        assert result.data == "counted 20"
        assert seen == sorted(set(seen))
        assert seen[-1] == 20


async def test_a_task_is_cancelled_through_another_replica(open_fleet: OpenFleet, memory: Wire) -> None:
    async with (
        open_fleet() as fleet,
        memory.open_running(fleet.a) as one,
        memory.open_running(fleet.b) as other,
    ):
        with trio.fail_after(HANG_SECONDS):
            task = await one.call_tool("hang", task=True)
            await fleet.reached.wait()
            await other.cancel_task(task.id)
            with pytest.raises(TaskCancelled):
                await task.result()
            await fleet.cancelled.wait()


async def test_a_question_is_answered_through_another_replica(open_fleet: OpenFleet) -> None:
    async def answer(request: Any) -> Any:
        return {"name": "Ann"}

    async def leave_open(request: Any) -> Any:
        await trio.sleep_forever()

    memory = Wire("memory", MODERN)
    async with (
        open_fleet() as fleet,
        memory.open_running(fleet.a, elicitation_handler=leave_open) as one,
        memory.open_running(fleet.b, elicitation_handler=answer) as other,
    ):
        with trio.fail_after(HANG_SECONDS):
            task = await one.call_tool("greet", task=True)
            assert (await other.await_task(task.id)).data == "Hello, Ann!"
