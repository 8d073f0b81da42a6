"""The server of the task benchmark, made with FastMCP: `python fastmcp_task_server.py [URL]`.

It keeps its tasks in memory, or in the Redis server of the URL.
"""

import sys
import time

from fastmcp import Context, FastMCP
from fastmcp.utilities.tasks import TaskConfig
from fastmcp_tasks import TasksExtension
from tally import MESSAGE

# As many at once as trio_mcp runs by default.
CONCURRENCY = 100
IN_MEMORY = "memory://"


def make_server(url: str = IN_MEMORY) -> FastMCP:
    server = FastMCP("benchmark", version="1.0")
    server.add_extension(TasksExtension(url=url, concurrency=CONCURRENCY))

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
    make_server(*sys.argv[1:]).run(show_banner=False, log_level="ERROR")
