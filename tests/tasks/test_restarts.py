"""Tasks that another process runs again: after a crash, after a server has ended, and what they find then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from msgspec import Raw

from tests.conftest import LEGACY, MODERN
from tests.support.durable_store import DurableMemoryStore
from tests.support.raw_peer import MODERN_META
from tests.tasks.task_server import Name, raw_peer
from trio_mcp import (
    Context,
    Principal,
    ProtocolError,
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


class WatchfulStore(DurableMemoryStore):
    """Notes how many questions each record has that is put, and answers those of a task that is released."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[int] = []

    async def put(self, changes: Sequence[Any]) -> Any:
        self.questions += [len(change.record.inputs) for change in changes]
        return await super().put(changes)

    async def release(self, record: TaskRecord, claim: int, ready_at: Any = None) -> bool:
        answer = Raw(b'{"action":"accept","content":{"name":"Ada"}}')
        answers = dict.fromkeys((await self.load(record.id)).record.inputs, answer)
        await self.answer(record.id, answers, record.last_updated_at)
        return await super().release(record, claim, ready_at)


@pytest.mark.parametrize("how", ["ends", "is cancelled"])
async def test_a_question_can_be_answered_all_the_time_while_its_server_ends(wire, autojump_clock, how):
    store = WatchfulStore()
    server = make_server(store)
    begun: list[int] = []

    @server.tool
    async def greet(ctx: Context) -> str:
        begun.append(ctx.attempt)
        return f"Hello, {(await ctx.elicit('Who?', Name)).data.name}!"

    async def leave_open(request: Any) -> Any:
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        async with (
            open_server(server) as running,
            wire.open_running(running, elicitation_handler=leave_open) as client,
        ):
            task = await client.call_tool("greet", task=True)
            await trio.sleep(1)
            assert (await client.fetch_task(task.id)).status == "input_required"
            if how == "is cancelled":
                scope.cancel()
    assert 0 not in store.questions[store.questions.index(1) :]
    async with open_server(server) as running:
        record = await running.await_task(task.id)
    assert b"Hello, Ada!" in bytes(record.outcome.result)
    assert begun == [1, 2]


async def test_a_question_for_which_the_handler_waits_no_longer_leaves_the_record(wire, autojump_clock):
    server = make_server(DurableMemoryStore())

    @server.tool
    async def greet(ctx: Context) -> str:
        with trio.move_on_after(5):
            await ctx.elicit("Who?", Name)
        await trio.sleep(10)
        return "Hello, whoever!"

    async def leave_open(request: Any) -> Any:
        await trio.sleep_forever()

    async with (
        open_server(server) as running,
        wire.open_running(running, elicitation_handler=leave_open) as client,
    ):
        task = await client.call_tool("greet", task=True)
        await trio.sleep(1)
        assert (await client.fetch_task(task.id)).status == "input_required"
        await trio.sleep(5)
        record = await running.fetch_task(task.id)
        assert (record.status, dict(record.inputs)) == ("working", {})
        assert (await running.await_task(task.id)).status == "completed"


async def test_an_answer_that_is_an_error_is_kept_for_the_next_attempt(wire, autojump_clock):
    """2025-11-25, where clients answer requests: a client is not asked again what it has refused."""
    if wire.protocol != LEGACY:
        return
    store = DurableMemoryStore()
    server = make_server(store)
    refusals: list[tuple[int, int, str]] = []
    asked: list[str] = []

    @server.tool
    async def greet(ctx: Context) -> str:
        try:
            await ctx.elicit("Who?", Name)
        except ProtocolError as error:
            refusals.append((ctx.attempt, error.code, error.message))
        if ctx.attempt == 1:
            await trio.sleep_forever()
        return "Hello, whoever!"

    def refuse(request: Any) -> Any:
        asked.append(request.message)
        raise ProtocolError(-32050, "nobody is there")

    async with (
        crashing(server, store) as running,
        wire.open_running(running, elicitation_handler=refuse) as client,
    ):
        task = await client.call_tool("greet", task=True)
        await trio.sleep(1)
        assert refusals == [(1, -32050, "nobody is there")]
    async with open_server(server) as running:
        assert (await running.await_task(task.id)).status == "completed"
    assert refusals == [(n, -32050, "nobody is there") for n in (1, 2)]
    assert asked == ["Who?"]


async def test_a_call_with_a_key_is_run_again_as_any_task_and_is_still_one(wire, autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    begun: list[int] = []
    key = "5f2b9c1e-7a34-4c1d-9b60-2f8f3f0c9d11"

    @server.tool
    async def work(ctx: Context, n: int) -> str:
        begun.append(ctx.attempt)
        await trio.sleep(10)
        return f"done {n} at {ctx.attempt}"

    async with crashing(server, store) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", {"n": 3}, task=True, idempotency_key=key)
        await trio.sleep(1)
    async with open_server(server) as running, wire.open_running(running) as client:
        await trio.sleep(1)
        again = await client.call_tool("work", {"n": 3}, task=True, idempotency_key=key)
        assert again.id == task.id
        assert (await again.result()).data == "done 3 at 2"
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


@attrs.frozen
class Wish:
    size: int
    colours: frozenset[str]


WISH = Wish(7, frozenset({"red"}))


async def gather_wish(ctx: Context, arguments: dict[str, Any]) -> Wish:
    return WISH


async def gather_anything(ctx: Context, arguments: dict[str, Any]):
    return WISH


@pytest.mark.parametrize(
    ("gather", "second"), [(gather_wish, WISH), (gather_anything, {"size": 7, "colours": ["red"]})]
)
async def test_what_was_gathered_is_kept_for_the_next_attempt(autojump_clock, gather, second):
    """As the type of the annotation of `gather`, or as JSON values if it has none."""
    store = DurableMemoryStore()
    gathered: list[Any] = []

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
    assert gathered == [WISH, second]


async def test_what_was_gathered_in_another_shape_ends_the_task_with_an_error(autojump_clock):
    store = DurableMemoryStore()

    async def gather_text(ctx: Context, arguments: dict[str, Any]) -> str:
        return "red"

    def make(gather: Any) -> Server:
        config = TaskConfig(recover="restart", attempts=2, promote_after=0, gather=gather)
        server = make_server(store, config)

        @server.tool
        async def work() -> None:
            await trio.sleep_forever()

        return server

    async with crashing(make(gather_text), store) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
    async with open_server(make(gather_wish)) as running:
        record = await running.await_task(task.id)
    assert record.status == "failed"
    assert "the task cannot be run again: what gather has returned is no" in record.outcome.error.message


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
            [
                str(ctx.principal),
                ctx.protocol_version,
                dict(ctx.headers),
                "elicitation" in ctx.client_capabilities,
            ]
        )
        return "done"

    async with crashing(server, store) as running:
        target = running.authenticated("ada")
        async with open_client(target, protocol=MODERN, elicitation_handler=lambda request: None) as client:
            task = await client.call_tool("work", task=True)
            await trio.sleep(1)
    async with open_server(server) as running:
        await running.await_task(task.id)
    assert seen == ["ada", MODERN, {}, True]


async def test_a_detached_handler_is_limited_as_its_client_was(autojump_clock):
    store = DurableMemoryStore()
    server = make_server(store)
    seen: list[Any] = []

    @server.tool(scopes=["admin"])
    async def purge() -> None:
        seen.append("purged")

    @server.tool
    async def work(ctx: Context) -> str:
        if ctx.attempt == 1:
            await trio.sleep_forever()
        assert ctx.principal is not None
        seen.append((ctx.principal.name, ctx.principal.scopes))
        with pytest.raises(ProtocolError, match="admin"):
            await ctx.call_tool("purge")
        return "done"

    async with crashing(server, store) as running:
        target = running.authenticated(Principal("ada", scopes=["work"]))
        async with open_client(target, protocol=MODERN) as client:
            task = await client.call_tool("work", task=True)
            await trio.sleep(1)
    async with open_server(server) as running:
        assert (await running.await_task(task.id)).status == "completed"
    assert seen == [("ada", {"work"})]
