"""A stdio server made with trio_mcp whose tools run as background tasks.

For the clients of other implementations to call. No tool waits for a clock: a tool that waits, waits for
its client.
"""

from pathlib import Path

import attrs
import trio

from trio_mcp import Context, Lossless, Server, ServerSettings, TaskConfig, TaskSettings, ToolError

# Clients that poll should not make their tests slow.
TASK = TaskConfig(poll_interval=0.02)


@attrs.frozen
class Name:
    name: str


def make_server() -> Server:
    # Lossless, so that a client can count what was sent; short pages, so that it must ask for the next.
    server = Server(
        "our-task-server",
        version="1.0",
        settings=ServerSettings(progress=Lossless()),
        task_settings=TaskSettings(page_size=5),
    )
    add_counting_tools(server)
    add_gate_tools(server)
    add_hanging_tools(server)
    add_other_tools(server)
    return server


def add_counting_tools(server: Server) -> None:
    @server.tool(task=TASK)
    async def loop(n: int, ctx: Context) -> str:
        """Report n progress updates in a tight loop."""
        for i in range(n):
            await ctx.report_progress(i + 1, n, f"update {i + 1}")
        return f"looped {n}"

    @server.tool(task=TASK)
    async def mine(base: int, n: int, ctx: Context) -> int:
        """Report n values from base on, and let others run between them."""
        for i in range(n):
            await ctx.report_progress(base + i, message=str(base))
            await trio.lowlevel.checkpoint()
        return base


def add_gate_tools(server: Server) -> None:
    gate_open = trio.Event()

    @server.tool(task=TASK)
    async def gate(ctx: Context) -> str:
        """Wait for a call of open_gate()."""
        await ctx.report_progress(1, 2, "waiting")
        await gate_open.wait()
        await ctx.report_progress(2, 2, "through")
        return "through the gate"

    @server.tool
    async def open_gate() -> None:
        """Let gate() go on."""
        gate_open.set()


def add_hanging_tools(server: Server) -> None:
    hang_ended = trio.Event()

    @server.tool(task=TASK)
    async def hang(marker: str, ctx: Context) -> None:
        """Say that it has started, wait for ever, and at the end write the file `marker`."""
        await ctx.report_progress(0, message="started")
        try:
            await trio.sleep_forever()
        finally:
            Path(marker).write_text("ended")  # noqa: ASYNC240
            hang_ended.set()

    @server.tool
    async def wait_hang_ended() -> str:
        """Return once a call of hang() has ended here, in the server."""
        await hang_ended.wait()
        return "ended"


def add_other_tools(server: Server) -> None:
    @server.tool(task=TASK)
    async def fail() -> None:
        """Fail, and say so."""
        raise ToolError("failed on purpose")

    @server.tool(task=TASK)
    async def greet(ctx: Context) -> str:
        """Ask for a name."""
        answer = await ctx.elicit("Who are you?", Name)
        return f"Hello, {answer.data.name}!" if answer.data is not None else answer.action

    @server.tool(task=TASK)
    async def interview(ctx: Context) -> str:
        """Ask two questions at once, with progress on record meanwhile."""
        names: dict[str, str] = {}

        async def ask(which: str) -> None:
            answer = await ctx.elicit(f"Your {which} name?", Name, key=which)
            assert answer.data is not None
            names[which] = answer.data.name

        await ctx.report_progress(1, 2, "asking")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "first")
            nursery.start_soon(ask, "last")
        return f"{names['first']} {names['last']}"

    @server.tool(task=TaskConfig(mode="required", poll_interval=0.02))
    async def required(ctx: Context) -> str:
        """Run as a task only."""
        await ctx.report_progress(1, 1, "in a task")
        return f"in a task: {ctx.task_id is not None}"

    @server.tool
    async def forbidden() -> str:
        """Never run as a task."""
        return "no task"


if __name__ == "__main__":
    make_server().run()
