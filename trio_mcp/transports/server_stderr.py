"""What a server process writes to its stderr: passed on to ours, with its last lines kept.

Owns the pipe and the copy of our own descriptor. A server never waits for whoever reads our stderr:
what cannot be written is dropped beyond a bound.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import attrs
import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.printable import one_line

STDERR: Final = 2

READ_BYTES: Final = 65_536

TAIL_BYTES: Final = 4096
"""How much of the end is kept: a traceback's last lines, not a log."""

TAIL_LINES: Final = 10
"""How many lines of it an error quotes."""

WRITE_BYTES: Final = 512
"""What a pipe that is writable takes without waiting (POSIX: at least PIPE_BUF, at least 512)."""

WAITING_BYTES: Final = 1 << 20
"""How much may wait for a reader of our stderr that is slower than the server; the rest is dropped."""

RETRY_SECONDS: Final = 0.02
"""How often a full stderr is tried again."""

DRAIN_SECONDS: Final = 0.5
"""How long what the server leaves behind may keep its stderr open after its end."""


@attrs.define(eq=False)
class ServerStderr:
    """The stderr of one server; `writing` is the descriptor that the server gets."""

    writing: int
    _stream: trio.lowlevel.FdStream
    _ours: int
    _tail: bytearray = attrs.field(factory=bytearray)
    _waiting: bytearray = attrs.field(factory=bytearray)
    _dropped: int = 0
    ended: trio.Event = attrs.field(factory=trio.Event)
    """Set when nobody holds it open any more."""

    @property
    def last_lines(self) -> str:
        """The last lines, made printable; empty if there are none."""
        lines = bytes(self._tail).decode(errors="replace").split("\n")
        cleaned = [one_line(line).rstrip() for line in lines]
        return "\n".join([line for line in cleaned if line][-TAIL_LINES:])

    async def pass_on(self) -> None:
        """Read until nobody holds it open any more; checkpoints."""
        async with open_unwrapping_nursery() as nursery:
            while True:
                try:
                    data = await self._stream.receive_some(READ_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    break
                if not data:
                    break
                self._tail += data
                del self._tail[:-TAIL_BYTES]
                room = WAITING_BYTES - len(self._waiting)
                self._dropped += max(0, len(data) - room)
                was_empty = not self._waiting
                self._waiting += data[: max(0, room)]
                if was_empty and not self._write():
                    nursery.start_soon(self._write_rest)
            self.ended.set()

    @trio.lowlevel.enable_ki_protection
    async def _write_rest(self) -> None:
        while not self._write():  # noqa: ASYNC110  # a regular file or a terminal may not be waited for
            await trio.sleep(RETRY_SECONDS)

    def _write(self) -> bool:
        """Write what our stderr takes without waiting; False if something is left."""
        while self._waiting:
            with suppress(OSError):  # nobody reads our stderr any more
                if not select.select((), (self._ours,), (), 0)[1]:
                    return False
                del self._waiting[: os.write(self._ours, self._waiting[:WRITE_BYTES])]
                continue
            self._waiting.clear()
        if self._dropped:
            note = f"trio_mcp: {self._dropped} bytes of the server's stderr were dropped\n"
            self._waiting, self._dropped = bytearray(note.encode()), 0
            return self._write()
        return True


def can_pass_on() -> bool:
    """Whether our stderr is open, and pipes can be read in this system."""
    if sys.platform == "win32" or sys.__stderr__ is None:
        return False
    try:
        return not stat.S_ISDIR(os.fstat(STDERR).st_mode)
    except OSError:
        return False


@asynccontextmanager
async def open_server_stderr() -> AsyncIterator[ServerStderr]:
    """Pass on a server's stderr until the block and all that hold it open have ended; checkpoints.

    The caller calls `close_writing` as soon as the server has its descriptor.
    """
    reading, writing = os.pipe()
    ours = os.dup(STDERR)
    stderr = ServerStderr(writing, trio.lowlevel.FdStream(reading), ours)
    # Shielded: a server may write while it stops, and a broken pipe would kill it. The deadline is
    # set on exit.
    patience = trio.CancelScope(shield=True)

    # A KeyboardInterrupt is for those who wait for the server's end: here it would end nothing.
    @trio.lowlevel.enable_ki_protection
    async def run() -> None:
        with patience:
            await stderr.pass_on()

    try:
        async with stderr._stream, open_unwrapping_nursery() as nursery:
            nursery.start_soon(run)
            try:
                yield stderr
            finally:
                close_writing(stderr)
                patience.deadline = trio.current_time() + DRAIN_SECONDS
    finally:
        os.close(ours)


def close_writing(stderr: ServerStderr) -> None:
    """Close our copy of the server's end, so that the pipe ends with the server."""
    if stderr.writing != -1:
        os.close(stderr.writing)
        stderr.writing = -1
