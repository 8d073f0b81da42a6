"""The suite of all stores: what expires, what is deleted, and the caps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw
from msgspec.structs import replace

from tests.support.limits import HANG_SECONDS
from tests.tasks.store_cases import (
    ALICE,
    BOB,
    NOW,
    SECOND,
    OpenStore,
    StoreCases,
    assert_ended,
    completed,
    create_many,
    make_record,
    put,
    read_list,
    read_pages,
    read_until,
)
from trio_mcp.errors import TaskOverload, TaskTooLarge
from trio_mcp.tasks.record import (
    InputRequest,
    Outcome,
    TaskProgress,
    new_task_id,
)
from trio_mcp.tasks.store import TaskStore
from trio_mcp.wire.frames import ErrorObject, StageState


class ExpiryCases(StoreCases):
    """delete_expired, delete, and the caps on records."""

    async def test_expiry_is_seen_everywhere_alike(self, store: TaskStore) -> None:
        record = make_record(ttl=10)
        await store.create(record)
        before, at = NOW + timedelta(seconds=9.999999), NOW + timedelta(seconds=10)
        async with store.subscribe(record.id) as changes:
            assert list(await store.delete_expired(before)) == []
            assert await store.get(record.id, before) == record
            assert list((await store.list_page(ALICE, None, 1, before)).records) == [record]

            assert await store.get(record.id, at) is None
            page = await store.list_page(ALICE, None, 1, at)
            assert (list(page.records), page.next_cursor) == ([], None)
            assert list(await store.delete_expired(at)) == [record.id]
            await assert_ended(changes)
        assert list(await store.delete_expired(at)) == []
        assert await store.get(record.id, before) is None, "it is gone for everybody"
        async with store.subscribe(record.id) as changes:
            await assert_ended(changes)

    async def test_without_a_ttl_a_record_never_expires(self, store: TaskStore) -> None:
        record = make_record(ttl=None)
        await store.create(record)
        end_of_time = datetime.max.replace(tzinfo=UTC)
        assert list(await store.delete_expired(end_of_time)) == []
        assert await store.get(record.id, end_of_time) == record
        assert list((await store.list_page(ALICE, None, 1, end_of_time)).records) == [record]

    async def test_a_ttl_may_be_a_fraction_or_nothing(self, store: TaskStore) -> None:
        short, none = make_record(ttl=0.25), make_record(ttl=0)
        await store.create(short)
        await store.create(none)
        assert await store.get(none.id, NOW) is None
        assert await store.get(short.id, NOW + timedelta(seconds=0.249999)) == short
        assert await store.get(short.id, NOW + timedelta(seconds=0.25)) is None

    async def test_expired_tasks_use_up_no_page(self, store: TaskStore) -> None:
        kept = await create_many(store, 3)
        await create_many(store, 5, ttl=10)
        later = NOW + 100 * SECOND
        page = await store.list_page(ALICE, None, 2, later)
        assert list(page.records) == kept[:0:-1]
        assert page.next_cursor is not None
        page = await store.list_page(ALICE, page.next_cursor, 2, later)
        assert (list(page.records), page.next_cursor) == (kept[:1], None)

    async def test_only_what_has_expired_is_deleted(self, store: TaskStore) -> None:
        records = [make_record(ttl=ttl) for ttl in (30, 10, None, 20, 10)]
        for record in records:
            await store.create(record)
        assert sorted(await store.delete_expired(NOW + 20 * SECOND)) == sorted(
            records[i].id for i in (1, 3, 4)
        )
        assert await read_pages(store, ALICE, 10) == [[records[2], records[0]]]
        assert list(await store.delete_expired(NOW + 30 * SECOND)) == [records[0].id]

    async def test_a_ttl_may_change(self, store: TaskStore) -> None:
        longer, shorter, never = [make_record(ttl=10) for _ in range(3)]
        for record, ttl in ((longer, 20), (shorter, 5), (never, None)):
            await store.create(record)
            await put(store, record.changed(NOW, ttl=ttl))
        assert list(await store.delete_expired(NOW + 5 * SECOND)) == [shorter.id]
        assert list(await store.delete_expired(NOW + 15 * SECOND)) == []
        assert list(await store.delete_expired(NOW + 20 * SECOND)) == [longer.id]
        assert list(await store.delete_expired(NOW + 99 * SECOND)) == []
        assert await store.get(never.id, NOW + 99 * SECOND) is not None

    async def test_what_is_deleted_is_not_put_again(self, store: TaskStore) -> None:
        record = make_record(ttl=10)
        await store.create(record)
        await store.delete_expired(NOW + 10 * SECOND)
        await put(store, completed(record))
        assert await store.get(record.id, NOW) is None
        assert await read_pages(store, ALICE, 1) == [[]]

    async def test_whoever_waits_for_a_sweep_goes_on_when_a_task_has_expired(self, store: TaskStore) -> None:
        record = make_record(ttl=10)
        await store.create(record)
        later = NOW + 1000 * SECOND
        with trio.fail_after(HANG_SECONDS):
            await store.wait_sweep(later)
        assert list(await store.delete_expired(later)) == [record.id]

    # delete

    async def test_one_record_is_deleted(self, store: TaskStore) -> None:
        first, second, third = await create_many(store, 3)
        await put(store, completed(second))
        await store.delete(second.id)
        assert await store.get(second.id, NOW) is None
        assert await read_pages(store, ALICE, 1) == [[third], [first]]

    async def test_deleting_what_is_not_there_does_nothing(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        await store.delete(new_task_id())
        gone = make_record()
        await store.create(gone)
        await store.delete(gone.id)
        await store.delete(gone.id)
        assert await read_pages(store, ALICE, 10) == [[record]]

    async def test_deleting_ends_subscriptions(self, store: TaskStore) -> None:
        record, other = await create_many(store, 2)
        async with store.subscribe(record.id) as changes, store.subscribe(other.id) as other_changes:
            await store.delete(record.id)
            await assert_ended(changes)
            newer = other.changed(NOW, status_message="goes on")
            await put(store, newer)
            assert await read_until(other_changes, newer.version) == newer

    async def test_a_deleted_record_is_not_put_again(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        await store.delete(record.id)
        await put(store, completed(record))
        assert await store.get(record.id, NOW) is None

    async def test_a_deleted_record_does_not_expire(self, store: TaskStore) -> None:
        record = make_record(ttl=10)
        await store.create(record)
        await store.delete(record.id)
        assert list(await store.delete_expired(NOW + 20 * SECOND)) == []

    async def test_one_deleted_record_makes_room_for_one(self, open_store: OpenStore) -> None:
        async with open_store(max_records=2) as store:
            first, second = await create_many(store, 2)
            await store.delete(first.id)
            third = make_record(created_at=NOW + 5 * SECOND)
            await store.create(third)
            with pytest.raises(TaskOverload):
                await store.create(make_record())
            assert await read_pages(store, ALICE, 10) == [[third, second]]

    async def test_a_cursor_outlives_the_record_that_it_marks(self, store: TaskStore) -> None:
        records = await create_many(store, 4)
        page = await store.list_page(ALICE, None, 2, NOW)
        await store.delete(records[2].id)  # the last on that page
        rest = await store.list_page(ALICE, page.next_cursor, 2, NOW)
        assert list(rest.records) == [records[1], records[0]]

    # caps

    async def test_records_are_capped(self, open_store: OpenStore) -> None:
        async with open_store(max_records=3) as store:
            records = await create_many(store, 2)
            records += await create_many(store, 1, owner=BOB)
            with pytest.raises(TaskOverload, match="max_records is 3") as refusal:
                await store.create(make_record())
            assert not isinstance(refusal.value, TaskTooLarge), "it fits as soon as there is room"
            for record in records:
                assert await store.get(record.id, NOW) == record
            await put(store, completed(records[0]))
            assert await store.get(records[0].id, NOW) == completed(records[0]), "put needs no room"

    async def test_only_what_has_expired_makes_room(self, open_store: OpenStore) -> None:
        async with open_store(max_records=2) as store:
            final = make_record(ttl=1000)
            await store.create(final)
            await put(store, completed(final))
            expiring = make_record(ttl=10)
            await store.create(expiring)
            with pytest.raises(TaskOverload):
                await store.create(make_record(created_at=NOW + 9 * SECOND))
            async with store.subscribe(expiring.id) as changes:
                newer = make_record(created_at=NOW + 10 * SECOND)
                await store.create(newer)
                await assert_ended(changes)
            assert await store.get(final.id, NOW) == completed(final), "an ended one is not thrown away"
            assert await store.get(newer.id, NOW) == newer
            assert await store.get(expiring.id, NOW) is None

    async def test_deleting_makes_room(self, open_store: OpenStore) -> None:
        async with open_store(max_records=1) as store:
            await store.create(make_record(ttl=10))
            await store.delete_expired(NOW + 10 * SECOND)
            record = make_record()
            await store.create(record)
            assert await read_pages(store, ALICE, 2) == [[record]]

    async def test_creating_at_once_does_not_pass_the_cap(self, open_store: OpenStore) -> None:
        refused = 0

        async def create() -> None:
            nonlocal refused
            try:
                await store.create(make_record())
            except TaskOverload:
                refused += 1

        async with open_store(max_records=3) as store:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(create)
            assert refused == 7
            assert len(await read_list(store, ALICE, 10)) == 3

    @pytest.mark.parametrize(
        "change",
        [
            {"outcome": Outcome("result", result=Raw(b'"' + b"x" * 999 + b'"'))},
            {"outcome": Outcome("tool_error", result=Raw(b'"' + b"x" * 999 + b'"'))},
            {"outcome": Outcome("protocol_error", error=ErrorObject(1, "x" * 1001))},
            {"outcome": Outcome("protocol_error", error=ErrorObject(1, "", Raw(b'"' + b"x" * 999 + b'"')))},
            {"status_message": "x" * 1001},
            {"status_message": "é" * 501},
            {"progress": TaskProgress(1, 2, "x" * 1001, NOW)},
            {"progress": TaskProgress(1, 2, None, NOW, stages=(StageState(("x" * 300, "é" * 251), 1),) * 2)},
            {"progress": TaskProgress(1, 2, None, NOW, stages=(StageState(("a",), message="x" * 251),) * 4)},
            {"inputs": {"key": InputRequest("method", {"message": "x" * 1001})}},
            {"inputs": {str(i): InputRequest("method", {}) for i in range(100)}},
            {"status_message": "x" * 501, "progress": TaskProgress(1, 2, "x" * 500, NOW)},
        ],
        ids=lambda change: "+".join(change),
    )
    async def test_the_size_of_a_record_is_capped(
        self, open_store: OpenStore, change: dict[str, Any]
    ) -> None:
        async with open_store(max_record_bytes=1000) as store:
            record = make_record()
            await store.create(record)
            async with store.subscribe(record.id) as changes:
                with pytest.raises(TaskTooLarge, match="max_record_bytes is 1000"):
                    await put(store, record.changed(NOW, **change))
                assert await store.get(record.id, NOW) == record
                with pytest.raises(TaskTooLarge, match="max_record_bytes is 1000"):
                    await store.create(make_record(**change))
                fits = record.changed(NOW, status_message="x" * 500)
                await put(store, fits)
                assert await read_until(changes, 1) == fits, "what was too large is not shown"
            assert await read_pages(store, ALICE, 10) == [[fits]]

    async def test_what_is_ignored_is_not_measured(self, open_store: OpenStore) -> None:
        async with open_store(max_record_bytes=10) as store:
            record = make_record()
            await store.create(record)
            await put(store, replace(record, status_message="x" * 100))
            await put(store, make_record(version=1, status_message="x" * 100))
            assert await store.get(record.id, NOW) == record
