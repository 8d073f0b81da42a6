"""Who may see a task without a principal: whoever has its id, in every era and after its session."""

from __future__ import annotations

import base64

import pytest

from tests.conftest import LEGACY, MODERN
from tests.tasks.task_server import gate, make_server
from trio_mcp import TaskNotFound, open_client, open_server
from trio_mcp.tasks.record import new_task_id


async def test_a_task_outlives_the_session_that_made_it(wire):
    """The session ends (over HTTP by DELETE); the id admits whoever has it, and the list is another's."""
    server = make_server()
    reached, release, _ = await gate(server)
    async with open_server(server) as running:
        async with wire.open_running(running) as maker:
            ended = await maker.call_tool("count", {"n": 1}, task=True)
            await ended.result()
            waiting = await maker.call_tool("wait", task=True)
            await reached.wait()
        async with wire.open_running(running) as other:
            assert (await other.fetch_task(ended.id)).status == "completed"
            assert (await other.await_task(ended.id)).data == "counted 1"
            assert (await other.fetch_task(waiting.id)).status == "working"
            if wire.protocol == LEGACY:
                assert await other.list_tasks() == []
            release.set()
            assert (await other.await_task(waiting.id)).data == "released"


@pytest.mark.parametrize(("makes", "asks"), [(LEGACY, MODERN), (MODERN, LEGACY)])
async def test_the_owner_does_not_depend_on_the_era(makes, asks):
    async with open_server(make_server()) as running:
        async with open_client(running, protocol=makes) as maker:
            task = await maker.call_tool("count", {"n": 1}, task=True)
            await task.result()
        async with open_client(running, protocol=asks) as other:
            assert (await other.await_task(task.id)).data == "counted 1"


@pytest.mark.parametrize(("makes", "asks"), [(LEGACY, MODERN), (MODERN, LEGACY)])
async def test_a_principal_owns_its_tasks_in_every_era(makes, asks):
    async with open_server(make_server()) as running:
        async with open_client(running.authenticated("alice"), protocol=makes) as alice:
            task = await alice.call_tool("count", {"n": 1}, task=True)
            await task.result()
        async with open_client(running.authenticated("alice"), protocol=asks) as again:
            assert (await again.await_task(task.id)).data == "counted 1"
        for stranger in (running, running.authenticated("bob")):
            async with open_client(stranger, protocol=asks) as other:
                for ask in (other.fetch_task, other.await_task, other.cancel_task):
                    with pytest.raises(TaskNotFound):
                        await ask(task.id)


def test_an_id_has_192_random_bits():
    ids = {new_task_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(base64.urlsafe_b64decode(ident)) * 8 == 192 for ident in ids)
