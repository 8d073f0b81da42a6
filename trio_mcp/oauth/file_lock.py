"""A lock that processes share, by a file: advisory, and released by the system if its holder dies.

Owns what differs between systems. Refuses to know what the lock protects.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from trio_mcp.errors import TokenStorageError

POLL_SECONDS: Final = 0.02
"""How often a waiting task tries again: a thread that waits in the system could not be cancelled."""

_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            # Not lockf: its locks belong to the process, so that two tasks of one would both hold it.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # Closing is not enough: a child that was forked meanwhile has the descriptor too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@asynccontextmanager
async def hold_file_lock(path: Path) -> AsyncIterator[None]:
    """Hold the lock of the file `path`, which is made with mode 600 and stays; checkpoints.

    It holds between processes, and between tasks and threads of one. The file stays because whoever
    deleted it could have a lock that nobody else sees. Directories that do not exist are made with mode 700.
    Raises TokenStorageError if it cannot be opened or locked.
    """
    descriptor = await _lock(path)
    try:
        yield
    finally:
        _unlock(descriptor)
        os.close(descriptor)


async def _lock(path: Path) -> int:
    await trio.lowlevel.checkpoint()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            while not _try_lock(descriptor):  # noqa: ASYNC110 - no Event comes from other processes
                await trio.sleep(POLL_SECONDS)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise TokenStorageError(f"lock {path}: {error.strerror or type(error).__name__}") from error
    return descriptor
