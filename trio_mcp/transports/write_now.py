"""Writing without waiting: what the kernel takes at once, which is nearly always everything.

A turn of the scheduler for each write costs more than the write. Knows nothing of what is written;
whoever calls it lets others run between writes.
"""

from __future__ import annotations

import os


def write_now(descriptor: int, data: bytes | bytearray | memoryview) -> int:
    """How many bytes were written to a non-blocking POSIX descriptor; never waits and never raises.

    0 where it is full or gone, or no such descriptor: what then writes the rest in the ordinary way
    waits, or says what is wrong.
    """
    try:
        return os.write(descriptor, data)
    except OSError:
        return 0
