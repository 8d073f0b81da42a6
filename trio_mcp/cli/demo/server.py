"""The server of `trio-mcp demo`: one tool, which takes an inventory of a directory tree.

Owns how file work in a thread is reported as progress. Run as a module, it serves over
stdio.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Final

import trio

from trio_mcp.cli.demo.inventory import Inventory, Tally, readable, walk
from trio_mcp.errors import ToolError
from trio_mcp.server.context import Context
from trio_mcp.server.server import Server
from trio_mcp.tasks.settings import TaskConfig

SLICE_SECONDS: Final = 0.005
SLICE_FILES: Final = 100
"""After this time or this many files the thread returns which files it has read."""

server = Server("trio-mcp demo", instructions="Takes an inventory of directory trees.")


@server.tool(task=TaskConfig(promote_after=math.inf))  # a task only if the client asks for one
async def inventory(directory: str, ctx: Context, exclude: list[str] | None = None) -> Inventory:
    """Count files, lines and bytes below a directory by file type, with a digest over all contents.

    Args:
        directory: where to begin; symbolic links below it are not followed.
        exclude: names of directories that are left out.
    """
    names = frozenset(exclude or ())
    if not await trio.Path(directory).is_dir():
        raise ToolError(f"there is no directory {directory!r}")
    await ctx.report_progress(0, None, "counting files")
    total = await trio.to_thread.run_sync(_count, directory, names)
    await ctx.report_progress(0, total, "reading files")
    tally = Tally(directory, trio.from_thread.check_cancelled)
    files = walk(directory, tally.skip, names)
    root = os.path.join(directory, "")
    done = 0
    while paths := await trio.to_thread.run_sync(_read_slice, files, tally):
        for path in paths:
            done += 1
            # A file may have been added since they were counted.
            await ctx.report_progress(done, max(done, total), readable(path.removeprefix(root)))
    return tally.finish()


def _count(directory: str, exclude: frozenset[str]) -> int:
    count = 0
    for _ in walk(directory, lambda error: None, exclude):
        trio.from_thread.check_cancelled()
        count += 1
    return count


def _read_slice(files: Iterator[str], tally: Tally) -> list[str]:
    """Read files for a moment, and return their paths; no path means that all have been read."""
    paths = []
    deadline = time.monotonic() + SLICE_SECONDS
    for path in files:
        tally.add(path)
        paths.append(path)
        if time.monotonic() >= deadline or len(paths) == SLICE_FILES:
            break
    return paths


if __name__ == "__main__":
    server.run()
