"""Claims tasks that wait in the store, as many as may run here.

Owns the loop between the queue of a store and the places of this process, and what follows if the store is
away. Knows neither tools nor how a task is run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Final, NoReturn

import trio

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.store import STORE_SECONDS, TaskStore
from trio_mcp.tasks.store_calls import FIRST_PAUSE, longer
from trio_mcp.tasks.stored_task import StoredTask
from trio_mcp.tasks.supervisor import Supervisor

PAUSE_SECONDS: Final = 0.1
"""How long a process pauses that has woken up in vain, because others were faster."""

PAGE_SIZE: Final = 200
"""So many records are read at once."""


class ClaimedTools:
    """The names of tools whose tasks are claimed, as `find` returns them; `note` says that they change."""

    def __init__(self, find: Callable[[], Collection[str]]) -> None:
        self.find = find
        self._waiting = trio.CancelScope()

    def note(self, change: object) -> None:
        """The tools have changed: whoever waits for tasks of the old ones goes on at once."""
        self._waiting.cancel()

    def begin_wait(self) -> trio.CancelScope:
        """The scope of the next wait, which ends when the tools change."""
        self._waiting = trio.CancelScope()
        return self._waiting


async def serve_claims(
    store: TaskStore,
    supervisor: Supervisor,
    claimed_tools: ClaimedTools,
    run: Callable[[StoredTask], object],
) -> NoReturn:
    """Claim tasks and hand them to `run`, which does not wait, until cancelled.

    If the store is this process's alone, tasks of tools that there are no more are claimed as well, so that
    they fail.
    """
    pause = FIRST_PAUSE
    left: Collection[str] | None = () if store.is_shared else None
    while True:
        try:
            if left is None:
                left = await _find_tools_left(store, supervisor)
            await supervisor.wait_free_turn()
            tools = {*claimed_tools.find(), *left}
            with claimed_tools.begin_wait() as waiting:
                await supervisor.store_calls.run(store.wait_claimable, tools, supervisor.clock.now())
            claimed = () if waiting.cancelled_caught else await _claim(store, supervisor, tools, run)
        except TaskStoreError:  # which was logged
            await trio.sleep(pause * random.uniform(0.5, 1))
            pause = longer(pause)
            continue
        pause = FIRST_PAUSE
        if not claimed and not waiting.cancelled_caught:
            await trio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1))


async def _find_tools_left(store: TaskStore, supervisor: Supervisor) -> Collection[str]:
    """The tools of all tasks that have not ended."""
    tools: set[str] = set()
    cursor = None
    while True:
        page = await supervisor.store_calls.run(
            store.list_page, None, cursor, PAGE_SIZE, supervisor.clock.now()
        )
        tools.update(record.tool for record in page.records if not record.is_final)
        cursor = page.next_cursor
        if cursor is None:
            return tools


async def _claim(
    store: TaskStore, supervisor: Supervisor, tools: Collection[str], run: Callable[[StoredTask], object]
) -> Sequence[StoredTask]:
    # Shielded, so that no task is held that nobody runs.
    with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
        claimed = await supervisor.store_calls.run(
            store.claim, tools, supervisor.free_turns, supervisor.clock.now()
        )
        for task in claimed:
            run(task)
        return claimed
    raise TaskStoreError("the task store did not answer in time")
