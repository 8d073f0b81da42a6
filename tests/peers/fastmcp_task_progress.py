"""Shows what a FastMCP task does with its progress: `python fastmcp_task_progress.py`.

A task reports 1.7 of 2.5. The program prints one JSON object: what FastMCP has stored of that, what
tasks/get returns, and the updates that the client's progress handler got before the result.
"""

import asyncio
import json
from datetime import timedelta
from typing import Any

from docket.dependencies import current_execution
from fastmcp import Client, Context, FastMCP
from fastmcp.utilities.tasks import TaskConfig
from fastmcp_tasks import TasksExtension, call_tool_task


async def main() -> None:
    server = FastMCP("tasks", version="1.0")
    server.add_extension(TasksExtension(url="memory://"))
    reported, looked = asyncio.Event(), asyncio.Event()
    stored: list[Any] = []
    heard: list[Any] = []

    @server.tool(task=TaskConfig(mode="required", poll_interval=timedelta(milliseconds=20)))
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1.7, 2.5, "working")
        progress = current_execution.get().progress
        stored.extend([progress.current, progress.total, progress.message])
        reported.set()
        await looked.wait()
        return "worked"

    async def on_progress(*update: Any) -> None:
        heard.append(update)

    async with Client(server, progress_handler=on_progress) as client:
        task = await call_tool_task(client, "work")
        await reported.wait()
        status = await task.status()
        looked.set()
        result = await task.result()
    told = status.model_dump(exclude_none=True, exclude={"meta", "task_id", "created_at", "last_updated_at"})
    print(json.dumps({"stored": stored, "told": told, "heard": heard, "result": result.data}))


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(), 20))
