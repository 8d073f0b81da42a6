"""`trio-mcp tasks result`: waits for one task, and prints its result as `trio-mcp call` does.

Owns nothing but the order of these steps.
"""

from __future__ import annotations

from trio_mcp.cli.call import print_result
from trio_mcp.cli.connection import open_connection
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.cli.tasks.not_found import explaining_not_found
from trio_mcp.handlers.sink import detailed


async def print_task_result(
    command: CommandTarget, task_id: str, *, protocol: str, structured: bool, quiet: bool
) -> int:
    """Wait for a task with its progress on stderr, and print its result as `call` does; checkpoints.

    Raises CommandError for a task that does not exist, and what `open_client` and
    `Client.await_task` raise.
    """
    async with open_connection(command, protocol=protocol, quiet=quiet) as connection:
        async with connection.open_display(task_id) as display:
            with explaining_not_found(task_id):
                result = await connection.client.await_task(
                    task_id,
                    progress_handler=None if quiet else detailed(display.receive),
                    raise_on_error=False,
                )
        return print_result(f"the task {task_id!r}", result, structured=structured)
