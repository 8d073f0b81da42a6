"""Writing without waiting: what the kernel takes at once, which is nearly always everything.

Owns that one system call, because a turn of the scheduler for each write costs more than the write.
Refuses to know what is written; its callers let other tasks run between writes.
"""

from __future__ import annotations

import os


def write_now(descriptor: int, data: bytes | bytearray | memoryview) -> int:
    """Write to a non-blocking POSIX descriptor and return how many bytes; never waits and never raises.

    0 if the descriptor is full, gone or none: the caller then writes the rest in the ordinary way,
    which waits, or raises what is wrong.
    """
    try:
        return os.write(descriptor, data)
    except OSError:
        return 0
