"""`trio-mcp tasks result`: waits for one task, and prints its result as `trio-mcp call` does.

Owns nothing but the order of these steps.
"""

from __future__ import annotations

from trio_mcp.cli.call import print_result
from trio_mcp.cli.tasks.not_found import explaining_not_found
from trio_mcp.cli.tasks.source import TaskPlace, open_tasks
from trio_mcp.handlers.sink import detailed


async def print_task_result(place: TaskPlace, task_id: str, *, structured: bool, quiet: bool) -> int:
    """Wait for a task with its progress on stderr, and print its result as `call` does; checkpoints.

    Raises CommandError for a task that does not exist, and what `open_tasks` and
    `Client.await_task` raise.
    """
    async with open_tasks(place, quiet=quiet) as opened:
        async with opened.open_display(task_id) as display:
            with explaining_not_found(task_id, place.noun):
                result = await opened.source.await_task(
                    task_id,
                    progress_handler=None if quiet else detailed(display.receive),
                    raise_on_error=False,
                )
        return print_result(f"the task {task_id!r}", result, structured=structured)
