"""The server of the task benchmark with a store: `python trio_mcp_store_server.py stdio|worker URL`.

As a worker it serves no client: it runs what others have put into the queue of the store.
"""

import os
import sys

import trio
from lifeline import end_with_parent
from trio_mcp_task_server import MAX_RECORDS, make_server

from trio_mcp import MemoryTaskStore, RedisTaskStore, Server, SQLiteTaskStore, TaskStore, run_worker


def open_url(url: str) -> TaskStore:
    """The store of `memory:`, `sqlite:PATH` or a Redis URL, with room for the records of all rounds."""
    scheme, _, place = url.partition(":")
    if scheme == "memory":
        return MemoryTaskStore(max_records=MAX_RECORDS)
    if scheme == "sqlite":
        return SQLiteTaskStore(place, max_records=MAX_RECORDS)
    return RedisTaskStore(url, max_records=MAX_RECORDS)


def make_store_server(url: str) -> Server:
    """The tools of the other task server, and one for whoever watches this process from outside."""
    server = make_server(open_url(url))

    @server.tool
    def process_id() -> int:
        """Return the number of this process."""
        return os.getpid()

    return server


if __name__ == "__main__":
    role, url = sys.argv[1:]
    if role == "worker":
        end_with_parent()
        trio.run(run_worker, make_store_server(url))
    else:
        make_store_server(url).run()
