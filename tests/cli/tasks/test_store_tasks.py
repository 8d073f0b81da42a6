"""The tasks of a store, with the methods of a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trio
from msgspec import Raw, json

from trio_mcp import (
    MemoryTaskStore,
    ProtocolError,
    TaskCancelled,
    TaskNotFound,
    TaskRecord,
    TaskStatus,
    ToolError,
)
from trio_mcp.cli.tasks.store_tasks import LOOK_SECONDS, PAGE_RECORDS, StoreTasks
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.concurrency.latest_channel import LatestChannel
from trio_mcp.handlers.sink import Progress, detailed
from trio_mcp.tasks.record import BEARER, Outcome, Owner
from trio_mcp.tasks.store import TaskChange
from trio_mcp.wire.frames import ErrorObject

ADA = Owner("principal", "ada")


class Deaf(MemoryTaskStore):
    """A store whose subscriptions miss every change."""

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        await trio.lowlevel.checkpoint()
        yield LatestChannel[TaskRecord]().receive


class Ended(MemoryTaskStore):
    """A store whose subscriptions end at once."""

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        await trio.lowlevel.checkpoint()
        changes = LatestChannel[TaskRecord]()
        changes.close()
        yield changes.receive


def now() -> datetime:
    return datetime.now(UTC)


def record(ident: str, owner: Owner = BEARER, age: float = 0) -> TaskRecord:
    created = now() - timedelta(seconds=age)
    return TaskRecord(
        id=ident, tool="count", owner=owner, created_at=created, last_updated_at=created, ttl=3600
    )


def result(text: str, *, is_error: bool = False) -> Outcome:
    content = {"content": [{"type": "text", "text": text}], "isError": is_error}
    return Outcome("tool_error" if is_error else "result", Raw(json.encode(content)))


async def put(store: MemoryTaskStore, *records: TaskRecord) -> Collection[str]:
    return await store.put([TaskChange(each) for each in records])


async def test_everybodys_tasks_are_listed_newest_first_over_all_pages() -> None:
    store = MemoryTaskStore()
    count = 2 * PAGE_RECORDS + 1
    async with store.open():
        for number in range(count):
            owner = ADA if number % 2 else BEARER
            await store.create(record(f"task-{number}", owner, age=count - number))
        tasks = StoreTasks(store)
        everybodys = await tasks.list_tasks()
        adas = await tasks.list_tasks(ADA)
    assert [task.snapshot.id for task in everybodys] == [f"task-{n}" for n in reversed(range(count))]
    assert [task.snapshot.id for task in adas] == [f"task-{n}" for n in reversed(range(count)) if n % 2]
    assert {(task.tool, task.owner, task.attempt) for task in adas} == {("count", ADA, 1)}


async def test_a_snapshot_of_a_store_has_what_a_client_would_read() -> None:
    store = MemoryTaskStore()
    async with store.open():
        await store.create(record("one").reported(now(), 3, 10, "three"))
        task = await StoreTasks(store).fetch_task("one")
    assert (task.id, task.status, task.current, task.total, task.message) == (
        "one",
        "working",
        3,
        10,
        "three",
    )
    assert (task.ttl, task.has_progress, task.is_final) == (3600, True, False)


@pytest.mark.parametrize("kind", [MemoryTaskStore, Deaf, Ended])
async def test_watching_sees_each_change_and_ends_with_the_task(
    kind: type[MemoryTaskStore], autojump_clock: trio.abc.Clock
) -> None:
    store = kind()
    seen: list[TaskSnapshot] = []
    async with store.open():
        first = record("one")
        await store.create(first)
        async with StoreTasks(store).watch_task("one") as snapshots:
            seen.append(await snapshots.receive())
            second = first.reported(now(), 5, 10, None)
            await put(store, second)
            async for snapshot in snapshots:
                seen.append(snapshot)
                if len(seen) == 2:
                    await put(store, second.moved(TaskStatus.COMPLETED, now(), outcome=result("done")))
    states = [(task.status, task.current) for task in seen]
    assert states[0] == ("working", None)
    assert states[-1] == ("completed", 5)
    assert ("working", 5) in states
    assert trio.current_time() <= 3 * LOOK_SECONDS


@pytest.mark.parametrize("kind", [MemoryTaskStore, Deaf, Ended])
async def test_watching_ends_if_the_task_is_forgotten(
    kind: type[MemoryTaskStore], autojump_clock: trio.abc.Clock
) -> None:
    store = kind()
    async with store.open():
        await store.create(record("one"))
        tasks = StoreTasks(store)
        async with tasks.watch_task("one") as snapshots:
            assert (await snapshots.receive()).status == "working"
            await tasks.forget_task("one")
            assert [snapshot.status async for snapshot in snapshots] in ([], ["working"])
        with pytest.raises(TaskNotFound):
            await tasks.await_task("one")


async def test_leaving_early_ends_the_watching(autojump_clock: trio.abc.Clock) -> None:
    store = MemoryTaskStore()
    async with store.open():
        await store.create(record("one"))
        async with StoreTasks(store).watch_task("one") as snapshots:
            await snapshots.receive()
        with pytest.raises(trio.ClosedResourceError):
            snapshots.receive_nowait()


async def test_a_result_comes_behind_its_progress(autojump_clock: trio.abc.Clock) -> None:
    store = MemoryTaskStore()
    seen: list[Progress] = []
    async with store.open(), trio.open_nursery() as nursery:
        first = record("one").reported(now(), 1, 2, "half")
        await store.create(first)

        async def finish() -> None:
            await trio.sleep(1)
            await put(
                store,
                first.reported(now(), 2, 2, "all").moved(TaskStatus.COMPLETED, now(), outcome=result("42")),
            )

        nursery.start_soon(finish)
        answer = await StoreTasks(store).await_task("one", progress_handler=detailed(seen.append))
    assert answer.text == "42"
    assert [(update.progress, update.message) for update in seen] == [(1, "half"), (2, "all")]


async def test_progress_goes_to_plain_and_to_async_handlers() -> None:
    store = MemoryTaskStore()
    seen: list[float] = []

    async def handle(progress: float, total: float | None, message: str | None) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(progress)

    async with store.open():
        done = record("one").reported(now(), 2, 2, None)
        await store.create(done.moved(TaskStatus.COMPLETED, now(), outcome=result("done")))
        await StoreTasks(store).await_task("one", progress_handler=handle)
        await StoreTasks(store).await_task("one", progress_handler=lambda progress, *_: seen.append(progress))
    assert seen == [2, 2]


async def test_a_task_without_a_number_shows_no_update() -> None:
    store = MemoryTaskStore()
    seen: list[Progress] = []
    async with store.open():
        done = record("one").reported(now(), None, None, "words only")
        await store.create(done.moved(TaskStatus.COMPLETED, now(), outcome=result("done")))
        await StoreTasks(store).await_task("one", progress_handler=detailed(seen.append))
    assert not seen


@pytest.mark.parametrize(
    ("state", "outcome", "error", "words"),
    [
        ("completed", result("it broke", is_error=True), ToolError, "it broke"),
        ("cancelled", Outcome("cancelled"), TaskCancelled, "task one was cancelled"),
        (
            "failed",
            Outcome("protocol_error", error=ErrorObject(-32603, "interrupted")),
            ProtocolError,
            "interrupted",
        ),
    ],
)
async def test_a_task_that_has_failed_raises_as_at_a_client(
    state: str, outcome: Outcome, error: type[Exception], words: str
) -> None:
    store = MemoryTaskStore()
    async with store.open():
        await store.create(record("one").moved(TaskStatus(state), now(), outcome=outcome))
        with pytest.raises(error, match=words):
            await StoreTasks(store).await_task("one")


async def test_what_is_not_there_is_not_found() -> None:
    store = MemoryTaskStore()
    async with store.open():
        tasks = StoreTasks(store)
        for method in (tasks.fetch_task, tasks.await_task, tasks.cancel_task, tasks.forget_task):
            with pytest.raises(TaskNotFound):
                await method("none")
        with pytest.raises(TaskNotFound):
            async with tasks.watch_task("none"):
                pass


async def test_cancelling_moves_the_task_whoever_runs_it_but_not_one_that_has_ended() -> None:
    store = MemoryTaskStore()
    async with store.open():
        await store.create(record("one"))
        await store.create(record("two").moved(TaskStatus.COMPLETED, now(), outcome=result("done")))
        tasks = StoreTasks(store)
        await tasks.cancel_task("one")
        await tasks.cancel_task("two")
        assert (await tasks.fetch_task("one")).status == "cancelled"
        assert (await tasks.fetch_task("two")).status == "completed"
