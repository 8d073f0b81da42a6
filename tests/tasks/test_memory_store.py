"""The store in memory: the suite of all stores, and what only this one promises."""

from __future__ import annotations

import base64
from types import MappingProxyType
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from tests.tasks.store_cases import ALICE, BOB, NOW, SECOND, NewStore, create_many, make_record, put
from tests.tasks.store_suite import TaskStoreSuite
from trio_mcp.errors import CursorError, TaskOverload
from trio_mcp.tasks.cursors import Cursors
from trio_mcp.tasks.memory_store import MemoryTaskStore
from trio_mcp.tasks.record import InputRequest, Outcome, Owner
from trio_mcp.wire.errors import LocalProtocolError


class TestMemoryTaskStore(TaskStoreSuite):
    @pytest.fixture
    def new_store(self) -> NewStore:
        return MemoryTaskStore


@pytest.mark.parametrize("cap", ["max_records", "max_record_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "9"])
def test_caps_are_integers_larger_than_0(cap: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{cap} must be an integer larger than 0"):
        MemoryTaskStore(**{cap: value})


def test_defaults() -> None:
    store = MemoryTaskStore()
    assert (store.max_records, store.max_record_bytes) == (10_000, 16 * 1024 * 1024)
    assert store.write_behind is None, "a put costs so little that progress need not wait"


@pytest.mark.parametrize(
    "change",
    [{"tool": "other"}, {"owner": BOB}, {"created_at": NOW - SECOND}],
    ids=lambda change: "+".join(change),
)
async def test_tool_owner_and_creation_never_change(change: dict[str, Any]) -> None:
    store, record = MemoryTaskStore(), make_record()
    await store.create(record)
    with pytest.raises(LocalProtocolError, match=f"{next(iter(change))} of task {record.id}"):
        await put(store, replace(record, version=1, **change))
    assert await store.get(record.id, NOW) is record


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ({"status_message": "é"}, 2),
        ({"outcome": Outcome("result", result=Raw(b'{"a":1}'))}, 7),
        ({"inputs": {"k": InputRequest("m", {})}}, len('{"k":{"method":"m","params":{}}}')),
        ({"inputs": MappingProxyType({"k": InputRequest("m", MappingProxyType({}))})}, 32),
    ],
)
async def test_a_record_may_have_exactly_the_size_of_the_cap(change: dict[str, Any], size: int) -> None:
    record = make_record(**change)
    await MemoryTaskStore(max_record_bytes=size).create(record)
    if size > 1:
        with pytest.raises(TaskOverload, match=f"max_record_bytes is {size - 1}, .* would take {size}"):
            await MemoryTaskStore(max_record_bytes=size - 1).create(record)


async def test_delete_expired_returns_the_ids_that_create_forgot() -> None:
    store = MemoryTaskStore(max_records=2)
    first, second = make_record(ttl=10), make_record(ttl=20)
    await store.create(first)
    await store.create(second)
    await store.create(make_record(created_at=NOW + 10 * SECOND))
    assert list(await store.delete_expired(NOW + 20 * SECOND)) == [first.id, second.id]
    assert list(await store.delete_expired(NOW + 20 * SECOND)) == []


async def test_the_heap_and_the_forgotten_ids_are_bounded() -> None:
    """A store that nobody asks what has expired, and whose tasks change their ttl all the time."""
    store = MemoryTaskStore(max_records=5)
    for i in range(100):
        record = make_record(ttl=1, created_at=NOW + i * SECOND, owner=Owner("session", str(i)))
        await store.create(record)
        for ttl in range(10):
            record = record.changed(NOW, ttl=1 + ttl / 10)
            await put(store, record)
        await put(store, record.changed(NOW, ttl=1))
    assert len(store._entries) == len(store._owned) <= 5
    assert len(store._expiries) <= 11
    assert len(store._forgotten) <= 5
    await store.delete_expired(NOW + 1000 * SECOND)
    left = [store._entries, store._owned, store._expiries, store._forgotten]
    assert not any(left), left


async def test_changes_of_ttl_are_kept_through_a_rebuild() -> None:
    store = MemoryTaskStore(max_records=2)
    record, other = make_record(ttl=500), make_record(ttl=5)
    await store.create(record)
    await store.create(other)
    for ttl in range(100, 10, -1):
        record = record.changed(NOW, ttl=ttl)
        await put(store, record)
    assert list(await store.delete_expired(NOW + 5 * SECOND)) == [other.id]
    assert list(await store.delete_expired(NOW + 10 * SECOND)) == []
    assert list(await store.delete_expired(NOW + 11 * SECOND)) == [record.id]


async def test_one_version_waits_for_a_slow_subscriber() -> None:
    store, record = MemoryTaskStore(), make_record()
    await store.create(record)
    async with store.subscribe(record.id) as changes:
        for _ in range(10):
            record = record.changed(NOW)
            await put(store, record)
        assert changes.statistics().current_buffer_used == 1
        assert changes.receive_nowait() is record
        with pytest.raises(trio.WouldBlock):
            changes.receive_nowait()


async def test_a_version_that_was_handed_over_is_not_taken_back() -> None:
    """A reader that was woken but did not run yet keeps its version, and the newest waits behind it."""
    store, record = MemoryTaskStore(), make_record()
    await store.create(record)
    seen: list[int] = []

    async def read(changes: trio.MemoryReceiveChannel[Any]) -> None:
        while len(seen) < 2:
            seen.append((await changes.receive()).version)

    async with store.subscribe(record.id) as changes, trio.open_nursery() as nursery:
        nursery.start_soon(read, changes)
        await trio.testing.wait_all_tasks_blocked()
        for version in (1, 2, 3):
            for subscription in store._entries[record.id].subscriptions:
                subscription.offer(replace(record, version=version))
    assert seen == [1, 3]


async def test_a_subscription_goes_with_its_block() -> None:
    store, record = MemoryTaskStore(), make_record()
    await store.create(record)
    async with store.subscribe(record.id) as changes:
        assert len(store._entries[record.id].subscriptions) == 1
    assert not store._entries[record.id].subscriptions
    with pytest.raises(trio.ClosedResourceError):
        changes.receive_nowait()


async def test_a_cursor_of_another_store_is_none() -> None:
    stores = [MemoryTaskStore(), MemoryTaskStore()]
    for store in stores:
        await create_many(store, 2)
    cursor = (await stores[0].list_page(ALICE, None, 1, NOW)).next_cursor
    with pytest.raises(CursorError):
        await stores[1].list_page(ALICE, cursor, 1, NOW)


async def test_a_cursor_does_not_tell_how_many_tasks_others_have() -> None:
    alone, crowded = MemoryTaskStore(), MemoryTaskStore()
    await create_many(crowded, 50, owner=BOB)
    told = []
    for store in (alone, crowded):
        await create_many(store, 2)
        cursor = (await store.list_page(ALICE, None, 1, NOW)).next_cursor
        assert cursor is not None
        told.append(base64.urlsafe_b64decode(cursor)[:16])
    assert told[0] == told[1]


@given(
    st.datetimes(timezones=st.just(NOW.tzinfo)),
    st.integers(0, 2**64 - 1),
    st.builds(Owner, st.sampled_from(["principal", "session", "bearer"]), st.text()),
)
def test_a_cursor_names_its_place(created_at: Any, number: int, owner: Owner) -> None:
    cursors = Cursors(b"key")
    cursor = cursors.cursor(owner, (created_at, number))
    assert cursors.place(owner, cursor) == (created_at, number)
    assert cursor.isascii()
    assert "=" not in cursor
    for other in (Owner(owner.kind, owner.name + "x"), Owner("principal", f"{owner.kind}:{owner.name}")):
        with pytest.raises(CursorError):
            cursors.place(other, cursor)


@given(
    st.one_of(
        st.text(), st.text("AB-_+/="), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    )
)
def test_anything_else_is_a_cursor_error(cursor: str) -> None:
    with pytest.raises(CursorError):
        Cursors(b"key").place(ALICE, cursor)


async def test_delete_expired_costs_what_expires_and_not_what_is_kept() -> None:
    """Ten of many expire: the rest of the order of expiry is left as it is."""
    store = MemoryTaskStore()
    for i in range(1000):
        await store.create(make_record(ttl=1 + i))
    assert len(await store.delete_expired(NOW + 10 * SECOND)) == 10
    assert len(store._expiries) == 990


async def test_waiting_for_a_task_ignores_those_that_have_expired(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever claims in a loop would turn without end until somebody deletes them."""
    store = MemoryTaskStore()
    await store.create(make_record(ttl=10), is_queued=True)
    with trio.move_on_after(1) as scope:
        await store.wait_claimable({"tool"}, NOW + 10 * SECOND)
    assert scope.cancelled_caught


async def test_waiting_for_a_task_lasts_until_it_is_ready(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryTaskStore()
    for seconds in (50, 30, 40):
        record = make_record()
        await store.create(record)
        await store.release(record, 1, NOW + seconds * SECOND)
    await store.wait_claimable({"tool"}, NOW)
    assert trio.current_time() == 30
