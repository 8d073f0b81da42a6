"""The suite of all stores: records are kept as they are, and only newer ones.

No test needs a clock: times are passed in.
"""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
import trio
import trio.testing
from msgspec import Raw
from msgspec.structs import replace

from tests.tasks.store_cases import (
    ALICE,
    ENDED,
    NOW,
    SECOND,
    UNICODE,
    StoreCases,
    completed,
    kinds,
    make_record,
    put,
    read_list,
    read_pages,
    read_until,
)
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
from trio_mcp.tasks.store import TaskStore
from trio_mcp.wire.frames import ErrorObject, StageState


class RecordCases(StoreCases):
    """create, get and put."""

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
            await store.create(replace(record, tool="second"))
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
        await put(store, replace(record, version=version, status_message="stale"))
        assert await store.get(record.id, NOW) == record

    async def test_versions_may_be_skipped(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        await put(store, replace(record, version=1_000_000, status=Status.INPUT_REQUIRED))
        await put(store, replace(record, version=7))
        found = await store.get(record.id, NOW)
        assert found is not None
        assert (found.version, found.status) == (1_000_000, Status.INPUT_REQUIRED)

    async def test_puts_in_any_order_leave_the_newest(self, store: TaskStore) -> None:
        record = make_record()
        await store.create(record)
        versions = [replace(record, version=i) for i in range(1, 21)]
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
        await put(store, replace(final, status=later, status_message="later", version=final.version + 1))
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
        record = make_record(ttl=10)
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
            await store.wait_sweep(NOW + 1000 * SECOND)
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
