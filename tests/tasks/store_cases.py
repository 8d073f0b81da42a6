"""What the parts of the suite of all stores have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Protocol

import pytest
import trio
import trio.testing
from msgspec import Raw

from tests.support.limits import HANG_SECONDS
from trio_mcp.tasks.record import (
    InputRequest,
    Outcome,
    Owner,
    TaskRecord,
    new_task_id,
)
from trio_mcp.tasks.record import TaskStatus as Status  # flake8-async takes a TaskStatus for trio's
from trio_mcp.tasks.store import TaskChange, TaskStore
from trio_mcp.tasks.stored_task import StoredReport, TaskWork

# Years ahead, so that a store whose server drops expired keys by its own clock keeps them for the tests.
NOW = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ALICE, BOB = Owner("principal", "alice"), Owner("principal", "bob")
ENDED = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
UNICODE = "Zürich → 東京 🚆 \u202e\x00\n\"'\\"
ASKED = {
    "a": InputRequest("elicitation/create", {"message": "why?"}),
    UNICODE: InputRequest("sampling/createMessage", {}),
}
WORK = TaskWork(arguments=Raw(b'{"n":1}'), era="2026-07-28", payer=ALICE)


class NewStore(Protocol):
    """Makes an empty store that is not open yet, with its default caps if none are given."""

    def __call__(self, *, max_records: int = ..., max_record_bytes: int = ...) -> TaskStore: ...


class OpenStore(Protocol):
    """Opens an empty store, with its default caps if none are given."""

    def __call__(
        self, *, max_records: int = ..., max_record_bytes: int = ...
    ) -> AbstractAsyncContextManager[TaskStore]: ...


class StoreCases(ABC):
    """What the parts of the suite have in common: the store that is under test."""

    @pytest.fixture
    @abstractmethod
    def new_store(self) -> NewStore:
        """How to make the store. It can be opened again when it was closed, and finds its tasks then."""

    @pytest.fixture
    def open_store(self, new_store: NewStore) -> OpenStore:
        @asynccontextmanager
        async def open_one(**caps: int) -> AsyncIterator[TaskStore]:
            store = new_store(**caps)
            async with store.open():
                yield store

        return open_one

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[TaskStore]:
        async with open_store() as store:
            yield store


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


async def read_pages(store: TaskStore, owner: Owner | None, limit: int) -> list[list[TaskRecord]]:
    """All pages of `owner`, or of everybody, from the first to the one without a cursor."""
    page = await store.list_page(owner, None, limit, NOW)
    pages = [list(page.records)]
    while page.next_cursor is not None:
        page = await store.list_page(owner, page.next_cursor, limit, NOW)
        pages.append(list(page.records))
        assert len(pages) <= 1000, "the pages have no end"
    return pages


async def read_list(store: TaskStore, owner: Owner | None, limit: int) -> list[TaskRecord]:
    """All tasks of `owner`, or of everybody, read in pages of `limit`."""
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


def report(offset: int) -> StoredReport:
    """A report of a task, whose values follow from its offset."""
    return StoredReport(offset, offset / 4, None, f"report {offset}", offset * 1000)


async def held(store: TaskStore, record: TaskRecord, work: TaskWork | None = None) -> TaskRecord:
    """A task that was created here, which holds it under claim 1."""
    task = await store.create(record, work)
    assert (task.record, task.claim, task.holder is not None) == (record, 1, True)
    return record
