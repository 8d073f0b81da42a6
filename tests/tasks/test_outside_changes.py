"""How often a server asks its store to recover tasks and to forget expired ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
import trio
import trio.testing

from trio_mcp import MemoryTaskStore, Server, TaskRecord, TaskStoreError, open_server
from trio_mcp.tasks.outside_changes import JITTER
from trio_mcp.tasks.store import EXPIRY_SECONDS

INTERVAL = 5.0


class CountingStore(MemoryTaskStore):
    """Notes when it is asked, and fails as often as `failures` says."""

    def __init__(self, *, is_shared: bool, failures: int = 0) -> None:
        super().__init__()
        self.sweep_interval, self.is_shared = INTERVAL, is_shared
        self.failures = failures
        self.recoveries: list[float] = []
        self.expiries: list[float] = []

    async def recover(self, now: datetime) -> Sequence[TaskRecord]:
        self.recoveries.append(trio.current_time())
        return await super().recover(now)

    async def delete_expired(self, now: datetime) -> Sequence[str]:
        if self.failures:
            self.failures -= 1
            raise TaskStoreError("the store is away")
        self.expiries.append(trio.current_time())
        return await super().delete_expired(now)


async def run_for(seconds: float, store: CountingStore) -> float:
    async with open_server(Server("idle", task_store=store)):
        begin = trio.current_time()
        await trio.sleep(seconds)
        return begin


async def test_a_shared_store_is_asked_often_for_dead_processes_and_seldom_for_expired_tasks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = CountingStore(is_shared=True)
    begin = await run_for(3 * EXPIRY_SECONDS, store)
    assert len(store.recoveries) >= 3 * EXPIRY_SECONDS / INTERVAL
    first, *others = store.expiries
    assert first == begin
    assert 2 <= len(others) <= 3
    gaps = [later - earlier for earlier, later in zip(store.expiries, others, strict=False)]
    assert all(EXPIRY_SECONDS <= gap <= EXPIRY_SECONDS + INTERVAL for gap in gaps)


async def test_a_store_of_one_process_forgets_at_every_sweep(autojump_clock: trio.testing.MockClock) -> None:
    store = CountingStore(is_shared=False)
    await run_for(EXPIRY_SECONDS, store)
    assert store.expiries == store.recoveries
    gaps = [later - earlier for earlier, later in zip(store.expiries, store.expiries[1:], strict=False)]
    assert all(INTERVAL * (1 - JITTER) <= gap <= INTERVAL for gap in gaps)


@pytest.mark.parametrize("is_shared", [True, False])
async def test_a_store_that_has_failed_is_asked_again_for_what_has_expired(
    is_shared: bool, autojump_clock: trio.testing.MockClock
) -> None:
    store = CountingStore(is_shared=is_shared, failures=2)
    begin = await run_for(EXPIRY_SECONDS / 2, store)
    assert store.failures == 0
    assert store.expiries
    assert store.expiries[0] - begin < EXPIRY_SECONDS / 2
