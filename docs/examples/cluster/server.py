"""The server of the cluster: the same file for every replica and every worker."""

import os

import trio

from trio_mcp import Context, Server, TaskConfig

server = Server("cluster")


@server.tool(task=TaskConfig(mode="required", recover="restart", attempts=5))
async def count(ctx: Context, to: int, seconds: float = 1.0) -> str:
    """Count, a step each so many seconds; another process goes on where this one has died."""
    first = ctx.restored or 0
    for number in range(first + 1, to + 1):
        await trio.sleep(seconds)
        await ctx.report_progress(number, to, f"attempt {ctx.attempt} in process {os.getpid()}")
        await ctx.checkpoint(number)
    return f"counted to {to}, from {first + 1} on in process {os.getpid()}"
