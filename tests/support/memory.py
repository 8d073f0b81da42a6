"""How much memory a test holds.

Owns the measurement. It leaves out what the thread of pytest-xdist allocates: that thread shares out tests
among the workers at any moment, and needs a megabyte for it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_OTHERS = [tracemalloc.Filter(False, name) for name in ("*/xdist/*", "*/execnet/*", tracemalloc.__file__)]


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """Trace memory in the block, which gets a function: it returns the bytes that the block holds now."""
    tracemalloc.start()
    try:
        yield _held
    finally:
        tracemalloc.stop()


def _held() -> int:
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(_OTHERS).traces)
