"""Servers that only take calls, and workers that run the tasks: who does what, and how a worker ends."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.durable_store import DurableMemoryStore
from tests.support.raw_peer import MODERN_META
from tests.support.shared_store import SharedState
from tests.tasks.task_server import Name, raw_peer
from trio_mcp import (
    Context,
    MemoryTaskStore,
    ProtocolError,
    Server,
    TaskConfig,
    TaskNotFound,
    TaskSettings,
    open_client,
    open_server,
    run_worker,
)
from trio_mcp.testing import WireRecorder

RESTART = TaskConfig(recover="restart", attempts=3, promote_after=0)


def make_server(store: MemoryTaskStore, config: TaskConfig = RESTART, **settings: Any) -> Server:
    return Server("workers", task_store=store, task_settings=TaskSettings(**settings), default_task=config)


async def test_a_worker_runs_what_a_front_server_has_taken(wire, autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context, n: int) -> str:
        begun.append(ctx.attempt)
        await trio.sleep(10)
        return f"worked {n}"

    async with open_server(server, runs_tasks=False) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", {"n": 3}, task=True)
        await trio.sleep(100)
        assert begun == []
        assert (await running.fetch_task(task.id)).attempt == 0
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, server)
            record = await running.await_task(task.id)
            nursery.cancel_scope.cancel()
    assert begun == [1]
    assert record.status == "completed"
    assert b"worked 3" in bytes(record.outcome.result)


@pytest.mark.parametrize("seconds", [5, 50])
async def test_a_call_that_may_be_answered_directly_waits_for_a_worker(wire, autojump_clock, seconds):
    if wire.protocol != MODERN:
        return  # no call of this revision may become a task later
    store = DurableMemoryStore()
    server = make_server(store, TaskConfig(promote_after=20))

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        await ctx.checkpoint(1)
        await trio.sleep(seconds)
        return "worked"

    seen: list[float] = []
    async with (
        open_server(server, runs_tasks=False) as running,
        wire.open_running(running) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(run_worker, server)
        begun = trio.current_time()
        result = await client.call_tool("work", progress_handler=lambda now, *rest: seen.append(now))
        assert result.data == "worked"
        assert trio.current_time() - begun >= seconds
        assert seen == [1]
        nursery.cancel_scope.cancel()


async def test_a_call_that_is_cancelled_while_it_waits_for_a_worker_is_not_run(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store, TaskConfig(promote_after=1000))
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> None:
        begun.append(ctx.attempt)

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:
        with trio.move_on_after(5):
            await client.call_tool("work")
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, server)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
    assert begun == []


async def test_a_question_makes_a_waiting_call_a_task_at_once(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store, TaskConfig(promote_after=1000))

    @server.tool
    async def work(ctx: Context) -> str:
        return str((await ctx.elicit("Who?", Name)).action)

    async with (
        open_server(server, runs_tasks=False) as running,
        open_client(running, elicitation_handler=lambda request: None) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(run_worker, server)
        task = await client.call_tool("work", task=True)
        await trio.sleep(10)
        assert trio.current_time() < 100
        assert (await running.fetch_task(task.id)).status == "input_required"
        nursery.cancel_scope.cancel()


async def test_a_worker_outlasts_the_errors_of_its_store(autojump_clock, caplog):
    """Also those that are no TaskStoreError, because somebody else has written the store."""

    class FailingStore(DurableMemoryStore):
        failures = 3

        async def claim(self, *args: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError("the cable is out")
            return await super().claim(*args)

    server = make_server(FailingStore())

    @server.tool
    async def work() -> str:
        return "worked"

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, server)
            assert (await task.result()).data == "worked"
            nursery.cancel_scope.cancel()
    assert "the task store fails: the cable is out" in caplog.text


async def test_tasks_that_workers_have_ended_give_way_to_new_ones(autojump_clock):
    server = make_server(DurableMemoryStore(), max_kept_per_owner=5)

    @server.tool
    async def work(n: int) -> int:
        return n

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:
        tasks = [await client.call_tool("work", {"n": n}, task=True) for n in range(5)]
        with pytest.raises(ProtocolError, match="max_kept_per_owner is 5"):
            await client.call_tool("work", {"n": 5}, task=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, server)
            for n in range(5, 20):
                assert (await tasks[-1].result()).data == n - 1
                tasks.append(await client.call_tool("work", {"n": n}, task=True))
            nursery.cancel_scope.cancel()
        with pytest.raises(TaskNotFound):
            await client.fetch_task(tasks[0].id)


async def test_a_call_whose_store_fails_while_it_waits_is_answered_with_its_task(autojump_clock, caplog):
    state = SharedState()
    store = state.make_view()
    server = make_server(store, TaskConfig(promote_after=20))

    @server.tool
    async def work() -> str:
        return "worked"

    extensions = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {**MODERN_META, "io.modelcontextprotocol/clientCapabilities": extensions}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "work", "_meta": meta}}
    async with (
        open_server(server, runs_tasks=False) as running,
        raw_peer(running) as peer,
        trio.open_nursery() as nursery,
    ):

        async def fail() -> None:
            await trio.sleep(15)
            store.is_away = True

        nursery.start_soon(fail)
        task_id = (await peer.ask(call))["result"]["taskId"]
        assert trio.current_time() >= 20
        store.is_away = False
        assert (await running.fetch_task(task_id)).status == "working"


KEY = "5f2b9c1e-7a34-4c1d-9b60-2f8f3f0c9d11"


async def test_a_call_with_a_key_is_left_to_a_worker_and_carried_out_once(wire, autojump_clock):
    server = make_server(DurableMemoryStore())
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context, n: int) -> str:
        begun.append(n)
        await trio.sleep(10)
        return f"worked {n}"

    async with open_server(server, runs_tasks=False) as running, wire.open_running(running) as client:

        async def call() -> Any:
            return await client.call_tool("work", {"n": 3}, task=True, idempotency_key=KEY)

        first, second = await call(), await call()
        await trio.sleep(100)
        assert begun == []
        assert (await running.fetch_task(first.id)).attempt == 0
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, server)
            assert (await first.result()).data == "worked 3"
            nursery.cancel_scope.cancel()
        third = await call()
        assert first.id == second.id == third.id
        assert (await third.result()).data == "worked 3"
    assert begun == [3]


async def test_calls_with_a_key_that_may_be_answered_directly_wait_for_one_worker(wire, autojump_clock):
    if wire.protocol != MODERN:
        return  # no call of this revision may become a task later
    state = SharedState()
    server = make_server(state.make_view(), TaskConfig(promote_after=20))
    begun: list[int] = []
    results: list[Any] = []
    seen: list[list[float]] = [[], []]

    @server.tool
    async def work(ctx: Context) -> str:
        begun.append(ctx.attempt)
        for number in range(1, 5):
            await ctx.report_progress(number, 4)
            await trio.sleep(1)
        return "worked"

    async with open_server(server, runs_tasks=False) as running, wire.open_running(running) as client:

        async def call(number: int) -> None:
            answer = await client.call_tool(
                "work", idempotency_key=KEY, progress_handler=lambda now, *rest: seen[number].append(now)
            )
            results.append(answer.data)

        async with trio.open_nursery() as nursery, trio.open_nursery() as callers:
            callers.start_soon(call, 0)
            callers.start_soon(call, 1)
            await trio.sleep(1)
            server.task_store = state.make_view()
            await nursery.start(run_worker, server)
            await trio.sleep(8)
            nursery.cancel_scope.cancel()
        assert (await client.call_tool("work", idempotency_key=KEY)).data == "worked"
    assert results == ["worked", "worked"]
    assert begun == [1]
    assert seen == [[1, 2, 3, 4]] * 2


@pytest.mark.parametrize("others", [0, 1])
async def test_a_call_with_a_key_that_nobody_wants_any_more_is_not_run(autojump_clock, others):
    server = make_server(DurableMemoryStore(), TaskConfig(promote_after=1000))
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> None:
        begun.append(ctx.attempt)

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:

        async def call() -> None:
            await client.call_tool("work", idempotency_key=KEY)

        async with trio.open_nursery() as nursery:
            for _ in range(others):
                nursery.start_soon(call)
            with trio.move_on_after(5):
                await call()
            await trio.sleep(1)
            await nursery.start(run_worker, server)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
    assert begun == [1] * others


async def test_progress_of_a_task_that_a_worker_runs_comes_by_the_token_of_its_call(wire, autojump_clock):
    """2025-11-25: the token lives on until the task has ended, wherever that runs."""
    if wire.protocol != LEGACY:
        return
    state = SharedState()
    server = make_server(state.make_view())

    @server.tool
    async def work(ctx: Context) -> str:
        for number in range(1, 5):
            await ctx.report_progress(number, 4)
            await trio.sleep(0.3)
        return "worked"

    async with (
        open_server(server, runs_tasks=False) as running,
        wire.open(recorder := WireRecorder(wire.target(running))) as client,
        trio.open_nursery() as nursery,
    ):
        server.task_store = state.make_view()
        seen: list[float] = []
        task = await client.call_tool("work", task=True, progress_handler=lambda now, *rest: seen.append(now))
        await nursery.start(run_worker, server)
        assert (await task.result()).data == "worked"
        reports = recorder.received_messages("notifications/progress")
        nursery.cancel_scope.cancel()
    assert [report["params"]["progress"] for report in reports] == [1, 2, 3, 4]
    assert seen == [1, 2, 3, 4]


async def test_a_front_server_runs_what_never_becomes_a_task(wire):
    server = make_server(DurableMemoryStore())

    @server.tool(task=False)
    async def plain(ctx: Context) -> str:
        return "here"

    async with open_server(server, runs_tasks=False) as running, wire.open_running(running) as client:
        assert (await client.call_tool("plain")).data == "here"


async def test_a_worker_runs_no_more_than_it_may(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    now = most = 0

    @server.tool
    async def work(ctx: Context) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(10)
        now -= 1

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:
        tasks = [await client.call_tool("work", task=True) for _ in range(7)]
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: run_worker(server, max_running=3, task_status=task_status)
            )
            for task in tasks:
                await running.await_task(task.id)
            nursery.cancel_scope.cancel()
    assert most == 3


async def test_a_worker_puts_a_task_only_when_it_changes(autojump_clock):
    puts: list[str] = []

    class WatchedStore(DurableMemoryStore):
        async def put(self, changes):
            puts.extend(change.record.status for change in changes)
            return await super().put(changes)

    server = make_server(WatchedStore())

    @server.tool
    async def work() -> str:
        await trio.sleep(10)
        return "worked"

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, server)
            assert (await running.await_task(task.id)).attempt == 1
            nursery.cancel_scope.cancel()
    assert puts == ["completed"]  # that it runs was stored when it was claimed


@pytest.mark.parametrize("how", ["cancelled", "signal"])
async def test_a_worker_that_is_told_to_end_drains_and_gives_the_rest_back(autojump_clock, how):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[str] = []

    @server.tool
    async def work(ctx: Context, name: str, seconds: float) -> str:
        begun.append(name)
        await trio.sleep(seconds)
        return name

    @server.tool(task=TaskConfig(promote_after=0))
    async def once(ctx: Context) -> None:
        await trio.sleep_forever()

    async with open_server(server, runs_tasks=False) as running, open_client(running) as client:
        short = await client.call_tool("work", {"name": "short", "seconds": 10}, task=True)
        long = await client.call_tool("work", {"name": "long", "seconds": 1000}, task=True)
        other = await client.call_tool("once", task=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(run_worker, server, drain=20))
            await trio.sleep(1)
            if how == "signal":
                signal.raise_signal(signal.SIGTERM)
            else:
                nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
                late = await client.call_tool("work", {"name": "late", "seconds": 1}, task=True)
                await trio.sleep(1)
        assert trio.current_time() < 50
        assert (await running.fetch_task(short.id)).status == "completed"
        failed = await running.fetch_task(other.id)
        assert failed.status == "failed"
        assert failed.status_message == "interrupted: the process that ran the task has ended"
        for task, attempt in ((long, 1), (late, 0)):
            stored = await store.load(task.id)
            assert stored.holder is None
            assert stored.record.status == "working"
            assert stored.record.attempt == attempt
    assert begun == ["short", "long"] or begun == ["long", "short"]


async def test_a_worker_enters_the_lifespan(autojump_clock):
    server = make_server(DurableMemoryStore())
    events: list[str] = []

    @server.lifespan
    @asynccontextmanager
    async def live(server: Server) -> Any:
        events.append("enter")
        yield "the database"
        events.append("leave")

    @server.tool
    async def work(ctx: Context) -> None:
        events.append(ctx.lifespan)

    async with trio.open_nursery() as nursery:
        await nursery.start(run_worker, server)
        assert events == ["enter"]
        nursery.cancel_scope.cancel()
    assert events == ["enter", "leave"]


async def test_a_store_that_keeps_nothing_has_no_workers():
    server = make_server(MemoryTaskStore())
    with pytest.raises(ValueError, match="MemoryTaskStore do not outlive their process"):
        await run_worker(server)
    with pytest.raises(ValueError, match="MemoryTaskStore do not outlive their process"):
        async with open_server(server, runs_tasks=False):
            raise AssertionError


@pytest.mark.parametrize("options", [{"drain": -1}, {"max_running": 0}])
async def test_a_worker_refuses_numbers_that_make_no_sense(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        await run_worker(make_server(DurableMemoryStore()), **options)
