"""How many tasks are kept for each client, and which give way to new ones."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import MODERN
from tests.support.limits import HANG_SECONDS
from tests.tasks.task_server import gate, make_server
from trio_mcp import (
    Context,
    MemoryTaskStore,
    ProtocolError,
    TaskConfig,
    TaskNotFound,
    TaskOverload,
    ToolError,
    open_client,
    open_server,
)
from trio_mcp.tasks.stored_task import StoredTask


class WatchedStore(MemoryTaskStore):
    """Notes that it has refused a record."""

    def __init__(self, **caps: int) -> None:
        super().__init__(**caps)
        self.refused = trio.Event()

    async def create(self, *args: Any, **options: Any) -> StoredTask:
        try:
            return await super().create(*args, **options)
        except TaskOverload:
            self.refused.set()
            raise


async def make_ended(client: Any) -> str:
    task = await client.call_tool("count", {"n": 0}, task=True)
    await task.result()
    return task.id


async def is_kept(running: Any, task_id: str) -> bool:
    try:
        await running.fetch_task(task_id)
    except TaskNotFound:
        return False
    return True


async def test_many_anonymous_tasks_leave_room_for_other_clients(wire):
    """1,100 requests for tasks that do not end: another's task runs to its end, and a third gets answers."""
    server = make_server()
    _, release, _ = await gate(server)
    made, refusals = 0, set()
    async with open_server(server) as running, wire.open_running(running) as greedy:
        for _ in range(1100):
            try:
                await greedy.call_tool("wait", task=True)
                made += 1
            except ProtocolError as error:
                refusals.add(str(error))
        assert made == 275
        assert len(refusals) == 1
        assert "max_unfinished_per_owner is 275" in refusals.pop()
        async with wire.open_running(running.authenticated("other")) as other:
            task = await other.call_tool("count", {"n": 1}, task=True)
            with trio.fail_after(HANG_SECONDS):
                assert (await task.result()).data == "counted 1"
        async with wire.open_running(running.authenticated("third")) as third:
            assert (await third.call_tool("count", {"n": 2})).data == "counted 2"
            assert (await third.call_tool("plain")).data == "plain"
        assert (await greedy.call_tool("count", {"n": 3})).data == "counted 3", "without a task"
        assert not release.is_set()


async def test_the_oldest_ended_task_of_the_client_gives_way(wire):
    server = make_server(max_kept_per_owner=2)
    async with open_server(server) as running:
        async with wire.open_running(running.authenticated("bob")) as bob:
            older = await make_ended(bob)
        async with wire.open_running(running) as client:
            made = [await make_ended(client) for _ in range(4)]
    assert [await is_kept(running, task_id) for task_id in made] == [False, False, True, True]
    assert await is_kept(running, older), "another client's"


async def test_a_client_whose_tasks_all_run_is_refused_by_name_and_answered_directly(wire):
    server = make_server(max_kept_per_owner=1)
    _, release, _ = await gate(server)
    async with wire.open(server) as client:
        first = await client.call_tool("wait", task=True)
        with pytest.raises(ProtocolError, match="max_kept_per_owner is 1"):
            await client.call_tool("count", {"n": 1}, task=True)
        assert (await client.call_tool("count", {"n": 1})).data == "counted 1"
        release.set()
        assert (await first.result()).data == "released"


async def test_in_a_full_store_own_ended_tasks_give_way_before_those_of_others():
    server = make_server()
    server.task_store = MemoryTaskStore(max_records=3)
    async with open_server(server) as running:
        async with (
            open_client(running.authenticated("alice")) as alice,
            open_client(running.authenticated("bob")) as bob,
        ):
            first, second = await make_ended(alice), await make_ended(alice)
            third = await make_ended(bob)
            fourth = await make_ended(bob)
            assert [await is_kept(running, each) for each in (first, second, third, fourth)] == [
                True, True, False, True,
            ]  # fmt: skip
        async with open_client(running.authenticated("carol")) as carol:
            fifth = await make_ended(carol)
        assert [await is_kept(running, each) for each in (first, second, fourth, fifth)] == [
            False, True, True, True,
        ]  # fmt: skip


async def test_a_record_that_is_too_large_makes_no_other_give_way():
    server = make_server()
    server.task_store = store = WatchedStore(max_record_bytes=1000)

    @server.tool(task=TaskConfig(promote_after=0.001))
    async def talk(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "x" * 2000)
        await store.refused.wait()
        return "talked"

    async with open_server(server) as running, open_client(running) as client:
        kept = [await make_ended(client) for _ in range(4)]
        with trio.fail_after(HANG_SECONDS):
            assert (await client.call_tool("talk")).data == "talked"
        assert all([await is_kept(running, task_id) for task_id in kept])


async def test_a_call_without_a_record_is_answered_when_it_is_done(wire):
    """It runs when its record is refused, so it goes on, and its progress arrives as in any call."""
    server = make_server()
    server.task_store = store = WatchedStore(max_records=1)
    _, release, _ = await gate(server)
    seen: list[float] = []

    @server.tool(task=TaskConfig(promote_after=0.001))
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        if wire.protocol == MODERN:
            await store.refused.wait()
        await ctx.report_progress(2, 2)
        return "worked"

    async with wire.open(server) as client:
        task = await client.call_tool("wait", task=True)
        with trio.fail_after(HANG_SECONDS):
            result = await client.call_tool("work", progress_handler=lambda *update: seen.append(update[0]))
        assert result.data == "worked"
        assert seen == [1, 2]
        release.set()
        await task.result()


async def test_a_call_without_a_record_does_not_wait_for_running_tasks(wire):
    """A call that waits for its turn when its record is refused runs at once, and once only."""
    server = make_server(max_running=1)
    server.task_store = MemoryTaskStore(max_records=1)
    _, release, ends = await gate(server)
    begun: list[str | None] = []
    seen: list[float] = []

    @server.tool(task=TaskConfig(promote_after=0.001))
    async def work(ctx: Context) -> str:
        begun.append(ctx.task_id)
        await ctx.report_progress(1, 2)
        await ctx.report_progress(2, 2)
        return "worked"

    async with wire.open(server) as client:
        task = await client.call_tool("wait", task=True)
        with trio.fail_after(HANG_SECONDS):
            result = await client.call_tool("work", progress_handler=lambda *update: seen.append(update[0]))
        assert (result.data, begun, seen, ends) == ("worked", [None], [1, 2], [])
        release.set()
        assert (await task.result()).data == "released"
    assert begun == [None]


async def test_a_failure_of_a_call_without_a_record_is_its_answer(wire):
    server = make_server(max_running=1)
    server.task_store = MemoryTaskStore(max_records=1)
    _, release, _ = await gate(server)

    @server.tool(task=TaskConfig(promote_after=0.001))
    async def work() -> None:
        raise ToolError("on purpose")

    async with wire.open(server) as client:
        task = await client.call_tool("wait", task=True)
        with trio.fail_after(HANG_SECONDS), pytest.raises(ToolError, match="on purpose"):
            await client.call_tool("work")
        release.set()
        await task.result()
