"""`trio-mcp worker`: a process that runs queued tasks and serves nobody.

Owns the notes that say what it does. What a worker is stands in `server/worker.py`.
"""

from __future__ import annotations

from functools import partial

from trio_mcp.cli.output import print_note
from trio_mcp.cli.status import SUCCEEDED
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.server.server import Server


async def serve_worker(server: Server, *, max_running: int | None, drain: float | None) -> int:
    """Run queued tasks until cancelled, then give those that run `drain` seconds; checkpoints.

    Raises TaskStoreError if the store cannot be opened.
    """
    from trio_mcp.server.worker import run_worker  # type: ignore[import-not-found, unused-ignore]

    async with open_unwrapping_nursery() as nursery:
        await nursery.start(partial(run_worker, server, max_running=max_running, drain=drain))
        print_note(f"{server.name} works on queued tasks; Ctrl-C ends it.")
    return SUCCEEDED
