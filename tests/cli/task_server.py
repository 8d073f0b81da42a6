"""A server whose store has tasks already when a command connects, like a durable store.

Run as a program it serves over stdio, with the tasks that its arguments name,
`ID=TOOL` or `ID=TOOL:FILE`. They run in this process, and wait for FILE, a named pipe.
`ID=stored-STATUS` is only a record, as if another process had made it.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import attrs
import msgspec
import trio
from msgspec import Meta

from trio_mcp import (
    Context,
    MemoryTaskStore,
    Server,
    TaskRecord,
    TaskSettings,
    TaskStatus,
    ToolError,
    open_client,
    open_server,
)
from trio_mcp.tasks import supervisor
from trio_mcp.tasks.record import BEARER, Outcome, Owner
from trio_mcp.tasks.store import TaskPage
from trio_mcp.transports.stdio import open_stdio_transport


class SharedStore(MemoryTaskStore):
    """A store in which everybody may list all tasks."""

    async def list_page(self, owner: Owner, cursor: str | None, limit: int, now: datetime) -> TaskPage:
        return await super().list_page(BEARER, cursor, limit, now)


server = Server(
    "keeper",
    version="1",
    task_store=SharedStore(),
    # So that the end of the server cancels no task: it is killed before the grace is over.
    task_settings=TaskSettings(poll_interval=0.05, shutdown_grace=3600),
)


async def wait_for(file: str) -> None:
    """Wait until somebody has written to a named pipe."""
    if file:
        await trio.to_thread.run_sync(_read, file, abandon_on_cancel=True)


def _read(file: str) -> None:
    with open(file, encoding="utf-8") as pipe:
        pipe.read()


@server.tool(task=True)
async def count(ctx: Context, file: str = "") -> str:
    """Report half, wait, report all."""
    await ctx.report_progress(5, 10, "half of it")
    await wait_for(file)
    await ctx.report_progress(10, 10, "all of it")
    return "counted 10"


@server.tool(task=True)
async def spin(ctx: Context, file: str = "") -> str:
    """Progress without a total."""
    await ctx.report_progress(1234, None, "who knows")
    await wait_for(file)
    return "spun"


@server.tool(task=True)
async def fail(ctx: Context, file: str = "") -> str:
    await ctx.report_progress(3, 10, "so far so good")
    await wait_for(file)
    raise ToolError("the disk is full")


@attrs.frozen
class Order:
    size: Annotated[Literal["small", "large"], "How much of it."]
    copies: Annotated[int, Meta(ge=1, le=9)]
    gift: bool = False
    note: str = ""
    extras: list[Literal["milk", "sugar"]] = attrs.field(factory=list)


@server.tool(task=True)
async def ask(ctx: Context, file: str = "") -> str:
    """Have a form filled in between two reports."""
    await ctx.report_progress(1, 2, "before")
    answer = await ctx.elicit("What may it be?", Order)
    await ctx.report_progress(2, 2, "after")
    return answer.action if answer.data is None else str(answer.data)


@server.tool(task=True)
async def kept(ctx: Context) -> str:
    """How long its own record is kept."""
    assert server.task_store is not None
    assert ctx.task_id is not None
    record = await server.task_store.get(ctx.task_id, datetime.now(UTC))
    assert record is not None
    return f"{record.ttl:g} seconds"


@server.tool(task=True)
async def hang(ctx: Context, marker: str) -> None:
    try:
        await ctx.report_progress(1, 10, "hanging")
        await trio.sleep_forever()
    finally:
        Path(marker).write_text("cleaned up")  # noqa: ASYNC240  # a checkpoint here would be cancelled


def stored(ident: str, status: TaskStatus) -> TaskRecord:
    now = datetime.now(UTC) - timedelta(seconds=75)
    record = TaskRecord(id=ident, tool="gone", owner=BEARER, created_at=now, last_updated_at=now, ttl=3600)
    content = {"content": [{"type": "text", "text": "from another process"}]}
    outcome = {
        TaskStatus.COMPLETED: Outcome("result", msgspec.Raw(msgspec.json.encode(content))),
        TaskStatus.CANCELLED: Outcome("cancelled"),
    }.get(status)
    return record.reported(now, 7, 7, "done elsewhere").changed(now, status=status, outcome=outcome)


async def main(arguments: list[str]) -> None:
    named = [argument.split("=", 1) for argument in arguments]
    live = [(ident, what) for ident, what in named if not what.startswith("stored")]
    server.task_settings = attrs.evolve(server.task_settings, shutdown_grace=0)
    # Chosen here, because the tests must know them beforehand.
    supervisor.new_task_id = iter([ident for ident, _ in live]).__next__  # type: ignore[assignment]
    assert server.task_store is not None
    for ident, what in named:
        if what.startswith("stored"):
            await server.task_store.create(stored(ident, TaskStatus(what.removeprefix("stored-"))))
    async with (
        open_server(server) as running,
        open_client(running, elicitation_handler=lambda _: None) as own,
    ):
        for _, what in live:
            tool, _, file = what.partition(":")
            await own.call_tool(tool, {"file": file}, task=True)
        async with open_stdio_transport(max_frame_bytes=server.settings.max_frame_bytes) as transport:
            await running.serve(transport)


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
    os._exit(0)  # a thread may still wait for a pipe that nobody writes to
