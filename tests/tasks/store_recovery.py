"""The suite of all stores: what outlives a process, and what becomes of its tasks."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from msgspec import Raw
from msgspec.structs import replace

from tests.support.limits import HANG_SECONDS
from tests.tasks.store_cases import (
    ALICE,
    ASKED,
    NOW,
    SECOND,
    UNICODE,
    WORK,
    NewStore,
    StoreCases,
    completed,
    create_many,
    held,
    make_record,
    put,
    read_until,
    report,
)
from trio_mcp.tasks.record import (
    Outcome,
    TaskRecord,
    utc_now,
)
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.recovery import INTERRUPTED
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_task import TaskWork
from trio_mcp.wire.frames import ErrorObject

TOOLS = {"tool"}
RESTART = replace(WORK, recover="restart", attempts=3)


class RecoveryCases(StoreCases):
    """recover: what becomes of the tasks of a process that has died, and what outlives it."""

    async def test_what_is_kept_is_there_when_the_store_is_opened_again(self, new_store: NewStore) -> None:
        store = new_store()
        async with store.open():
            first, second, third = await create_many(store, 3)
            await put(store, completed(first))
            await store.put([TaskChange(second.reported(NOW, 1, 2, UNICODE), 1, [report(5)], Raw(b"{}"))])
            cursor = (await store.list_page(ALICE, None, 2, NOW)).next_cursor
            tasks = [await store.load(record.id) for record in (first, second, third)]
        async with store.open():
            assert [await store.load(record.id) for record in (first, second, third)] == tasks
            assert list((await store.list_page(ALICE, cursor, 2, NOW)).records) == [completed(first)]
            assert await store.read_reports(second.id, 0, 9) == [report(5)]

    async def test_a_task_is_not_held_any_more_when_the_store_is_opened_again(
        self, new_store: NewStore
    ) -> None:
        store = new_store()
        async with store.open():
            record = await held(store, make_record())
        async with store.open():
            assert list(await put(store, completed(record))) == [record.id]
            assert not await store.release(record.changed(NOW), 1)
            assert await store.get(record.id, NOW) == record

    @pytest.mark.parametrize("work", [None, WORK], ids=["no work", "fail"])
    async def test_a_task_of_a_dead_process_fails(self, new_store: NewStore, work: TaskWork | None) -> None:
        store = new_store()
        async with store.open():
            record = await held(store, make_record(), work)
            record = record.reported(NOW, 0.25, 1, UNICODE).moved(Status.INPUT_REQUIRED, NOW, inputs=ASKED)
            await store.put([TaskChange(record, 1, [report(3)], Raw(b"1"))])
            await store.answer(record.id, {"a": Raw(b"1")}, NOW)
        async with store.open():
            async with store.subscribe(record.id) as changes:
                (failed,) = await store.recover(NOW + SECOND)
                assert await read_until(changes, failed.version) == failed
            assert (failed.status, failed.version) == (Status.FAILED, record.version + 1)
            assert failed.last_updated_at == NOW + SECOND
            assert failed.outcome == Outcome("protocol_error", error=ErrorObject(-32603, INTERRUPTED))
            assert failed.progress == record.progress, "the last progress is kept"
            assert not failed.inputs
            task = await store.load(record.id)
            assert task is not None
            assert task.record == failed
            assert (task.work, task.holder, task.checkpoint, dict(task.answers)) == (None, None, None, {})
            assert await store.read_reports(record.id, 0, 9) == [report(3)]
            assert await store.recover(NOW + 2 * SECOND) == []

    async def test_a_task_that_may_be_run_again_is_queued(self, new_store: NewStore) -> None:
        store = new_store()
        async with store.open():
            record = await held(store, make_record(), RESTART)
            record = record.reported(NOW, 1, 2, None).moved(Status.INPUT_REQUIRED, NOW, inputs=ASKED)
            await store.put([TaskChange(record, 1, [report(3)], Raw(b'"here"'))])
            await store.answer(record.id, {"a": Raw(b"1")}, NOW)
        async with store.open():
            (queued,) = await store.recover(NOW + SECOND)
            assert queued == record.changed(NOW + SECOND)
            assert await store.recover(NOW + SECOND) == []
            (task,) = await store.claim(TOOLS, 9, NOW + 2 * SECOND)
            assert task.record == queued.changed(NOW + 2 * SECOND, attempt=2)
            assert (task.claim, task.work, task.checkpoint) == (2, RESTART, Raw(b'"here"'))
            assert (dict(task.answers), task.offset) == ({"a": Raw(b"1")}, 3)
            assert list(await put(store, completed(task.record), claim=1)) == [record.id]
            assert not await put(store, completed(task.record), claim=2)

    @pytest.mark.parametrize("work", [WORK, RESTART], ids=["fail", "restart"])
    async def test_a_task_that_was_claimed_and_not_begun_is_queued(
        self, new_store: NewStore, work: TaskWork
    ) -> None:
        """Its process died before the attempt was counted, which is before the handler begins."""
        store = new_store()
        async with store.open():
            record = await held(store, make_record(attempt=0), work)
        async with store.open():
            assert list(await store.recover(NOW + SECOND)) == [record.changed(NOW + SECOND)]
            (task,) = await store.claim(TOOLS, 9, NOW + 2 * SECOND)
            assert (task.record.attempt, task.claim, task.work) == (1, 2, work)

    async def test_a_recovered_task_wakes_who_waits_for_one(self, new_store: NewStore) -> None:
        store = new_store()
        async with store.open():
            await held(store, make_record(), RESTART)
        async with store.open(), trio.open_nursery() as nursery:

            async def wait() -> None:
                with trio.fail_after(HANG_SECONDS):
                    while not await store.claim(TOOLS, 1, utc_now()):
                        await store.wait_claimable(TOOLS, utc_now())

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await store.recover(NOW)

    async def test_a_task_that_kills_its_process_is_not_run_for_ever(self, new_store: NewStore) -> None:
        store = new_store()
        async with store.open():
            record = await held(store, make_record(), RESTART)
        for attempt in (2, 3):
            async with store.open():
                (queued,) = await store.recover(NOW)
                assert not queued.is_final
                (task,) = await store.claim(TOOLS, 1, NOW)
                assert (task.record.attempt, task.claim) == (attempt, attempt)
        async with store.open():
            (failed,) = await store.recover(NOW)
            assert (failed.id, failed.status, failed.attempt) == (record.id, Status.FAILED, 3)
            assert failed.status_message == f"{INTERRUPTED} (attempt 3 of 3)"
            assert await store.claim(TOOLS, 1, NOW) == []

    async def test_only_tasks_of_dead_processes_are_recovered(self, new_store: NewStore) -> None:
        store = new_store()
        async with store.open():
            final, expired, released, dead = [make_record(ttl=ttl) for ttl in (None, 10, None, None)]
            for record in (final, expired, released, dead):
                await held(store, record, WORK)
            await put(store, completed(final))
            await store.release(released.changed(NOW), 1)
            queued = make_record(attempt=0)
            await store.create(queued, WORK, is_queued=True)
        async with store.open():
            mine = await held(store, make_record(), WORK)
            recovered = await store.recover(NOW + 10 * SECOND)
            assert [record.id for record in recovered] == [dead.id]
            assert not await put(store, mine.changed(NOW)), "it is still held"
            assert await store.get(final.id, NOW) == completed(final)
            claimed = await store.claim(TOOLS, 9, NOW)
            assert {task.record.id for task in claimed} == {queued.id, released.id}
            assert await store.recover(NOW + 10 * SECOND) == [], "what was claimed here is held here"

    async def test_many_tasks_are_recovered_once(self, new_store: NewStore) -> None:
        store = new_store()
        async with store.open():
            works = [RESTART if i % 2 else WORK for i in range(50)]
            records = [await held(store, make_record(), work) for work in works]
        recovered: list[TaskRecord] = []
        async with store.open():

            async def recover() -> None:
                recovered.extend(await store.recover(NOW))

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(recover)
            assert sorted(record.id for record in recovered) == sorted(record.id for record in records)
            assert sum(record.is_final for record in recovered) == 25
            assert len(await store.claim(TOOLS, 100, NOW)) == 25
