"""How live tasks are put: who waits for what, if a put fails, is cancelled, or finds a task lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.limits import HANG_SECONDS
from trio_mcp import Context, MemoryTaskStore, Server, TaskOverload, open_client
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.clock import TaskClock
from trio_mcp.tasks.flusher import Flusher
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import BEARER, TaskRecord, utc_now
from trio_mcp.tasks.store import TaskChange


class Puts:
    """A store's `put`, which waits for `gate`, raises `error` once, and says that `lost` are lost."""

    def __init__(self) -> None:
        self.calls: list[Sequence[TaskChange]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.too_large: set[str] = set()
        self.lost: set[str] = set()

    async def __call__(self, changes: Sequence[TaskChange]) -> Collection[str]:
        self.calls.append(changes)
        await self.gate.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        if any(change.record.id in self.too_large for change in changes):
            raise TaskOverload("too large")
        return self.lost


def make_live(flusher: Flusher, name: str) -> LiveTask:
    now = utc_now()
    record = TaskRecord(id=name, tool="work", owner=BEARER, created_at=now, last_updated_at=now)
    live = LiveTask(record, TaskClock())
    live.add_follower(flusher)
    live.note_committed()
    return live


def make_flusher(puts: Puts, limit: int = 10) -> tuple[Flusher, list[LiveTask]]:
    lost: list[LiveTask] = []
    return Flusher(puts, 1.0, limit, TaskClock(), lost.append), lost


def reported(changes: Sequence[TaskChange]) -> list[Any]:
    return [[report.current for report in change.reports] for change in changes]


async def test_changes_of_status_that_come_meanwhile_share_the_next_put(autojump_clock, nursery):
    puts = Puts()
    flusher, _ = make_flusher(puts)
    lives = [make_live(flusher, str(number)) for number in range(4)]
    puts.gate = trio.Event()
    for live in lives:
        nursery.start_soon(flusher.put, live, live.record)
        await wait_all_tasks_blocked()
    puts.gate.set()
    await wait_all_tasks_blocked()
    assert [len(changes) for changes in puts.calls] == [1, 3]


async def test_a_put_that_fails_keeps_the_newest_reports(autojump_clock, nursery):
    puts = Puts()
    flusher, _ = make_flusher(puts, limit=3)
    live = make_live(flusher, "t")
    puts.error = TaskStoreError("away")
    live.report(1, None, None)
    live.report(2, None, None)
    nursery.start_soon(flusher.run)
    await wait_all_tasks_blocked()
    live.report(3, None, None)
    live.report(4, None, None)
    await trio.sleep(2)
    assert [reported(changes) for changes in puts.calls] == [[[1, 2]], [[2, 3, 4]]]
    assert live.stored is not None
    assert live.stored.progress is not None
    assert live.stored.progress.current == 4
    nursery.cancel_scope.cancel()


async def test_who_waits_gets_the_error_of_the_put_in_which_its_task_was(autojump_clock):
    puts = Puts()
    flusher, _ = make_flusher(puts)
    live = make_live(flusher, "t")
    puts.error = TaskStoreError("away")
    with pytest.raises(TaskStoreError, match="away"):
        await flusher.put(live, live.record)
    assert await flusher.put(live, live.record)


async def test_a_record_that_is_too_large_holds_up_no_other(autojump_clock, nursery):
    puts = Puts()
    flusher, _ = make_flusher(puts)
    large, other = make_live(flusher, "large"), make_live(flusher, "other")
    puts.too_large.add("large")
    other.report(1, None, None)
    large.report(1, None, None)
    nursery.start_soon(flusher.run)
    await trio.sleep(5)
    assert other.stored is not None
    assert large.stored is None
    with pytest.raises(TaskOverload):
        await flusher.put(large, large.record)
    nursery.cancel_scope.cancel()


async def test_a_put_whose_caller_is_cancelled_is_made_for_the_others(autojump_clock, nursery):
    puts = Puts()
    flusher, _ = make_flusher(puts)
    live, other = make_live(flusher, "t"), make_live(flusher, "other")
    puts.gate = trio.Event()
    scope = trio.CancelScope()

    async def put_and_leave() -> None:
        with scope:
            await flusher.put(live, live.record)

    nursery.start_soon(flusher.run)
    nursery.start_soon(put_and_leave)
    await wait_all_tasks_blocked()
    nursery.start_soon(flusher.put, other, other.record)
    nursery.start_soon(flusher.put, live, live.record)
    await wait_all_tasks_blocked()
    scope.cancel()
    puts.gate.set()
    await trio.sleep(5)
    assert live.stored is not None
    assert other.stored is not None
    nursery.cancel_scope.cancel()


async def test_who_waits_for_a_put_of_a_forgotten_task_goes_on(autojump_clock, nursery):
    puts = Puts()
    flusher, lost = make_flusher(puts)
    first, second = make_live(flusher, "first"), make_live(flusher, "second")
    puts.gate = trio.Event()
    nursery.start_soon(flusher.put, first, first.record)
    await wait_all_tasks_blocked()
    held: list[bool] = []

    async def put() -> None:
        held.append(await flusher.put(second, second.record))

    nursery.start_soon(put)
    await wait_all_tasks_blocked()
    flusher.forget(second)
    with trio.fail_after(HANG_SECONDS):
        await wait_all_tasks_blocked()
    assert held == [False]
    assert lost == []
    puts.gate.set()


async def test_progress_of_a_lost_task_is_told_and_a_change_of_status_returns_it(autojump_clock, nursery):
    puts = Puts()
    flusher, lost = make_flusher(puts)
    live = make_live(flusher, "t")
    puts.lost.add("t")
    assert not await flusher.put(live, live.record)
    assert lost == []
    live.report(1, None, None)
    nursery.start_soon(flusher.run)
    await wait_all_tasks_blocked()
    assert lost == [live]
    nursery.cancel_scope.cancel()


class HangingStore(MemoryTaskStore):
    """Does not answer to its first puts, as many as `hangs` says."""

    def __init__(self, hangs: int) -> None:
        super().__init__()
        self.write_behind, self.put_timeout, self.sweep_interval = 0.2, 3.0, 60.0
        self.hangs = hangs

    async def put(self, changes: Sequence[TaskChange]) -> Collection[str]:
        if self.hangs:
            self.hangs -= 1
            await trio.sleep_forever()
        return await super().put(changes)


async def test_a_store_that_hangs_holds_up_all_tasks_no_longer_than_it_says(autojump_clock, caplog):
    store = HangingStore(hangs=3)
    server = Server("hanging", task_store=store)

    @server.tool(task=True)
    async def work(ctx: Context, parts: int) -> int:
        for part in range(parts):
            await ctx.report_progress(part + 1, parts)
        return parts

    async with open_client(server) as client:
        begin = trio.current_time()
        tasks = [await client.call_tool("work", {"parts": parts}, task=True) for parts in (1, 20)]
        assert [(await task.result()).data for task in tasks] == [1, 20]
        # A task that waits for its own put may give up sooner.
        assert 2 * store.put_timeout < trio.current_time() - begin < 4 * store.put_timeout
        for task in tasks:
            assert store.hangs == 0
            assert await store.read_reports(task.id, 0, 1), "what was reported meanwhile is put as well"
    assert [record.getMessage() for record in caplog.records if record.name.startswith("trio_mcp")] == [
        "the task store fails: the task store did not take changes within 3 s",
        "the task store works again",
    ]
