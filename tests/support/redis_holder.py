"""A process that holds one task in a Redis server: `python redis_holder.py URL PREFIX LEASE TASK_ID`.

It prints "held", then puts progress all the time, and prints "lost" once others may take its task, and
"refused" when the server has refused what it puts all the same. Reading a line from stdin ends it.
"""

from __future__ import annotations

import sys

import trio

from tests.tasks.store_cases import NOW, make_record
from trio_mcp import RedisTaskStore
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_task import TaskWork


async def hold(url: str, prefix: str, lease: str, task_id: str) -> None:
    store = RedisTaskStore(url, prefix=prefix, lease=float(lease))
    async with store.open(), trio.open_nursery() as nursery:
        record = make_record(id=task_id)
        await store.create(record, TaskWork(recover="restart", attempts=3))
        print("held", flush=True)
        nursery.start_soon(say_lost, store)
        nursery.start_soon(put_all_the_time, store, record)
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


async def say_lost(store: RedisTaskStore) -> None:
    await store.wait_lost()
    print("lost", flush=True)


async def put_all_the_time(store: RedisTaskStore, record: TaskRecord) -> None:
    while True:
        record = record.reported(NOW, record.version, None, "still here")
        try:
            if await store.put([TaskChange(record)]):
                print("refused", flush=True)
                return
        except TaskStoreError:
            pass
        await trio.sleep(0.01)


if __name__ == "__main__":
    trio.run(hold, *sys.argv[1:])
