"""Answers how much memory this process holds, when a line of its standard input asks.

Owns the measure: the memory that the process shares with no other, as the kernel counts it after a collection
of garbage.
"""

import gc
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import trio


def footprint() -> int:
    """The process's private bytes."""
    gc.collect()
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(int(kilobytes) for kilobytes in re.findall(r"Private_\w+:\s+(\d+) kB", rollup))


async def answer_questions(count: Callable[[], int]) -> None:
    """Answer each line of stdin with the bytes held and with `count()`, until stdin ends."""
    while await trio.to_thread.run_sync(sys.stdin.readline):
        print(json.dumps({"bytes": footprint(), "count": count()}), flush=True)
