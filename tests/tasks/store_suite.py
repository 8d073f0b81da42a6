"""The contract of every TaskStore: one suite that each store has to pass.

A test module subclasses `TaskStoreSuite` and opens its store in `open_store`. No test
needs a clock: times are passed in.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Protocol

import attrs
import pytest
import trio
import trio.testing
from msgspec import Raw

from tests.support.limits import HANG_SECONDS
from trio_mcp.errors import CursorError, TaskOverload, TaskTooLarge
from trio_mcp.tasks.record import (
    BEARER,
    InputRequest,
    Outcome,
    Owner,
    TaskProgress,
    TaskRecord,
    new_task_id,
)
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.store import TaskChange, TaskStore
from trio_mcp.wire.frames import ErrorObject, StageState

# Years ahead, so that a store whose server drops expired keys by its own clock keeps them for the tests.
NOW = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ALICE, BOB = Owner("principal", "alice"), Owner("principal", "bob")
ENDED = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
UNICODE = "Zürich → 東京 🚆 \u202e\x00\n\"'\\"


class OpenStore(Protocol):
    """Opens an empty store, with its default caps if none are given."""

    def __call__(
        self, *, max_records: int = ..., max_record_bytes: int = ...
    ) -> AbstractAsyncContextManager[TaskStore]: ...


def make_record(**values: Any) -> TaskRecord:
    """A record of Alice's that was created at NOW and never expires, unless `values` say otherwise."""
    created_at = values.get("created_at", NOW)
    defaults = {
        "id": new_task_id(),
        "tool": "tool",
        "owner": ALICE,
        "created_at": created_at,
        "last_updated_at": created_at,
    }
    return TaskRecord(**{**defaults, **values})


def completed(record: TaskRecord, result: bytes = b'{"content":[]}') -> TaskRecord:
    return record.moved(Status.COMPLETED, NOW, outcome=Outcome("result", result=Raw(result)))


async def put(store: TaskStore, record: TaskRecord, claim: int = 1) -> Collection[str]:
    """Put one record, by default under the claim that whoever created the task has."""
    return await store.put([TaskChange(record, claim)])


async def create_many(store: TaskStore, count: int, **values: Any) -> list[TaskRecord]:
    """`count` new records, each created a second after the one before."""
    records = [make_record(created_at=NOW + i * SECOND, **values) for i in range(count)]
    for record in records:
        await store.create(record)
    return records


async def read_pages(store: TaskStore, owner: Owner, limit: int) -> list[list[TaskRecord]]:
    """All pages of `owner`, from the first to the one without a cursor."""
    page = await store.list_page(owner, None, limit, NOW)
    pages = [list(page.records)]
    while page.next_cursor is not None:
        page = await store.list_page(owner, page.next_cursor, limit, NOW)
        pages.append(list(page.records))
        assert len(pages) <= 1000, "the pages have no end"
    return pages


async def read_list(store: TaskStore, owner: Owner, limit: int) -> list[TaskRecord]:
    """All tasks of `owner`, read in pages of `limit`."""
    return list(chain.from_iterable(await read_pages(store, owner, limit)))


async def read_until(
    changes: trio.MemoryReceiveChannel[TaskRecord], version: int, seen: list[int] | None = None
) -> TaskRecord:
    """Read changes until `version` comes; versions only increase, and none is newer."""
    last = -1
    with trio.fail_after(HANG_SECONDS):
        async for record in changes:
            assert last < record.version <= version
            last = record.version
            if seen is not None:
                seen.append(last)
            if last == version:
                return record
    raise AssertionError(f"the changes ended at version {last}, before {version}")


async def assert_ended(changes: trio.MemoryReceiveChannel[TaskRecord]) -> None:
    with trio.fail_after(HANG_SECONDS), pytest.raises(trio.EndOfChannel):
        await changes.receive()


def kinds(values: Sequence[Any]) -> list[tuple[type, Any]]:
    """The values and their types, for 1 == 1.0."""
    return [(type(value), value) for value in values]


class TaskStoreSuite(ABC):
    """The behaviour of a TaskStore (docs/design/tasks.md)."""

    @pytest.fixture
    @abstractmethod
    def open_store(self) -> OpenStore:
        """How to open the store that is under test."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[TaskStore]:
        async with open_store() as store:
            yield store

    # create, get and put

    async def test_a_created_record_is_found(self, store: TaskStore) -> None:
        record = make_record()
        assert await store.get(record.id, NOW) is None
        await store.create(record)
        assert await store.get(record.id, NOW) == record
        assert await store.get(new_task_id(), NOW) is None

    async def test_an_id_is_created_once(self, store: TaskStore) -> None:
        record = make_record(tool="first")
        await store.create(record)
        with pytest.raises(ValueError, match=record.id):
            await store.create(attrs.evolve(record, tool="second"))
        assert await store.get(record.id, NOW) == record

    async def test_put_replaces(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        newer = record.reported(NOW + SECOND, 1, 3, "one of three")
        await put(store, newer)
        assert await store.get(record.id, NOW) == newer

    @pytest.mark.parametrize("version", [4, 5])
    async def test_what_is_not_newer_is_ignored(self, store: TaskStore, version: int) -> None:
        record = make_record(version=5, status_message="kept")
        await store.create(record)
        await put(store, attrs.evolve(record, version=version, status_message="stale"))
        assert await store.get(record.id, NOW) == record

    async def test_versions_may_be_skipped(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        await put(store, attrs.evolve(record, version=1_000_000, status=Status.INPUT_REQUIRED))
        await put(store, attrs.evolve(record, version=7))
        found = await store.get(record.id, NOW)
        assert found is not None
        assert (found.version, found.status) == (1_000_000, Status.INPUT_REQUIRED)

    async def test_puts_in_any_order_leave_the_newest(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        versions = [attrs.evolve(record, version=i) for i in range(1, 21)]
        random.Random(1).shuffle(versions)
        async with trio.open_nursery() as nursery:
            for version in versions:
                nursery.start_soon(put, store, version)
        found = await store.get(record.id, NOW)
        assert found is not None
        assert found.version == 20

    async def test_put_does_not_create(self, store: TaskStore) -> None:
        record = make_record(version=1)
        await put(store, record)
        assert await store.get(record.id, NOW) is None
        assert await read_pages(store, ALICE, 10) == [[]]

    @pytest.mark.parametrize("status", ENDED)
    @pytest.mark.parametrize("later", Status)
    async def test_a_final_record_never_changes(
        self, store: TaskStore, status: Status, later: Status
    ) -> None:
        record = make_record()
        await store.create(record)
        final = record.moved(status, NOW, status_message="ended")
        await put(store, final)
        await put(store, attrs.evolve(final, status=later, status_message="later", version=final.version + 1))
        assert await store.get(record.id, NOW) == final

    # values come back as they went in

    async def test_every_field_comes_back(self, store: TaskStore) -> None:
        record = make_record(
            tool="größe",
            owner=Owner("session", "s-1"),
            last_updated_at=NOW + timedelta(microseconds=1),
            status=Status.INPUT_REQUIRED,
            status_message=UNICODE,
            ttl=3600.5,
            poll_interval=0.25,
            progress=TaskProgress(
                *(0.25, 1.0, UNICODE, NOW + timedelta(microseconds=2), 0.5, 1.5),
                stages=(StageState((UNICODE, "b"), 1, 2.5, UNICODE), StageState(("c",))),
            ),
            inputs={
                "a": InputRequest("elicitation/create", {"message": UNICODE, "deep": [1, {"b": None}]}),
                UNICODE: InputRequest("sampling/createMessage", {}),
            },
            version=7,
        )
        await store.create(record)
        found = await store.get(record.id, NOW)
        assert found == record
        assert found is not None
        assert list(found.inputs) == list(record.inputs), "their order is kept as well"
        assert found.created_at.utcoffset() == found.last_updated_at.utcoffset() == timedelta(0)
        assert found.progress is not None
        assert found.progress.reported_at.utcoffset() == timedelta(0)
        assert isinstance(found.status, Status)
        page = await store.list_page(record.owner, None, 1, NOW)
        assert list(page.records) == [record]

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (Status.COMPLETED, Outcome("result", result=Raw('{"n": 1.50, "é":"東"}'.encode()))),
            (Status.FAILED, Outcome("tool_error", result=Raw(b'{"isError":true}'))),
            (Status.FAILED, Outcome("protocol_error", error=ErrorObject(-32603, UNICODE))),
            (Status.FAILED, Outcome("protocol_error", error=ErrorObject(-1, "", Raw(b"null")))),
            (Status.CANCELLED, Outcome("cancelled")),
        ],
        ids=["result", "tool_error", "protocol_error", "protocol_error with data", "cancelled"],
    )
    async def test_every_outcome_comes_back(self, store: TaskStore, status: Status, outcome: Outcome) -> None:
        record = make_record()
        await store.create(record)
        await put(store, record.moved(status, NOW, outcome=outcome))
        found = await store.get(record.id, NOW)
        assert found is not None
        assert (found.status, found.outcome) == (status, outcome)
        if outcome.result is not None:
            assert found.outcome is not None
            assert found.outcome.result is not None
            assert bytes(found.outcome.result) == bytes(outcome.result), "byte for byte"

    @pytest.mark.parametrize(
        ("current", "total"),
        [
            (0.25, 1.0),
            (1e-9, 3e-9),
            (0.1 + 0.2, 1 / 3),
            (5e-324, 1.7976931348623157e308),
            (0, 1),
            (0.0, 1.0),
            (2**53 + 1, 2**63 - 1),
            (1e22, 1e23),
            (-1.5, None),
            (None, 10),
            (None, None),
        ],
    )
    async def test_numbers_come_back_exactly(
        self, store: TaskStore, current: float | None, total: float | None
    ) -> None:
        record = make_record()
        await store.create(record)
        await put(store, record.reported(NOW, current, total, None))
        found = await store.get(record.id, NOW)
        assert found is not None
        assert found.progress is not None
        assert kinds([found.progress.current, found.progress.total]) == kinds([current, total])

    @pytest.mark.parametrize("message", [None, "", UNICODE, "x" * 100_000])
    async def test_messages_come_back_exactly(self, store: TaskStore, message: str | None) -> None:
        record = make_record(status_message=message)
        await store.create(record)
        newer = record.reported(NOW, 1, None, message)
        await put(store, newer)
        assert await store.get(record.id, NOW) == newer

    @pytest.mark.parametrize("owner", [BEARER, Owner("session", UNICODE), Owner("principal", "a:b\x1fc/d%")])
    async def test_owners_come_back_exactly(self, store: TaskStore, owner: Owner) -> None:
        record = make_record(owner=owner)
        await store.create(record)
        assert await store.get(record.id, NOW) == record
        assert await read_pages(store, owner, 1) == [[record]]

    # lists

    async def test_a_list_is_newest_first(self, store: TaskStore) -> None:
        assert await read_pages(store, ALICE, 1) == [[]]
        records = await create_many(store, 5)
        assert await read_pages(store, ALICE, 10) == [records[::-1]]

    async def test_at_one_moment_the_order_of_creation_counts(self, store: TaskStore) -> None:
        records = [make_record() for _ in range(20)]
        for record in records:
            await store.create(record)
        assert await read_list(store, ALICE, 3) == records[::-1]

    async def test_what_was_created_earlier_stands_behind(self, store: TaskStore) -> None:
        moments = [2, 0, 3, 1, 3, 0]
        records = [make_record(created_at=NOW + moment * SECOND) for moment in moments]
        for record in records:
            await store.create(record)
        expected = [records[i] for i in (4, 2, 0, 3, 5, 1)]
        assert await read_list(store, ALICE, 2) == expected

    async def test_a_change_moves_nothing_in_the_list(self, store: TaskStore) -> None:
        first, second = await create_many(store, 2)
        changed = first.changed(NOW + 100 * SECOND, status_message="busy")
        await put(store, changed)
        assert await read_pages(store, ALICE, 10) == [[second, changed]]

    async def test_three_tasks_are_two_pages_of_two(self, store: TaskStore) -> None:
        first, second, third = await create_many(store, 3)
        page = await store.list_page(ALICE, None, 2, NOW)
        assert list(page.records) == [third, second]
        assert page.next_cursor is not None
        page = await store.list_page(ALICE, page.next_cursor, 2, NOW)
        assert list(page.records) == [first]
        assert page.next_cursor is None

    @pytest.mark.parametrize(("count", "limit", "sizes"), [(4, 2, [2, 2]), (3, 1, [1, 1, 1]), (2, 5, [2])])
    async def test_the_last_page_has_no_cursor(
        self, store: TaskStore, count: int, limit: int, sizes: list[int]
    ) -> None:
        await create_many(store, count)
        assert [len(page) for page in await read_pages(store, ALICE, limit)] == sizes

    async def test_new_tasks_do_not_shift_a_page(self, store: TaskStore) -> None:
        first, second, third = await create_many(store, 3)
        page = await store.list_page(ALICE, None, 2, NOW)
        for created_at in (third.created_at, NOW + 100 * SECOND):
            await store.create(make_record(created_at=created_at))
        assert list(page.records) == [third, second]
        page = await store.list_page(ALICE, page.next_cursor, 2, NOW)
        assert list(page.records) == [first]

    async def test_a_cursor_outlives_the_tasks_around_it(self, store: TaskStore) -> None:
        kept = make_record(created_at=NOW - SECOND)
        await store.create(kept)
        await create_many(store, 4, ttl=10)
        page = await store.list_page(ALICE, None, 2, NOW)
        later = NOW + 100 * SECOND
        assert len(await store.delete_expired(later)) == 4
        page = await store.list_page(ALICE, page.next_cursor, 2, later)
        assert (list(page.records), page.next_cursor) == ([kept], None)

    async def test_a_cursor_can_be_used_again(self, store: TaskStore) -> None:
        await create_many(store, 3)
        page = await store.list_page(ALICE, None, 2, NOW)
        again = [await store.list_page(ALICE, page.next_cursor, 2, NOW) for _ in range(2)]
        assert list(again[0].records) == list(again[1].records)

    async def test_owners_see_their_own_tasks(self, store: TaskStore) -> None:
        owners = [
            ALICE,
            BOB,
            Owner("session", "alice"),
            Owner("principal", "ALICE"),
            Owner("principal"),
            BEARER,
        ]
        records = {owner: await create_many(store, 3, owner=owner) for owner in owners}
        for owner in owners:
            assert await read_pages(store, owner, 2) == [records[owner][:0:-1], records[owner][:1]]
        assert await read_pages(store, Owner("principal", "carol"), 2) == [[]]

    @pytest.mark.parametrize(
        "other", [BOB, Owner("session", "alice"), Owner("principal", "carol"), BEARER], ids=str
    )
    async def test_a_cursor_is_good_for_its_owner_only(self, store: TaskStore, other: Owner) -> None:
        await create_many(store, 3)
        await create_many(store, 3, owner=BOB)
        page = await store.list_page(ALICE, None, 2, NOW)
        with pytest.raises(CursorError):
            await store.list_page(other, page.next_cursor, 2, NOW)

    @pytest.mark.parametrize(
        "cursor", ["", "0", "1", "2", "-1", "garbage", "AAAA", "A" * 64, "é", "\ud800", "\x00", " ", "=" * 8]
    )
    async def test_garbage_is_no_cursor(self, store: TaskStore, cursor: str) -> None:
        await create_many(store, 3)
        with pytest.raises(CursorError):
            await store.list_page(ALICE, cursor, 2, NOW)

    async def test_a_changed_cursor_is_none(self, store: TaskStore) -> None:
        await create_many(store, 3)
        cursor = (await store.list_page(ALICE, None, 2, NOW)).next_cursor
        assert cursor is not None
        changed = [
            cursor[:i] + ("A" if cursor[i] != "A" else "B") + cursor[i + 1 :] for i in range(len(cursor))
        ]
        for other in [*changed, cursor[:-1], cursor + "A", cursor + "=", cursor + "\n", " " + cursor]:
            with pytest.raises(CursorError):
                await store.list_page(ALICE, other, 2, NOW)

    @pytest.mark.parametrize("limit", [0, -1])
    async def test_a_page_has_room_for_one(self, store: TaskStore, limit: int) -> None:
        with pytest.raises(ValueError, match="limit"):
            await store.list_page(ALICE, None, limit, NOW)

    # expiry

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

    # delete, which a store may have

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
            await put(store, attrs.evolve(record, status_message="x" * 100))
            await put(store, make_record(version=1, status_message="x" * 100))
            assert await store.get(record.id, NOW) == record

    # subscriptions

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
            newer, final = attrs.evolve(record, version=5), attrs.evolve(completed(record), version=6)
            await put(store, newer)
            await put(store, attrs.evolve(record, version=4))
            assert await read_until(changes, 5) == newer
            await put(store, final)
            await put(store, attrs.evolve(record, version=7))
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
            await put(store, attrs.evolve(other, version=9))
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

        async def watch(scope: trio.CancelScope) -> None:
            with scope:
                async with store.subscribe(record.id) as changes:
                    channels.append(changes)
                    async for _ in changes:
                        pass

        async with store.subscribe(record.id) as kept:
            scopes = [trio.CancelScope() for _ in range(10)]
            async with trio.open_nursery() as nursery:
                for scope in scopes:
                    nursery.start_soon(watch, scope)
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

    # concurrency

    async def test_many_tasks_at_once(self, store: TaskStore) -> None:
        results: dict[str, TaskRecord] = {}

        async def watch(record: TaskRecord, task_status: trio.TaskStatus[None]) -> None:
            async with store.subscribe(record.id) as changes:
                task_status.started()
                results[record.id] = await read_until(changes, 11)

        async def run(record: TaskRecord) -> None:
            await store.create(record)
            async with trio.open_nursery() as watchers:
                await watchers.start(watch, record)
                for i in range(10):
                    record = record.reported(NOW, i, 10, None)
                    await put(store, record)
                await put(store, completed(record))

        records = [make_record(owner=Owner("principal", str(i % 7))) for i in range(100)]
        async with trio.open_nursery() as nursery:
            for record in records:
                nursery.start_soon(run, record)
        assert set(results) == {record.id for record in records}
        assert {record.status for record in results.values()} == {Status.COMPLETED}
        for i in range(7):
            listed = await read_list(store, Owner("principal", str(i)), 4)
            assert {record.id for record in listed} == {record.id for record in records[i::7]}
            assert all(results[record.id] == record for record in listed)

    async def test_every_method_checkpoints(self, store: TaskStore) -> None:
        record = make_record()
        with trio.testing.assert_checkpoints():
            await store.create(record)
        with trio.testing.assert_checkpoints():
            await store.get(record.id, NOW)
        with trio.testing.assert_checkpoints():
            await store.get("nobody's", NOW)
        with trio.testing.assert_checkpoints():
            await put(store, record.changed(NOW))
        with trio.testing.assert_checkpoints():
            await put(store, record)
        with trio.testing.assert_checkpoints():
            await store.list_page(ALICE, None, 1, NOW)
        with trio.testing.assert_checkpoints():
            await store.delete_expired(NOW)
        with trio.testing.assert_checkpoints():
            async with store.subscribe(record.id):
                pass

    async def test_a_cancelled_call_changes_nothing(self, store: TaskStore) -> None:
        kept, other = make_record(ttl=10), make_record()
        await store.create(kept)
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.create(other)
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await put(store, kept.changed(NOW))
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.delete_expired(NOW + 10 * SECOND)
        assert scope.cancelled_caught
        assert await read_pages(store, ALICE, 10) == [[kept]]

    async def test_write_behind_is_a_time_or_none(self, store: TaskStore) -> None:
        assert store.write_behind is None or store.write_behind > 0
