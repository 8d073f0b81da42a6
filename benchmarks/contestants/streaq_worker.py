"""streaQ's client of the queue benchmark: `python streaq_worker.py URL`; it starts the process of the queue.

It understands `queued N`, and answers as `trio_mcp_store_worker.py` does.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trio
from lifeline import run_beside
from streaq import Worker
from streaq.task import AsyncRegisteredTask, Task
from streaq_queue import make_queue

QUEUE = Path(__file__).with_name("streaq_queue.py")


async def queued(queue: Worker[None], count: AsyncRegisteredTask[[int], int], n: int) -> dict[str, Any]:
    """Queue n tasks at once, in the one go that streaQ offers, and wait for the result of each."""
    correct = 0

    async def run(task: Task[[int], int]) -> None:
        nonlocal correct
        result = await task.result()
        correct += result.success and result.result == 0

    start = time.perf_counter()
    tasks = [count.enqueue(0) for _ in range(n)]
    await queue.enqueue_many(tasks)
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "late": 0, "cpu": 0.0, "count": correct, "correct": True}


async def main(url: str) -> None:
    queue, count = make_queue(url)
    with run_beside([sys.executable, str(QUEUE), url]):
        async with queue:
            versions = {name: version(name) for name in ("streaq", "coredis")}
            print(json.dumps({"versions": versions}), flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                _, n = line.split()
                print(json.dumps(await queued(queue, count, int(n))), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
