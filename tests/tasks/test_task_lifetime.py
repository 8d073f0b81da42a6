"""How long background tasks live: sessions that end, shutdown, expiry, and a store that follows behind."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY
from tests.tasks.task_server import Name, gate, make_server
from trio_mcp import (
    Context,
    MemoryTaskStore,
    Server,
    TaskConfig,
    TaskNotFound,
    open_client,
    open_server,
)
from trio_mcp.tasks.record import utc_now


async def test_law_10_a_task_outlives_its_session_and_another_may_watch_it(wire):
    server = make_server()
    reached, release, ends = await gate(server)
    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with wire.open_running(known) as first:
            task = await first.call_tool("wait", task=True)
            await reached.wait()
        assert ends == [], "the client left, the task did not"
        async with wire.open_running(known) as second:
            async with second.watch_task(task.id) as snapshots:
                snapshot = await snapshots.receive()
                assert (snapshot.status, snapshot.current) == ("working", 1)
                release.set()
                assert [snapshot.status async for snapshot in snapshots][-1] == "completed"
            assert (await second.await_task(task.id)).data == "released"


async def test_law_10_shutdown_leaves_no_task_working(wire):
    server = make_server(shutdown_grace=0)
    reached, _, ends = await gate(server)
    async with open_server(server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("wait", task=True)
            await reached.wait()
        keep = running
    assert ends == ["cancelled", "finally"]
    record = await keep.fetch_task(task.id)
    assert record.status == "cancelled"


async def test_shutdown_gives_running_tasks_a_moment(wire, autojump_clock):
    server = make_server(shutdown_grace=10)
    async with open_server(server) as running:
        async with wire.open_running(running) as client:
            task = await client.call_tool("count", {"n": 3, "pause": 1}, task=True)
        keep = running
    assert (await keep.fetch_task(task.id)).status == "completed"


async def test_expiry(wire, autojump_clock):
    """After its ttl a task is gone from get, result and list alike, and looks like one that never was."""
    server = Server("expiry", version="1")

    @server.tool(task=TaskConfig(ttl=60))
    async def quick() -> str:
        return "done"

    async with wire.open(server) as client:
        task = await client.call_tool("quick", task=True)
        await task.result()
        assert (await task.status()).ttl == 60
        await trio.sleep(61)
        errors = []
        for task_id in (task.id, "never was"):
            with pytest.raises(TaskNotFound) as caught:
                await client.fetch_task(task_id)
            errors.append(str(caught.value))
            with pytest.raises(TaskNotFound):
                await client.cancel_task(task_id)
        assert len(set(errors)) == 1
        with pytest.raises(TaskNotFound):
            await client.await_task(task.id)
        assert (await task.result()).data == "done", "the handle keeps the result"
        if wire.protocol == LEGACY:
            assert await client.list_tasks() == []


async def test_a_client_may_ask_for_a_shorter_ttl(wire):
    async with wire.open(make_server()) as client:
        task = await client.call_tool("count", {"n": 1}, task=True, ttl=600)
        assert (await task.status()).ttl == (600 if wire.protocol == LEGACY else 3600)
        await task.result()


async def test_a_durable_store_follows_behind(autojump_clock):
    """Progress reaches a store at once, and then every `write_behind` seconds; the end at once."""

    class Durable(MemoryTaskStore):
        def __init__(self) -> None:
            super().__init__()
            self.write_behind = 5.0
            self.puts: list[Any] = []

        async def put(self, changes: Any) -> Any:
            for record in (change.record for change in changes):
                self.puts.append((round(trio.current_time() - started), record.status.value, record.progress))
            return await super().put(changes)

    store = Durable()
    server = Server("durable", version="1", task_store=store)

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        for i in range(100):
            await ctx.report_progress(i)
            await trio.sleep(0.17)

    started = trio.current_time()
    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        await task.result()
    times = [time for time, status, _ in store.puts if status == "working"]
    assert times == [0, 5, 10, 15]
    assert [status for _, status, _ in store.puts][-1] == "completed"
    assert store.puts[-1][2].current == 99


@pytest.mark.parametrize("asks", ["elicit", "sample"])
async def test_a_task_that_waits_for_an_answer_does_not_hold_up_the_end(wire, autojump_clock, asks):
    """Its clients are gone, so nobody can answer: it is cancelled at once, and the record says why."""
    store = MemoryTaskStore()
    server = make_server(shutdown_grace=600)
    server.task_store = store
    parked = trio.Event()

    @server.tool(task=True)
    async def ask(ctx: Context) -> None:
        if asks == "elicit":
            await ctx.elicit("Who?", Name)
        else:
            await ctx.sample("Who?", max_tokens=1)

    async def never(request: Any) -> None:
        parked.set()
        await trio.sleep_forever()

    async with open_server(server) as running:
        handlers: Any = {"elicitation_handler": never, "sampling_handler": never}
        async with wire.open_running(running, **handlers) as client:
            task = await client.call_tool("ask", task=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task.result)
                await parked.wait()
                nursery.cancel_scope.cancel()
        ended_at = trio.current_time()
    assert trio.current_time() - ended_at < 60
    record = await store.get(task.id, utc_now())
    assert record is not None
    assert record.status == "cancelled"
    assert record.status_message is not None
    assert "waited for an answer" in record.status_message


async def test_a_call_that_gathers_its_input_does_not_hold_up_the_end(wire, autojump_clock):
    """Its client left in the middle of a question, so there never is a task to wait for."""
    server = make_server(shutdown_grace=600)
    parked = trio.Event()
    ends: list[str] = []

    async def gather(ctx: Context, arguments: dict[str, Any]) -> Any:
        try:
            return (await ctx.elicit("Who?", Name)).data
        finally:
            ends.append("gather")

    @server.tool(task=TaskConfig(mode="required", gather=gather))
    async def greet(ctx: Context) -> None:
        ends.append("tool")

    async def never(request: Any) -> None:
        parked.set()
        await trio.sleep_forever()

    async with open_server(server) as running:
        ada = running.authenticated("ada")
        async with (
            wire.open_running(ada, elicitation_handler=never) as client,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(partial(client.call_tool, "greet", task=True))
            await parked.wait()
            nursery.cancel_scope.cancel()
        assert await running.list_tasks("ada") == []
        ended_at = trio.current_time()
    assert trio.current_time() - ended_at < 60
    assert ends == ["gather"]


async def test_a_task_that_asks_while_the_server_ends_is_cancelled_at_once(autojump_clock):
    store = MemoryTaskStore()
    server = make_server(shutdown_grace=600)
    server.task_store = store

    @server.tool(task=True)
    async def ask(ctx: Context) -> None:
        await trio.sleep(5)
        await ctx.elicit("Who?", Name)

    async with open_server(server) as running:
        async with open_client(running, elicitation_handler=lambda request: None) as client:
            task = await client.call_tool("ask", task=True)
        ended_at = trio.current_time()
    assert trio.current_time() - ended_at < 60
    record = await store.get(task.id, utc_now())
    assert record is not None
    assert (record.status, record.inputs) == ("cancelled", {})
