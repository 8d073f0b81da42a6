"""The suite of all stores: lists in pages, and their cursors."""

from __future__ import annotations

import pytest

from tests.tasks.store_cases import (
    ALICE,
    BOB,
    NOW,
    SECOND,
    StoreCases,
    create_many,
    make_record,
    put,
    read_list,
    read_pages,
)
from trio_mcp.errors import CursorError
from trio_mcp.tasks.record import (
    BEARER,
    Owner,
)
from trio_mcp.tasks.store import TaskStore


class ListCases(StoreCases):
    """list_page."""

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
