"""A named pipe by which other processes report, for as long as a block lasts.

Owns the pipe and the task that reads it. A path can be handed to every kind of process: to one of
multiprocessing, to one of a pool that runs already, to a shell script. Refuses to know what a line means.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.progress.worker import WorkerProgress
from trio_mcp.progress.worker_lines import LineReader

READ_BYTES: Final = 65_536
"""The most in one read: all that a pipe holds, on most systems."""

LAST_READS: Final = 16
"""How many reads the end of a block makes at most: together more than a pipe can hold."""


@asynccontextmanager
async def open_worker_pipe(lines: LineReader) -> AsyncIterator[WorkerProgress]:
    """See `ProgressHelper.open_worker_pipe`."""
    if not hasattr(os, "mkfifo"):
        raise RuntimeError("worker pipes need a system with named pipes (POSIX)")
    with _open_fifo() as (path, descriptor):
        reader = _PipeReader(descriptor, lines)
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(reader.run)
            yield WorkerProgress(path)
            reader.end()


@contextmanager
def _open_fifo() -> Iterator[tuple[str, int]]:
    """A new named pipe that only this user can open: its path, and its end for reading."""
    with tempfile.TemporaryDirectory(prefix="trio-mcp-") as directory:
        path = os.path.join(directory, "progress")
        os.mkfifo(path, 0o600)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            # While this end is open for writing, a pause between two workers is not the end of the pipe.
            writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            try:
                yield path, reading
            finally:
                os.unlink(path)  # before it is closed, so that no process opens a pipe that nobody reads
                os.close(writing)
        finally:
            os.close(reading)


class _PipeReader:
    """Reads the pipe until `end` is called, and then what is left in it."""

    def __init__(self, descriptor: int, lines: LineReader) -> None:
        self._descriptor = descriptor
        self._lines = lines
        self._waiting = trio.CancelScope()
        self._has_ended = False

    async def run(self) -> None:
        """Report each line that comes; checkpoints."""
        while not self._has_ended:
            with trio.CancelScope() as self._waiting:
                await trio.lowlevel.wait_readable(self._descriptor)
            await self._read()
        for _ in range(LAST_READS):
            if not await self._read():
                break
        await self._lines.finish()

    def end(self) -> None:
        """Let `run` read what is in the pipe now, and then return."""
        self._has_ended = True
        self._waiting.cancel()

    async def _read(self) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        await self._lines.feed(data)
        return bool(data)
