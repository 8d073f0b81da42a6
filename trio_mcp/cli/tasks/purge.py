"""`trio-mcp tasks purge`: makes a store forget tasks that have ended, or one task.

Owns the question that comes before.
"""

from __future__ import annotations

import sys

from rich.text import Text

from trio_mcp.cli.output import make_console, print_text
from trio_mcp.cli.prompter import YES_OR_NO, DeclinedError, can_prompt, read_line
from trio_mcp.cli.status import SUCCEEDED, TOOL_FAILED, CommandError
from trio_mcp.cli.tasks.not_found import explaining_not_found
from trio_mcp.cli.tasks.rows import show_status
from trio_mcp.cli.tasks.source import StorePlace, open_store
from trio_mcp.cli.tasks.store_tasks import StoreTasks
from trio_mcp.errors import TaskNotFound
from trio_mcp.printable import printable
from trio_mcp.tasks.store_url import hide_password


async def purge_tasks(place: StorePlace, task_id: str | None, *, is_sure: bool) -> int:
    """Forget all tasks that have ended, or one whatever its status; asks before, unless `is_sure`.

    Checkpoints. The status is 1 if the answer is no. Raises CommandError for a task that does not exist,
    and if there is nobody to ask; TaskStoreError.
    """
    async with open_store(place.url) as store:
        if task_id is None:
            ended = [task.snapshot.id for task in await store.list_tasks() if task.snapshot.is_final]
            question = f"Forget {_count(len(ended))} of {hide_password(place.url)}, with results?"
        else:
            with explaining_not_found(task_id, place.noun):
                task = await store.fetch_task(task_id)
            ended = [task_id]
            stops = "" if task.is_final else " and stop it"
            question = f"{task_id} is {show_status(task.status)}. Forget it{stops}?"
        if ended and not (is_sure or await _ask(question)):
            print_text("nothing is forgotten")
            return TOOL_FAILED
        forgotten = await _forget(store, ended)
    print_text(f"{_count(forgotten)} forgotten" if task_id is None else f"{task_id} is forgotten")
    return SUCCEEDED


async def _forget(store: StoreTasks, ids: list[str]) -> int:
    forgotten = 0
    for task_id in ids:
        try:
            await store.forget_task(task_id)
        except TaskNotFound:  # it has expired meanwhile
            continue
        forgotten += 1
    return forgotten


async def _ask(question: str) -> bool:
    """Ask the person at the terminal. Raises CommandError if there is none."""
    if not can_prompt():
        raise CommandError("there is no terminal to ask at; --yes forgets without asking")
    console = make_console(sys.stderr)
    console.print(Text(f"{printable(question)} [y/N] "), end="", soft_wrap=True)
    try:
        answer = await read_line(console)
    except DeclinedError:
        return False
    return YES_OR_NO.get(answer.lower(), False)


def _count(number: int) -> str:
    return f"{number:,} ended task{'' if number == 1 else 's'}"
