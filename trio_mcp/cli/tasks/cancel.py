"""`trio-mcp tasks cancel`: cancels one task, and prints the state that it is in afterwards.

Owns the words for that state.
"""

from __future__ import annotations

from trio_mcp.cli.output import print_text
from trio_mcp.cli.status import SUCCEEDED, TOOL_FAILED
from trio_mcp.cli.tasks.not_found import explaining_not_found
from trio_mcp.cli.tasks.rows import show_status
from trio_mcp.cli.tasks.source import TaskPlace, open_plain_tasks


async def cancel_task(place: TaskPlace, task_id: str) -> int:
    """Cancel a task and print the state that it is in afterwards; checkpoints.

    Raises CommandError for a task that does not exist, and what `open_plain_tasks` and
    `Client.cancel_task` raise.
    """
    async with open_plain_tasks(place) as source:
        with explaining_not_found(task_id, place.noun):
            await source.cancel_task(task_id)
            task = await source.fetch_task(task_id)
    if task.status == "cancelled":
        print_text(f"{task_id} is cancelled")
    elif task.is_final:
        print_text(f"{task_id} has ended: {task.status}")
        return TOOL_FAILED
    else:
        print_text(f"{task_id} is asked to end, and {show_status(task.status)} still")
    return SUCCEEDED
