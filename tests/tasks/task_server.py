"""A server with background tasks, and what else the tests of tasks share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from tests.support.raw_peer import RawPeer
from trio_mcp import (
    Context,
    ProtocolError,
    Server,
    TaskConfig,
    TaskSettings,
    ToolError,
)


def make_server(**task_settings: Any) -> Server:
    server = Server("tasks", version="1", task_settings=TaskSettings(**task_settings))

    @server.tool(task=True)
    async def count(ctx: Context, n: int, pause: float = 0) -> str:
        for i in range(n):
            await ctx.report_progress(i + 1, n, f"step {i + 1}")
            await trio.sleep(pause)
        return f"counted {n}"

    @server.tool(task=True)
    async def fail() -> None:
        raise ToolError("on purpose")

    @server.tool(task=True)
    async def crash() -> None:
        raise KeyError("internal detail")

    @server.tool(task=True)
    async def refuse() -> None:
        raise ProtocolError(-32099 + 5000, "a protocol error", {"why": "tested"})

    @server.tool
    async def plain(ctx: Context) -> str:
        return "plain"

    @server.tool(task=TaskConfig(mode="required"))
    async def required(ctx: Context) -> str:
        assert ctx.task_id is not None
        await ctx.report_progress(1, 1, "in a task")
        return "required"

    return server


async def gate(server: Server) -> tuple[trio.Event, trio.Event, list[str]]:
    """A tool that reports once and then waits: reached, release, and how it ended."""
    reached, release, ends = trio.Event(), trio.Event(), []

    @server.tool(task=True)
    async def wait(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "Half done")
        reached.set()
        try:
            await release.wait()
        except trio.Cancelled:
            ends.append("cancelled")
            raise
        finally:
            ends.append("finally")
        return "released"

    return reached, release, ends


@attrs.frozen
class Name:
    name: str


@asynccontextmanager
async def raw_peer(running: Any) -> AsyncIterator[RawPeer]:
    from trio_mcp import ClientSettings
    from trio_mcp.client.target import open_target

    async with open_target(running, ClientSettings()) as transport:
        yield RawPeer(transport)
