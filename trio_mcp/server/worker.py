"""A process that runs tasks and serves no client: `run_worker`.

Owns how it begins and how it ends. Which tasks it claims is decided in `tasks/claiming.py`.
"""

from __future__ import annotations

import signal
from typing import Final

import attrs
import trio
from msgspec.structs import replace

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.server.definition import HasDefinition
from trio_mcp.server.running import open_worker
from trio_mcp.server.signals import ENDING, find_free, run_until_signal
from trio_mcp.tasks.store import STORE_SECONDS
from trio_mcp.validators import require_count, require_interval

DEFAULT_DRAIN: Final = 30.0
"""Seconds that running tasks are given at the end: what process managers wait before they kill."""


async def run_worker(
    server: HasDefinition,
    *,
    max_running: int | None = None,
    drain: float | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the tasks that wait in the server's store, until a signal or cancellation ends it. Checkpoints.

    The server's lifespan is entered, and nothing is served. At most `max_running` tasks run at once, by
    default that of the server's `task_settings`. `task_status` is told when the store is open.

    SIGTERM, SIGHUP and Ctrl-C (SIGINT) end it, unless the program handles them itself, and so does
    cancellation. Nothing more is claimed then. Running tasks may go on for `drain` seconds, 30 by default and
    0 for none. Those that still run are given back to the store if their tool says `recover="restart"`; the
    others fail with "interrupted". A second signal ends the process at once.

    Raises ValueError if the tasks of the store do not outlive its process, and TaskStoreError.
    """
    if max_running is not None:
        require_count("max_running", max_running)
    seconds = DEFAULT_DRAIN if drain is None else drain
    require_interval("drain", seconds)
    settings = attrs.evolve(server.definition.task_settings, shutdown_grace=seconds)
    if max_running is not None:
        settings = attrs.evolve(settings, max_running=max_running, max_running_per_owner=max_running)
    definition = replace(server.definition, task_settings=settings)
    stop = trio.Event()

    async def wait_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stop.set()

    async def work() -> None:
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(wait_end)
            with trio.CancelScope() as scope:
                async with open_worker(definition):
                    scope.shield = True  # with a deadline once it is told to end
                    task_status.started()
                    await stop.wait()
                    scope.deadline = trio.current_time() + seconds + 2 * STORE_SECONDS
            nursery.cancel_scope.cancel()

    await run_until_signal(work, find_free((signal.SIGINT, *ENDING)))
