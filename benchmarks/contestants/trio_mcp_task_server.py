"""The server of the task benchmark, made with trio_mcp. `fastmcp_task_server.py` has the same tools."""

import time

from tally import MESSAGE

from trio_mcp import Context, MemoryTaskStore, Server, TaskConfig, TaskSettings, TaskStore

# Room for the records of all rounds.
MAX_RECORDS = 1_000_000


def make_server(store: TaskStore | None = None) -> Server:
    """The server, whose tasks are in `store`, or in memory."""
    server = Server(
        "benchmark",
        version="1.0",
        task_store=MemoryTaskStore(max_records=MAX_RECORDS) if store is None else store,
        task_settings=TaskSettings(max_kept_per_owner=MAX_RECORDS),
    )

    @server.tool(task=TaskConfig(mode="required"))
    async def count(n: int, ctx: Context) -> int:
        """Report n updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, MESSAGE)
        return n

    @server.tool
    async def cpu() -> float:
        """Return the CPU time of this process, in seconds."""
        return time.process_time()

    return server


if __name__ == "__main__":
    make_server().run()
