"""`trio-mcp tasks watch`: shows several tasks at once, until all have ended.

Owns the watching of each task, and finds out how it ended. `rows.py` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from trio_mcp.cli.status import SUCCEEDED, TOOL_FAILED, CommandError
from trio_mcp.cli.tasks.not_found import explaining_not_found
from trio_mcp.cli.tasks.rows import TaskRow, open_rows
from trio_mcp.cli.tasks.source import TaskPlace, TaskSource, open_tasks
from trio_mcp.client.elicitation import ElicitRequest
from trio_mcp.client.task_snapshot import Status, TaskSnapshot
from trio_mcp.errors import MCPError, ProtocolError, TaskFailed


async def watch_tasks(place: TaskPlace, ids: Sequence[str]) -> int:
    """Connect to the server or open the store, and show the tasks until all have ended; checkpoints.

    Raises CommandError for a task that does not exist, and what `open_tasks` and
    `Client.watch_task` raise.
    """
    rows = [TaskRow(ident) for ident in dict.fromkeys(ids)]
    async with open_tasks(place, elicitation_handler=leave_unanswered) as opened:
        for row in rows:
            with explaining_not_found(row.id, place.noun):
                row.update(await opened.source.fetch_task(row.id))
        async with open_rows(rows, opened.console):
            await _watch_all(opened.source, rows, place.noun)
    return SUCCEEDED if all(row.status == "completed" for row in rows) else TOOL_FAILED


async def leave_unanswered(request: ElicitRequest) -> None:
    """Leave a task's questions to whoever waits for its result. An elicitation handler; never returns."""
    await trio.sleep_forever()


async def _watch_all(source: TaskSource, rows: Sequence[TaskRow], noun: str) -> None:
    """Watch every task; if watching one fails, stop, and raise that failure alone."""
    failure: MCPError | CommandError | None = None
    async with trio.open_nursery() as nursery:

        async def watch_row(row: TaskRow) -> None:
            nonlocal failure
            try:
                await _watch_task(source, row, noun)
            except (MCPError, CommandError) as error:
                failure = failure or error
                nursery.cancel_scope.cancel()

        for row in rows:
            nursery.start_soon(watch_row, row)
    if failure is not None:
        raise failure


async def _watch_task(source: TaskSource, row: TaskRow, noun: str) -> None:
    with explaining_not_found(row.id, noun):
        async with source.watch_task(row.id) as snapshots:
            async for task in snapshots:
                row.update(task)
        # In 2025-11-25 the notification of the end has no progress; the answer to tasks/get does.
        task = await source.fetch_task(row.id)
        row.update(task)
        status, words = await _read_end(source, task)
    row.end(status, words)


async def _read_end(source: TaskSource, task: TaskSnapshot) -> tuple[Status, str | None]:
    """How a task ended, and why: in one of the eras it is "completed" even if its tool failed."""
    if task.status == "cancelled":
        return task.status, task.status_message
    try:
        result = await source.await_task(task.id, raise_on_error=False)
    except (ProtocolError, TaskFailed) as error:
        return task.status, str(error)
    return ("failed", result.text) if result.is_error else (task.status, task.status_message)
