"""How many tasks are kept for each client, and which give way to new ones."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.tasks.task_server import gate, make_server
from trio_mcp import MemoryTaskStore, ProtocolError, TaskNotFound, open_client, open_server


class NoDelete:
    """A store that has what a store must have, and no `delete`."""

    def __init__(self, inner: MemoryTaskStore) -> None:
        self.write_behind = inner.write_behind
        for name in ("create", "get", "put", "list_page", "delete_expired", "subscribe"):
            setattr(self, name, getattr(inner, name))


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


async def test_many_anonymous_tasks_leave_room_for_another_client(wire):
    """1,100 requests for tasks that do not end: another client gets a task, and an answer at once."""
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
            assert (await other.call_tool("count", {"n": 0})).data == "counted 0"
            task = await other.call_tool("count", {"n": 0}, task=True)
            assert (await task.status()).status == "working", "it waits for a place"
            release.set()
            assert (await task.result()).data == "counted 0"


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


async def test_a_store_without_delete_forgets_nothing_for_a_new_task():
    server = make_server()
    server.task_store = NoDelete(MemoryTaskStore(max_records=1))  # type: ignore[assignment]
    async with open_server(server) as running, open_client(running) as client:
        first = await make_ended(client)
        with pytest.raises(ProtocolError, match="max_records is 1"):
            await client.call_tool("count", {"n": 1}, task=True)
        assert (await client.call_tool("count", {"n": 1})).data == "counted 1"
        assert await is_kept(running, first)


async def test_a_direct_answer_does_not_wait_for_running_tasks(wire):
    server = make_server(max_running=1)
    _, release, _ = await gate(server)
    async with wire.open(server) as client:
        first = await client.call_tool("wait", task=True)
        with trio.fail_after(5):
            assert (await client.call_tool("count", {"n": 1})).data == "counted 1"
        release.set()
        await first.result()
