"""Tasks that another process runs again: after a crash, after a server has ended, and what they find then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.durable_store import DurableMemoryStore
from tests.support.raw_peer import MODERN_META
from tests.tasks.task_server import Name, raw_peer
from trio_mcp import (
    Context,
    Retry,
    Server,
    TaskConfig,
    TaskRecord,
    TaskSettings,
    ToolError,
    open_client,
    open_server,
)

RESTART = TaskConfig(recover="restart", attempts=3, promote_after=0)


def make_server(store: DurableMemoryStore, config: TaskConfig = RESTART, **settings: Any) -> Server:
    settings.setdefault("shutdown_grace", 0)
    return Server("restarts", task_store=store, task_settings=TaskSettings(**settings), default_task=config)


@asynccontextmanager
async def crashing(server: Server, store: DurableMemoryStore) -> AsyncIterator[Any]:
    """A server that dies at the end of the block, before it can store anything more."""
    async with open_server(server) as running:
        yield running
        store.crash()


async def collect(running: Any, task_id: str) -> list[TaskRecord]:
    async with running.watch_task(task_id) as records:
        return [record async for record in records]


async def test_a_task_goes_on_at_its_checkpoint_after_a_crash(wire, autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[tuple[int, Any, Any]] = []

    @server.tool
    async def work(ctx: Context, parts: list[str]) -> list[str]:
        done = ctx.restored or []
        begun.append((ctx.attempt, list(done), ctx.task_id))
        for part in parts[len(done) :]:
            await trio.sleep(10)
            done.append(part)
            await ctx.checkpoint(done)
        return done

    async with crashing(server, store) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", {"parts": ["a", "b", "c"]}, task=True)
        await trio.sleep(25)
    async with open_server(server) as running:
        record = await running.await_task(task.id)
    assert begun == [(1, [], task.id), (2, ["a", "b"], task.id)]
    assert record.status == "completed"
    assert record.attempt == 2
    assert b'"b"' in bytes(record.outcome.result)


async def test_progress_never_goes_back_over_a_crash(wire, autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)

    @server.tool
    async def work(ctx: Context) -> str:
        for step in range(10):
            await trio.sleep(10)
            ctx.progress().set_total(10)
            ctx.progress().increment()
            await ctx.checkpoint(step)  # which stores the progress as well
        return "done"

    async with crashing(server, store) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(65)
    stored = await store.load(task.id)
    assert stored.record.progress.current == 6
    async with open_server(server) as running:
        await trio.sleep(1)
        records = await collect(running, task.id)
    numbers = [record.progress.current for record in records if record.progress is not None]
    assert numbers[0] == 6
    assert numbers == sorted(numbers)
    assert numbers[-1] == 10
    assert records[-1].status == "completed"


async def test_a_task_whose_process_dies_each_time_is_not_run_for_ever(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> None:
        begun.append(ctx.attempt)
        await trio.sleep_forever()

    async with crashing(server, store) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(1)
    for _ in range(4):
        async with crashing(server, store) as running:
            await trio.sleep(1)
    async with open_server(server) as running:
        record = await running.fetch_task(task.id)
    assert begun == [1, 2, 3]
    assert record.status == "failed"
    assert record.status_message is not None
    assert record.status_message.startswith("interrupted")
    assert record.status_message.endswith("(attempt 3 of 3)")


async def test_a_task_that_is_not_to_be_run_again_fails_with_its_last_progress(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store, TaskConfig(promote_after=0))

    @server.tool
    async def work(ctx: Context) -> None:
        await ctx.report_progress(3, 7, "three")
        await ctx.checkpoint(3)
        await trio.sleep_forever()

    async with crashing(server, store) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(1)
    async with open_server(server) as running:
        await trio.sleep(1)
        record = await running.fetch_task(task.id)
    assert record.status == "failed"
    assert (record.progress.current, record.progress.total, record.progress.message) == (3, 7, "three")


@pytest.mark.parametrize("how", ["ends", "is cancelled"])
async def test_a_server_that_ends_gives_its_tasks_back(wire, autojump_clock, how):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> str:
        begun.append(ctx.attempt)
        await trio.sleep(10)
        return f"done at {ctx.attempt}"

    @server.tool(task=TaskConfig(promote_after=0))
    async def other(ctx: Context) -> None:
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        async with open_server(server) as running, wire.open_running(running) as client:
            task = await client.call_tool("work", task=True)
            other_task = await client.call_tool("other", task=True)
            await trio.sleep(1)
            if how == "is cancelled":
                scope.cancel()
    stored = await store.load(task.id)
    assert stored.holder is None
    assert stored.record.status == "working"
    assert (await store.load(other_task.id)).record.status == "cancelled"
    async with open_server(server) as running:
        record = await running.await_task(task.id)
    assert record.status == "completed"
    assert begun == [1, 2]


async def test_a_task_that_has_not_begun_when_its_server_ends_has_used_no_attempt(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store, max_running=1)
    begun: list[tuple[str, int]] = []

    @server.tool
    async def work(ctx: Context, name: str) -> str:
        begun.append((name, ctx.attempt))
        await trio.sleep(10)
        return name

    async with open_server(server) as running, open_client(running) as client:
        tasks = [await client.call_tool("work", {"name": name}, task=True) for name in ("first", "second")]
        await trio.sleep(1)
    async with open_server(server) as running:
        for task in tasks:
            await running.await_task(task.id)
    assert sorted(begun) == [("first", 1), ("first", 2), ("second", 1)]


async def test_a_task_that_its_client_cancels_is_not_run_again(wire, autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> None:
        begun.append(ctx.attempt)
        await trio.sleep_forever()

    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(1)
        await task.cancel()
    async with open_server(server) as running:
        await trio.sleep(1)
        assert (await running.fetch_task(task.id)).status == "cancelled"
    assert begun == [1]


META = {
    **MODERN_META,
    "io.modelcontextprotocol/clientCapabilities": {
        "elicitation": {},
        "extensions": {"io.modelcontextprotocol/tasks": {}},
    },
    "io.github.trio-mcp/task": True,
}


async def ask(peer: Any, method: str, **params: Any) -> Any:
    answer = await peer.ask(
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    )
    return answer["result"]


def add_greeter(server: Server, asked: list[int]) -> None:
    @server.tool
    async def greet(ctx: Context) -> str:
        asked.append(ctx.attempt)
        first = await ctx.elicit("Who?", Name)
        second = await ctx.elicit("And who else?", Name)
        return f"Hello, {first.data.name} and {second.data.name}!"


def accept(name: str) -> dict[str, Any]:
    return {"action": "accept", "content": {"name": name}}


@pytest.mark.parametrize("way", ["crash", "end"])
@pytest.mark.parametrize("answered", ["in the queue", "in the next server"])
async def test_questions_and_answers_are_kept_over_a_restart(autojump_clock, way, answered):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[int] = []
    add_greeter(server, begun)

    async with open_server(server) as running, raw_peer(running) as peer:
        created = await ask(peer, "tools/call", name="greet")
        task_id = created["taskId"]
        await trio.sleep(1)
        (first,) = (await ask(peer, "tasks/get", taskId=task_id))["inputRequests"]
        await ask(peer, "tasks/update", taskId=task_id, inputResponses={first: accept("Ada")})
        await trio.sleep(1)
        (second,) = (await ask(peer, "tasks/get", taskId=task_id))["inputRequests"]
        assert second != first
        if way == "crash":
            store.crash()
    record = (await store.load(task_id)).record
    assert record.status == "input_required"
    assert list(record.inputs) == [second]
    if answered == "in the queue":
        from msgspec import Raw

        answer = b'{"action":"accept","content":{"name":"Bob"}}'
        await store.answer(task_id, {second: Raw(answer)}, record.last_updated_at)
    async with open_server(server) as running, raw_peer(running) as peer:
        await trio.sleep(1)
        if answered == "in the next server":
            (again,) = (await ask(peer, "tasks/get", taskId=task_id))["inputRequests"]
            assert again == second
            await ask(peer, "tasks/update", taskId=task_id, inputResponses={second: accept("Bob")})
        record = await running.await_task(task_id)
    assert record.status == "completed"
    assert b"Hello, Ada and Bob!" in bytes(record.outcome.result)
    assert begun == [1, 2]


async def test_a_legacy_task_asks_whoever_waits_for_its_result_after_a_restart(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[int] = []
    add_greeter(server, begun)
    names = iter(["Ada", "Bob"])
    seen: list[str] = []

    async def answer(request: Any) -> dict[str, str]:
        seen.append(request.message)
        if len(seen) == 2:
            await trio.sleep_forever()
        return {"name": next(names)}

    async with open_server(server) as running:
        target = running.authenticated("ada")
        async with open_client(target, protocol=LEGACY, elicitation_handler=answer) as client:
            task = await client.call_tool("greet", task=True)
            await trio.sleep(1)
    assert seen == ["Who?", "And who else?"]
    async with open_server(server) as running:
        target = running.authenticated("ada")
        async with open_client(target, protocol=LEGACY, elicitation_handler=answer) as client:
            await trio.sleep(1)
            assert (await running.fetch_task(task.id)).status == "input_required"
            assert (await client.await_task(task.id)).data == "Hello, Ada and Bob!"
    assert seen == ["Who?", "And who else?", "And who else?"]
    assert begun == [1, 2]


async def test_an_attempt_after_a_crash_counts_among_those_of_retry(autojump_clock, caplog):
    store = DurableMemoryStore()
    config = TaskConfig(recover="restart", attempts=3, promote_after=0, retry=Retry(attempts=3, backoff=1))
    server = make_server(store, config)
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> None:
        begun.append(ctx.attempt)
        if ctx.attempt == 1:
            await trio.sleep_forever()
        raise ToolError(f"attempt {ctx.attempt} has failed")

    async with crashing(server, store) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(1)
    async with open_server(server) as running:
        record = await running.await_task(task.id)
    assert begun == [1, 2, 3]
    assert b"attempt 3 has failed" in bytes(record.outcome.result)


async def test_a_tool_that_is_gone_and_arguments_that_fit_no_more_end_a_task_with_an_error(
    autojump_clock, caplog
):
    store = DurableMemoryStore()
    server = make_server(store)

    @server.tool
    async def gone(ctx: Context) -> None:
        await trio.sleep_forever()

    @server.tool
    async def changed(ctx: Context, n: str) -> None:
        await trio.sleep_forever()

    async with crashing(server, store) as running, open_client(running) as client:
        first = await client.call_tool("gone", task=True)
        second = await client.call_tool("changed", {"n": "many"}, task=True)
        await trio.sleep(1)

    server = make_server(store)

    @server.tool(name="changed")
    async def changed_since(ctx: Context, n: int) -> None:
        raise AssertionError

    async with open_server(server) as running:
        record = await running.await_task(first.id)
        assert record.status == "failed"
        assert record.outcome.error.message == (
            "the task cannot be run again: the server has no tool 'gone' any more"
        )
        record = await running.await_task(second.id)
        assert record.outcome.kind == "tool_error"
        assert b"n" in bytes(record.outcome.result)


async def test_what_was_gathered_is_kept_for_the_next_attempt(autojump_clock):
    store = DurableMemoryStore()
    gathered: list[Any] = []

    async def gather(ctx: Context, arguments: dict[str, Any]) -> dict[str, int]:
        return {"answer": 42}

    config = TaskConfig(recover="restart", attempts=2, promote_after=0, gather=gather)
    server = make_server(store, config)

    @server.tool
    async def work(ctx: Context) -> str:
        gathered.append(ctx.gathered)
        if ctx.attempt == 1:
            await trio.sleep_forever()
        return "done"

    async with crashing(server, store) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        await trio.sleep(1)
    async with open_server(server) as running:
        await running.await_task(task.id)
    assert gathered == [{"answer": 42}, {"answer": 42}]


async def test_no_more_tasks_are_claimed_than_may_run(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store, max_running=2, max_queued=10)
    running_now = most = 0

    @server.tool
    async def work(ctx: Context) -> str:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await trio.sleep(10 if ctx.attempt == 1 and running_now <= 2 else 5)
        running_now -= 1
        return "done"

    async with open_server(server) as running, open_client(running) as client:
        tasks = [await client.call_tool("work", task=True) for _ in range(7)]
        await trio.sleep(1)
    running_now = most = 0
    async with open_server(server) as running:
        await trio.sleep(1)
        held = [(await store.load(task.id)).holder is not None for task in tasks]
        assert sum(held) == 2
        for task in tasks:
            assert (await running.await_task(task.id)).status == "completed"
    assert most == 2


async def test_a_detached_handler_sees_its_client_and_logs_to_nobody(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    seen: list[Any] = []

    @server.tool
    async def work(ctx: Context) -> str:
        if ctx.attempt == 1:
            await trio.sleep_forever()
        await ctx.info("to nobody")
        seen.extend(
            [ctx.principal, ctx.protocol_version, dict(ctx.headers), "elicitation" in ctx.client_capabilities]
        )
        return "done"

    async with crashing(server, store) as running:
        target = running.authenticated("ada")
        handler = lambda request: None  # noqa: E731
        async with open_client(target, protocol=MODERN, elicitation_handler=handler) as client:
            task = await client.call_tool("work", task=True)
            await trio.sleep(1)
    async with open_server(server) as running:
        await running.await_task(task.id)
    assert seen == ["ada", MODERN, {}, True]
