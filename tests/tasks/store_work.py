"""The suite of all stores: what is kept beside the record."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
import trio.testing
from msgspec import Raw
from msgspec.structs import replace

from tests.tasks.store_cases import (
    ALICE,
    ASKED,
    BOB,
    ENDED,
    NOW,
    SECOND,
    UNICODE,
    WORK,
    OpenStore,
    StoreCases,
    completed,
    create_many,
    held,
    kinds,
    make_record,
    put,
    read_list,
    read_pages,
    read_until,
    report,
)
from trio_mcp.errors import CursorError, TaskOverload
from trio_mcp.tasks.record import (
    BEARER,
    Outcome,
    Owner,
    TaskProgress,
    new_task_id,
)
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.store import TaskChange, TaskStore
from trio_mcp.tasks.stored_task import StoredReport, TaskWork


class WorkCases(StoreCases):
    """What is kept beside the record: work, checkpoints, answers, reports, keys; and cancel."""

    async def test_everything_of_the_work_comes_back(self, store: TaskStore) -> None:
        work = TaskWork(
            arguments=Raw('{"n": 1.50, "é": "東"}'.encode()),
            era="2026-07-28",
            client_capabilities={"elicitation": {"form": {}}, UNICODE: [1, None, 2.5]},
            payer=Owner("principal", UNICODE),
            recover="restart",
            attempts=7,
            gathered=Raw(b"[1,  2]"),
            is_listed=False,
            scopes=frozenset({"read", UNICODE}),
            trace={"traceparent": "00-1-2-01", "baggage": "user=ada"},
        )
        record = make_record()
        assert (await store.create(record, work)).work == work
        task = await store.load(record.id)
        assert task is not None
        assert task.work == work
        assert task.work.arguments is not None
        assert bytes(task.work.arguments) == '{"n": 1.50, "é": "東"}'.encode(), "byte for byte"

    async def test_a_task_may_have_no_work(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        task = await store.load(record.id)
        assert task is not None
        assert (task.work, task.checkpoint, dict(task.answers), task.offset) == (None, None, {}, 0)
        assert await store.load(new_task_id()) is None

    @pytest.mark.parametrize("status", ENDED)
    async def test_of_a_task_that_has_ended_only_its_record_and_reports_stay(
        self, store: TaskStore, status: Status
    ) -> None:
        record = await held(store, make_record(), WORK)
        record = record.moved(Status.INPUT_REQUIRED, NOW, inputs=ASKED)
        await store.put([TaskChange(record, 1, [report(1)], Raw(b"1"))])
        await store.answer(record.id, {"a": Raw(b"1")}, NOW)
        final = record.moved(status, NOW, inputs={})
        if status is Status.CANCELLED:
            assert await store.cancel(record.id, NOW) == replace(final, outcome=Outcome("cancelled"))
        else:
            await store.put([TaskChange(final, 1, [report(2)], Raw(b"2"))])
        task = await store.load(record.id)
        assert task is not None
        assert (task.work, task.holder, task.ready_at, task.checkpoint) == (None, None, None, None)
        assert dict(task.answers) == {}
        assert [each.offset for each in await store.read_reports(record.id, 0, 9)][:1] == [1]

    # lists

    async def test_a_call_that_no_client_sees_is_not_listed(self, store: TaskStore) -> None:
        listed, hidden, ended = [make_record(created_at=NOW + i * SECOND) for i in range(3)]
        await store.create(listed, WORK)
        for record in (hidden, ended):
            await store.create(record, replace(WORK, is_listed=False))
        await put(store, completed(ended))
        for owner in (ALICE, None):
            assert await read_pages(store, owner, 1) == [[listed]]
        assert await store.get(hidden.id, NOW) == hidden
        assert await store.get(ended.id, NOW) == completed(ended)

    async def test_the_list_of_everybody(self, store: TaskStore) -> None:
        assert await read_pages(store, None, 2) == [[]]
        owners = [ALICE, BOB, BEARER, Owner("session", UNICODE), ALICE]
        moments = [2, 0, 3, 2, 2]
        records = [
            make_record(owner=owner, created_at=NOW + moment * SECOND)
            for owner, moment in zip(owners, moments, strict=True)
        ]
        for record in records:
            await store.create(record)
        await store.create(make_record(ttl=0))
        expected = [records[i] for i in (2, 4, 3, 0, 1)]
        for limit in (1, 2, 5):
            assert await read_list(store, None, limit) == expected
        page = await store.list_page(None, None, 2, NOW)
        await store.create(make_record(created_at=NOW + 2 * SECOND))
        await store.delete(records[4].id)
        page = await store.list_page(None, page.next_cursor, 9, NOW)
        assert (list(page.records), page.next_cursor) == (expected[2:], None)

    async def test_a_cursor_of_everybody_is_nobodys(self, store: TaskStore) -> None:
        await create_many(store, 3)
        everybodys = (await store.list_page(None, None, 1, NOW)).next_cursor
        alices = (await store.list_page(ALICE, None, 1, NOW)).next_cursor
        with pytest.raises(CursorError):
            await store.list_page(ALICE, everybodys, 1, NOW)
        with pytest.raises(CursorError):
            await store.list_page(None, alices, 1, NOW)

    # checkpoints

    async def test_a_checkpoint_stays_until_the_next(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        seen = []
        for value in (Raw(b'{"at":  1}'), None, Raw(b"null"), None):
            record = record.changed(NOW)
            await store.put([TaskChange(record, checkpoint=value)])
            task = await store.load(record.id)
            assert task is not None
            assert task.checkpoint is not None
            seen.append(bytes(task.checkpoint))
        assert seen == [b'{"at":  1}', b'{"at":  1}', b"null", b"null"]

    async def test_a_change_that_is_not_newer_keeps_nothing(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        assert not await store.put([TaskChange(record, 1, [report(1)], Raw(b"1"))])
        task = await store.load(record.id)
        assert task is not None
        assert (task.checkpoint, task.offset) == (None, 0)

    # answers

    async def test_answers_are_kept_for_the_questions_that_are_open(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        record = record.moved(Status.INPUT_REQUIRED, NOW, inputs=ASKED)
        await put(store, record)
        await store.answer(record.id, {UNICODE: Raw(b'{"x":  1}'), "unknown": Raw(b"0")}, NOW)
        await store.answer(record.id, {UNICODE: Raw(b"2"), "a": Raw('"é"'.encode())}, NOW)
        task = await store.load(record.id)
        assert task is not None
        assert {key: bytes(raw) for key, raw in task.answers.items()} == {
            UNICODE: b'{"x":  1}',
            "a": '"é"'.encode(),
        }
        assert task.record == record, "the questions stay until their asker takes them away"
        record = record.moved(Status.WORKING, NOW, inputs={})
        assert not await put(store, record)
        task = await store.load(record.id)
        assert task is not None
        assert set(task.answers) == {UNICODE, "a"}, "another attempt may ask the same"

    async def test_whoever_holds_a_task_it_is_answered(self, store: TaskStore) -> None:
        record = make_record(status=Status.INPUT_REQUIRED, inputs=ASKED)
        await store.create(record, is_queued=True)
        await store.answer(record.id, {"a": Raw(b"1")}, NOW)
        (task,) = await store.claim({"tool"}, 1, NOW)
        assert dict(task.answers) == {"a": Raw(b"1")}

    async def test_an_answer_to_nothing_is_ignored(self, store: TaskStore) -> None:
        await store.answer(new_task_id(), {"a": Raw(b"1")}, NOW)
        expired = await held(store, make_record(ttl=10, inputs=ASKED))
        await store.answer(expired.id, {"a": Raw(b"1")}, NOW + 10 * SECOND)
        task = await store.load(expired.id)
        assert task is None or dict(task.answers) == {}

    # cancel

    @pytest.mark.parametrize("is_queued", [False, True])
    async def test_whoever_holds_a_task_it_is_cancelled(self, store: TaskStore, is_queued: bool) -> None:
        record = make_record(status=Status.INPUT_REQUIRED, inputs=ASKED)
        record = replace(record, progress=TaskProgress(1, 2, "so far", NOW, rate=1.0, eta=1.0))
        await store.create(record, WORK, is_queued=is_queued)
        async with store.subscribe(record.id) as changes:
            found = await store.cancel(record.id, NOW + SECOND)
            expected = record.moved(Status.CANCELLED, NOW + SECOND, outcome=Outcome("cancelled"), inputs={})
            assert found == expected
            assert await read_until(changes, expected.version) == expected
        assert await store.get(record.id, NOW) == expected
        assert list(await put(store, replace(record, version=9))) == [record.id]
        assert await store.claim({"tool"}, 9, NOW) == []

    @pytest.mark.parametrize("status", ENDED)
    async def test_a_task_that_has_ended_is_not_cancelled(self, store: TaskStore, status: Status) -> None:
        record = await held(store, make_record())
        final = record.moved(status, NOW, status_message="ended")
        await put(store, final)
        assert await store.cancel(record.id, NOW + SECOND) == final
        assert await store.get(record.id, NOW) == final

    async def test_what_is_not_there_is_not_cancelled(self, store: TaskStore) -> None:
        assert await store.cancel(new_task_id(), NOW) is None
        expired = await held(store, make_record(ttl=10))
        assert await store.cancel(expired.id, NOW + 10 * SECOND) is None

    # keys

    async def test_the_same_key_gives_the_same_task(self, store: TaskStore) -> None:
        record, again, other = make_record(), make_record(), make_record()
        first = await store.create(record, WORK, key=UNICODE)
        assert await store.create(again, WORK, key=UNICODE, is_queued=True) == first
        assert (await store.create(other, key="other")).record == other
        newer = completed(record)
        await put(store, newer)
        assert (await store.create(again, key=UNICODE)).record == newer, "also when it has ended"
        assert await store.get(again.id, NOW) is None
        assert {each.id for each in await read_list(store, ALICE, 9)} == {record.id, other.id}

    async def test_a_full_store_finds_a_key(self, open_store: OpenStore) -> None:
        async with open_store(max_records=1) as store:
            first = await store.create(make_record(), key="key")
            assert await store.create(make_record(), key="key") == first
            with pytest.raises(TaskOverload):
                await store.create(make_record(), key="other")

    @pytest.mark.parametrize("how", ["deleted", "delete_expired", "expired"])
    async def test_a_key_is_free_when_its_task_is_gone(self, store: TaskStore, how: str) -> None:
        record = make_record(ttl=10)
        await store.create(record, key="key")
        later = make_record(created_at=NOW + 10 * SECOND)
        if how == "deleted":
            await store.delete(record.id)
        elif how == "delete_expired":
            await store.delete_expired(NOW + 10 * SECOND)
        else:
            still = make_record(created_at=NOW + timedelta(seconds=9.999999))
            assert (await store.create(still, key="key")).record == record
        assert (await store.create(later, key="key")).record == later
        assert await store.get(record.id, NOW) is None
        assert (await store.create(make_record(), key="key")).record == later

    async def test_one_of_many_with_a_key_makes_a_task(self, store: TaskStore) -> None:
        ids: set[str] = set()

        async def create() -> None:
            ids.add((await store.create(make_record(), key="key")).record.id)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(create)
        assert len(ids) == 1
        assert {record.id for record in await read_list(store, ALICE, 9)} == ids

    # reports

    async def test_reports_are_read_from_any_offset(self, store: TaskStore) -> None:
        record, other = await create_many(store, 2)
        assert await store.read_reports(record.id, 0, 9) == []
        reports = [
            StoredReport(2, 0.25, 1.0, UNICODE, 1),
            StoredReport(3, 1, None, None, 2),
            StoredReport(1 << 32, None, None, "", 4102542245678901),
            StoredReport((1 << 32) + 5, 2**53 + 1, 1e22, None, 4),
        ]
        await store.put([TaskChange(record.changed(NOW), 1, reports[:1])])
        await store.put(
            [
                TaskChange(record.changed(NOW).changed(NOW), 1, reports[1:]),
                TaskChange(other.changed(NOW), 1, [report(1)]),
            ]
        )
        found = await store.read_reports(record.id, 0, 9)
        assert found == reports
        assert [kinds(one) for one in found] == [kinds(one) for one in reports]
        assert await store.read_reports(record.id, 2, 2) == reports[1:3]
        assert await store.read_reports(record.id, 4, 9) == reports[2:]
        assert await store.read_reports(record.id, (1 << 32) + 5, 9) == []
        assert await store.read_reports(other.id, 0, 9) == [report(1)]
        assert await store.read_reports(new_task_id(), 0, 9) == []
        task = await store.load(record.id)
        assert task is not None
        assert task.offset == (1 << 32) + 5

    async def test_the_newest_reports_are_kept(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        last = 0
        for count in (100, 700, 1):
            record = record.changed(NOW)
            await store.put([TaskChange(record, 1, [report(last + 1 + i) for i in range(count)])])
            last += count
        offsets = [one.offset for one in await store.read_reports(record.id, 0, 10_000)]
        assert offsets == list(range(offsets[0], last + 1)), "without a gap"
        assert 200 <= len(offsets) <= 600, "a bounded number of them"

    async def test_reports_go_with_their_task(self, store: TaskStore) -> None:
        record = await held(store, make_record())
        await store.put([TaskChange(record.changed(NOW), 1, [report(1)])])
        await store.delete(record.id)
        assert await store.read_reports(record.id, 0, 9) == []
        await store.create(record)
        assert await store.read_reports(record.id, 0, 9) == []

    # what a store says of itself

    async def test_a_store_says_how_it_is_used(self, store: TaskStore) -> None:
        assert store.write_behind is None or store.write_behind > 0
        assert store.sweep_interval is None or store.sweep_interval > 0
        assert store.is_shared in (False, True)

    async def test_a_store_that_is_not_shared_tells_of_no_changes(self, store: TaskStore) -> None:
        if store.is_shared:
            return
        record = await held(store, make_record())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.wait_changed)
            nursery.start_soon(store.wait_lost)
            await store.cancel(record.id, NOW)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 2
            nursery.cancel_scope.cancel()
