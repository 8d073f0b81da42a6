"""The task of the queue benchmark in streaQ: `python streaq_queue.py URL` is its worker process.

It does what `count` of the other task servers does if no updates are asked for, since streaQ has no progress.
"""

import logging
import sys

from lifeline import end_with_parent
from streaq import Worker
from streaq.task import AsyncRegisteredTask

# As many at once as trio_mcp runs by default.
CONCURRENCY = 100
# Each task that is awaited takes one; with too few of them all wait for ever.
CONNECTIONS = 2500


def make_queue(url: str) -> tuple[Worker[None], AsyncRegisteredTask[[int], int]]:
    """The queue in the Redis server of the URL, and the task that it knows."""
    queue: Worker[None] = Worker(
        redis_url=url,
        redis_kwargs={"max_connections": CONNECTIONS},
        concurrency=CONCURRENCY,
        queue_name="benchmark",
        anyio_backend="trio",
    )

    @queue.task(silent=True)
    async def count(n: int) -> int:
        return n

    return queue, count


if __name__ == "__main__":
    logging.disable()
    end_with_parent()
    make_queue(sys.argv[1])[0].run_sync()
