"""How much memory this process holds, asked through its standard input.

Owns the measure: what the process shares with no other, after a collection, as the kernel counts it.
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
    """Answer each line of stdin with the bytes held and with what `count` says, until it ends."""
    while await trio.to_thread.run_sync(sys.stdin.readline):
        print(json.dumps({"bytes": footprint(), "count": count()}), flush=True)
