"""The suite of all stores: who subscribes is told of changes."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from tests.support.limits import HANG_SECONDS
from tests.tasks.store_cases import (
    ENDED,
    NOW,
    SECOND,
    UNICODE,
    StoreCases,
    assert_ended,
    completed,
    create_many,
    make_record,
    put,
    read_until,
)
from trio_mcp.tasks.record import (
    TaskRecord,
    new_task_id,
)
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.store import TaskStore


class SubscriptionCases(StoreCases):
    """subscribe."""

    async def test_a_subscriber_is_told_of_changes_from_then_on(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        first = record.reported(NOW, 1, 3, "first")
        await put(store, first)
        async with store.subscribe(record.id) as changes:
            for _ in range(3):
                first = first.reported(NOW, first.version + 1, 3, UNICODE)
                await put(store, first)
                with trio.fail_after(HANG_SECONDS):
                    assert await changes.receive() == first

    async def test_a_waiting_subscriber_is_woken(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        async with store.subscribe(record.id) as changes, trio.open_nursery() as nursery:
            nursery.start_soon(read_until, changes, 1)
            await trio.testing.wait_all_tasks_blocked()
            await put(store, record.changed(NOW))

    async def test_a_slow_subscriber_gets_the_newest(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        async with store.subscribe(record.id) as changes:
            for last in (50, 100):
                while record.version < last:
                    record = record.reported(NOW, record.version + 1, 100, None)
                    await put(store, record)
                assert await read_until(changes, last) == record

    async def test_what_is_ignored_is_not_shown(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        async with store.subscribe(record.id) as changes:
            newer, final = replace(record, version=5), replace(completed(record), version=6)
            await put(store, newer)
            await put(store, replace(record, version=4))
            assert await read_until(changes, 5) == newer
            await put(store, final)
            await put(store, replace(record, version=7))
            assert await read_until(changes, 6) == final

    async def test_every_subscriber_sees_every_change(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        async with (
            store.subscribe(record.id) as first,
            store.subscribe(record.id) as second,
            store.subscribe(record.id) as third,
        ):
            for _ in range(3):
                record = record.changed(NOW)
                await put(store, record)
                for changes in (first, second, third):
                    assert await read_until(changes, record.version) == record

    async def test_a_subscriber_sees_one_task(self, store: TaskStore) -> None:
        mine, other = await create_many(store, 2)
        async with store.subscribe(mine.id) as changes:
            await put(store, replace(other, version=9))
            await put(store, mine.changed(NOW))
            assert (await read_until(changes, 1)).id == mine.id

    @pytest.mark.parametrize("status", ENDED)
    async def test_the_final_record_is_delivered(self, store: TaskStore, status: Status) -> None:
        record = make_record(ttl=10)
        await store.create(record)
        async with store.subscribe(record.id) as slow, store.subscribe(record.id) as changes:
            for _ in range(10):
                record = record.changed(NOW)
                await put(store, record)
            final = record.moved(status, NOW, status_message="ended")
            await put(store, final)
            assert await read_until(changes, final.version) == final
            await store.delete_expired(NOW + 10 * SECOND)
            assert await read_until(slow, final.version) == final, "also when it is gone already"
            await assert_ended(slow)
            await assert_ended(changes)

    async def test_a_waiting_subscriber_ends_with_the_record(self, store: TaskStore) -> None:
        record = make_record(ttl=10)
        await store.create(record)
        async with store.subscribe(record.id) as changes, trio.open_nursery() as nursery:
            nursery.start_soon(assert_ended, changes)
            await trio.testing.wait_all_tasks_blocked()
            await store.delete_expired(NOW + 10 * SECOND)

    async def test_without_a_record_there_are_no_changes(self, store: TaskStore) -> None:
        async with store.subscribe(new_task_id()) as changes:
            await assert_ended(changes)

    async def test_a_subscription_is_to_one_life_of_an_id(self, store: TaskStore) -> None:
        record = make_record(ttl=10)
        async with store.subscribe(record.id) as early:
            await store.create(record)
            async with store.subscribe(record.id) as changes:
                await store.delete_expired(NOW + 10 * SECOND)
                await store.create(record)
                await put(store, record.changed(NOW))
                await assert_ended(early)
                await assert_ended(changes)

    async def test_a_cancelled_subscriber_leaves_nothing(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        channels: list[trio.MemoryReceiveChannel[TaskRecord]] = []

        async def watch(scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                async with store.subscribe(record.id) as changes:
                    channels.append(changes)
                    task_status.started()
                    async for _ in changes:
                        pass

        async with store.subscribe(record.id) as kept:
            scopes = [trio.CancelScope() for _ in range(10)]
            async with trio.open_nursery() as nursery:
                for scope in scopes:
                    await nursery.start(watch, scope)
                await trio.testing.wait_all_tasks_blocked()
                for scope in scopes:
                    scope.cancel()
            assert len(channels) == 10
            for changes in channels:
                left = changes.statistics()
                assert (left.open_send_channels, left.open_receive_channels) == (0, 0)
            await put(store, record.changed(NOW))
            assert (await read_until(kept, 1)).version == 1

    async def test_a_channel_may_be_closed_early(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        async with store.subscribe(record.id) as changes, store.subscribe(record.id) as kept:
            changes.close()
            for _ in range(3):
                record = record.changed(NOW)
                await put(store, record)
            assert await read_until(kept, 3) == record

    async def test_an_error_leaves_the_subscription_as_it_is(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        with pytest.raises(KeyError, match="alone"):
            async with store.subscribe(record.id):
                raise KeyError("alone")
