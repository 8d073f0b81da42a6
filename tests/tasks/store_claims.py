"""The suite of all stores: who holds a task, the queue, and what comes under another claim."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from msgspec import Raw
from msgspec.structs import replace

from tests.support.limits import HANG_SECONDS
from tests.tasks.store_cases import (
    ALICE,
    NOW,
    SECOND,
    UNICODE,
    WORK,
    OpenStore,
    StoreCases,
    completed,
    create_many,
    held,
    make_record,
    put,
    read_list,
    read_until,
    report,
)
from trio_mcp.errors import TaskTooLarge
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.record import (
    utc_now,
)
from trio_mcp.tasks.store import TaskChange, TaskStore

TOOLS = {"tool"}


class ClaimCases(StoreCases):
    """create, claim, release and put: who holds a task, and under which claim."""

    # fencing

    async def test_whoever_creates_a_task_holds_it_under_claim_1(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        task = await store.load(record.id)
        assert task is not None
        assert (task.record, task.claim, task.holder is not None) == (record, 1, True)
        assert not await put(store, record.changed(NOW)), "it is not lost"

    async def test_a_task_that_is_final_from_the_start_is_held_by_nobody(self, store: TaskStore) -> None:
        task = await store.create(completed(make_record()))
        assert task.holder is None
        assert await put(store, task.record.changed(NOW)) == [task.record.id] or {task.record.id}
        assert await store.get(task.record.id, NOW) == task.record

    @pytest.mark.parametrize("claim", [0, 2, 7])
    async def test_another_claim_changes_nothing(self, store: TaskStore, claim: int) -> None:
        record = await held(store, make_record())
        async with store.subscribe(record.id) as changes:
            lost = await store.put([TaskChange(completed(record), claim, [report(1)], checkpoint=Raw(b"1"))])
            assert list(lost) == [record.id]
            task = await store.load(record.id)
            assert task is not None
            assert (task.record, task.claim, task.checkpoint, task.offset) == (record, 1, None, 0)
            await put(store, record.changed(NOW))
            assert (await read_until(changes, 1)).status is Status.WORKING

    async def test_lost_are_those_that_are_not_held_final_or_not_there(self, store: TaskStore) -> None:
        kept, queued, final, gone, other = [make_record() for _ in range(5)]
        for record in (kept, final, gone, other):
            await held(store, record)
        await store.create(queued, is_queued=True)
        await put(store, completed(final))
        await store.delete(gone.id)
        lost = await store.put(
            [
                *(TaskChange(record.changed(NOW)) for record in (queued, kept, gone)),
                TaskChange(final.moved(Status.FAILED, NOW).changed(NOW)),
                TaskChange(other.changed(NOW), claim=2),
            ]
        )
        assert sorted(lost) == sorted(record.id for record in (queued, final, gone, other))
        assert await store.get(kept.id, NOW) == kept.changed(NOW)
        assert await store.get(final.id, NOW) == completed(final)
        for record in (queued, other):
            assert await store.get(record.id, NOW) == record

    async def test_nobody_holds_a_task_that_has_ended(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        await put(store, completed(record))
        task = await store.load(record.id)
        assert task is not None
        assert task.holder is None
        assert list(await put(store, record.changed(NOW).changed(NOW).changed(NOW))) == [record.id]

    async def test_one_put_may_hold_several_versions_of_a_task(self, store: TaskStore) -> None:
        """They count in their order: an older one behind a newer one changes nothing."""
        record, other = await create_many(store, 2)
        final = replace(completed(other), version=2)
        lost = await store.put(
            [
                TaskChange(replace(record, version=2, status_message="newest")),
                TaskChange(replace(record, version=1, status_message="older")),
                TaskChange(other.changed(NOW)),
                TaskChange(final),
                TaskChange(replace(other, version=9, status_message="behind the end")),
            ]
        )
        assert list(lost) == [other.id]
        found = await store.get(record.id, NOW)
        assert found is not None
        assert (found.version, found.status_message) == (2, "newest")
        assert await store.get(other.id, NOW) == final

    async def test_of_a_put_with_a_record_that_is_too_large_none_is_kept(self, open_store: OpenStore) -> None:
        async with open_store(max_record_bytes=10) as store:
            first, second = await create_many(store, 2)
            with pytest.raises(TaskTooLarge):
                await store.put(
                    [
                        TaskChange(first.changed(NOW)),
                        TaskChange(second.changed(NOW, status_message="x" * 11)),
                    ]
                )
            assert await read_list(store, ALICE, 5) == [second, first]

    async def test_a_put_of_nothing_is_nothing(self, store: TaskStore) -> None:
        assert not await store.put([])

    # the queue

    async def test_a_queued_task_is_claimed(self, store: TaskStore) -> None:
        record = make_record(attempt=0)
        task = await store.create(record, WORK, is_queued=True)
        assert (task.record, task.holder, task.claim, task.work) == (record, None, 0, WORK)
        (task,) = await store.claim(TOOLS, 10, NOW + SECOND)
        assert task.record == record.changed(NOW + SECOND, attempt=1)
        assert (task.claim, task.holder is not None, task.work) == (1, True, WORK)
        assert await store.load(record.id) == task
        assert await store.get(record.id, NOW) == task.record
        assert not await put(store, completed(task.record), claim=1)
        assert await store.claim(TOOLS, 10, NOW) == []

    async def test_claiming_is_told_to_subscribers(self, store: TaskStore) -> None:
        record = make_record(attempt=0)
        await store.create(record, is_queued=True)
        async with store.subscribe(record.id) as changes:
            await store.claim(TOOLS, 1, NOW)
            assert (await read_until(changes, 1)).attempt == 1

    async def test_the_oldest_is_claimed_first(self, store: TaskStore) -> None:
        records = [make_record(created_at=NOW + i * SECOND) for i in range(7)]
        for record in records:
            await store.create(record, is_queued=True)
        claimed = []
        for limit in (3, 1, 5):
            claimed.append([task.record.id for task in await store.claim(TOOLS, limit, NOW + 9 * SECOND)])
        ids = [record.id for record in records]
        assert claimed == [ids[:3], ids[3:4], ids[4:]]

    async def test_only_tasks_of_the_tools_are_claimed(self, store: TaskStore) -> None:
        records = [make_record(tool=tool) for tool in ("a", "b", UNICODE, "a", "c")]
        for record in records:
            await store.create(record, is_queued=True)
        assert await store.claim({"d", ""}, 9, NOW) == []
        assert await store.claim(set(), 9, NOW) == []
        assert [task.record.id for task in await store.claim({"b", UNICODE}, 9, NOW)] == [
            records[1].id,
            records[2].id,
        ]
        assert [task.record.id for task in await store.claim({"a", "c"}, 9, NOW)] == [
            records[i].id for i in (0, 3, 4)
        ]

    async def test_a_held_task_is_not_claimed(self, store: TaskStore) -> None:
        await held(store, make_record())
        assert await store.claim(TOOLS, 9, NOW) == []

    async def test_an_expired_task_is_not_claimed(self, store: TaskStore) -> None:
        await store.create(make_record(ttl=10), is_queued=True)
        kept = make_record()
        await store.create(kept, is_queued=True)
        assert [task.record.id for task in await store.claim(TOOLS, 9, NOW + 10 * SECOND)] == [kept.id]

    async def test_what_is_deleted_or_cancelled_is_not_claimed(self, store: TaskStore) -> None:
        deleted, cancelled, expired = make_record(), make_record(), make_record(ttl=1)
        for record in (deleted, cancelled, expired):
            await store.create(record, is_queued=True)
        await store.delete(deleted.id)
        await store.cancel(cancelled.id, NOW)
        await store.delete_expired(NOW + SECOND)
        assert await store.claim(TOOLS, 9, NOW) == []

    async def test_each_task_is_claimed_once(self, store: TaskStore) -> None:
        for i in range(30):
            await store.create(make_record(created_at=NOW + i * SECOND), is_queued=True)
        claimed: list[str] = []

        async def claim() -> None:
            claimed.extend(task.record.id for task in await store.claim(TOOLS, 4, NOW + 99 * SECOND))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(claim)
        assert len(claimed) == len(set(claimed)) == 30

    # release

    async def test_a_released_task_is_claimed_again(self, store: TaskStore) -> None:
        record = await held(store, make_record(), WORK)
        await store.put([TaskChange(record.changed(NOW), 1, [report(7)], Raw(b"[1]"))])
        released = record.reported(NOW, 1, 2, "so far").changed(NOW)
        assert await store.release(released, 1)
        task = await store.load(record.id)
        assert task is not None
        assert (task.record, task.holder, task.claim) == (released, None, 1)
        assert list(await put(store, completed(released), claim=1)) == [record.id], "it is not held any more"
        (task,) = await store.claim(TOOLS, 1, NOW)
        assert task.record == released.changed(NOW, attempt=2)
        assert (task.claim, task.work, task.checkpoint, task.offset) == (2, WORK, Raw(b"[1]"), 7)
        assert list(await put(store, completed(task.record), claim=1)) == [record.id]
        assert not await put(store, completed(task.record), claim=2)

    @pytest.mark.parametrize("claim", [0, 2])
    async def test_only_the_holder_releases(self, store: TaskStore, claim: int) -> None:
        record = await held(store, make_record())
        final = await held(store, make_record())
        await put(store, completed(final))
        assert not await store.release(record.changed(NOW), claim)
        assert not await store.release(final.changed(NOW).changed(NOW), 1)
        assert not await store.release(make_record(), 1)
        assert await store.claim(TOOLS, 9, NOW) == []
        assert await store.get(record.id, NOW) == record

    async def test_releasing_is_told_to_subscribers(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        async with store.subscribe(record.id) as changes:
            await store.release(record.changed(NOW, status_message="waits"), 1)
            assert (await read_until(changes, 1)).status_message == "waits"

    async def test_a_released_record_may_not_be_too_large(self, open_store: OpenStore) -> None:
        async with open_store(max_record_bytes=10) as store:
            record = await held(store, make_record())
            with pytest.raises(TaskTooLarge):
                await store.release(record.changed(NOW, status_message="x" * 11), 1)
            assert not await put(store, record.changed(NOW)), "it is still held"

    async def test_a_released_task_waits_until_it_is_ready(self, store: TaskStore) -> None:
        """By the time of this machine, since a store on a server has a clock of its own."""
        soon, late = await held(store, make_record()), await held(store, make_record())
        now = utc_now()
        await store.release(soon.changed(now), 1, now - SECOND)
        await store.release(late.changed(now), 1, now + 3600 * SECOND)
        task = await store.load(late.id)
        assert task is not None
        assert task.ready_at == now + 3600 * SECOND
        (claimed,) = await store.claim(TOOLS, 9, now)
        assert (claimed.record.id, claimed.ready_at) == (soon.id, None)

    # wait_claimable

    async def test_waiting_ends_at_once_if_something_is_ready(self, store: TaskStore) -> None:
        await store.create(make_record(), is_queued=True)
        with trio.fail_after(HANG_SECONDS):
            await store.wait_claimable(TOOLS, utc_now())

    @pytest.mark.parametrize("how", ["create", "release"])
    async def test_waiting_ends_when_a_task_is_queued(self, store: TaskStore, how: str) -> None:
        record = await held(store, make_record())
        claimed: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim_one, store, claimed)
            await trio.testing.wait_all_tasks_blocked()
            if how == "create":
                record = make_record()
                await store.create(record, is_queued=True)
            else:
                await store.release(record.changed(NOW), 1)
        assert claimed == [record.id]

    async def test_waiting_ends_when_a_task_is_ready(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        await store.release(record.changed(NOW), 1, utc_now() + SECOND / 20)
        claimed: list[str] = []
        await claim_one(store, claimed)
        assert claimed == [record.id]

    async def test_waiting_goes_on_without_a_task_of_the_tools(self, store: TaskStore) -> None:
        await store.create(make_record(tool="other"), is_queued=True)
        record = await held(store, make_record())
        await store.release(record.changed(NOW), 1, utc_now() + 3600 * SECOND)
        claimed: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim_one, store, claimed)
            await trio.testing.wait_all_tasks_blocked()
            assert not claimed
            nursery.cancel_scope.cancel()


async def claim_one(store: TaskStore, claimed: list[str]) -> None:
    """Wait for one task and claim it, as a worker does."""
    with trio.fail_after(HANG_SECONDS):
        while not claimed:
            claimed.extend(task.record.id for task in await store.claim(TOOLS, 1, utc_now()))
            if not claimed:
                await store.wait_claimable(TOOLS, utc_now())
