"""Tools of trio_mcp's server that report in a tight loop, each in another way.

Each returns the processor time of its loop and the progress it has reached. The servers of the rivals have
only the tool `reports`.
"""

from collections.abc import Awaitable, Callable
from time import process_time

from tally import time_reports

from trio_mcp import Context, Estimator, ProgressHelper, Server, TaskConfig

Loop = Callable[[int, Context], Awaitable[str]]


def time_increments(progress: ProgressHelper, n: int) -> str:
    begin = process_time()
    for _ in range(n):
        progress.increment()
    return f"{process_time() - begin} {progress.current}"


async def reports(n: int, ctx: Context) -> str:
    """Report n updates."""
    return await time_reports(ctx.report_progress, n)


async def increments(n: int, ctx: Context) -> str:
    """Count to n on the request."""
    return time_increments(ctx.progress(), n)


async def stage(n: int, ctx: Context) -> str:
    """Count to n on a stage that makes up the whole request."""
    progress = ctx.progress()
    progress.set_total(n)
    async with progress.stage("one", weight=n, total=n) as one:
        return time_increments(one, n)


async def stages(n: int, ctx: Context) -> str:
    """Count to n on a stage within a stage within a stage that makes up the whole request."""
    progress = ctx.progress()
    progress.set_total(n)
    async with (
        progress.stage("one", weight=n, total=1) as one,
        one.stage("two", weight=1, total=1) as two,
        two.stage("three", weight=1, total=n) as three,
    ):
        return time_increments(three, n)


async def items(n: int, ctx: Context) -> str:
    """Track a loop over n numbers that does nothing."""
    progress = ctx.progress()
    begin = process_time()
    for _ in progress.track(range(n)):
        pass
    return f"{process_time() - begin} {progress.current}"


class Count:
    """Counts without a progress helper, to show the least that counting costs."""

    def __init__(self) -> None:
        self.current = 0


async def attribute(n: int, ctx: Context) -> str:
    """Count to n on an attribute, and report nothing."""
    count = Count()
    begin = process_time()
    for _ in range(n):
        count.current += 1
    return f"{process_time() - begin} {count.current}"


async def beside_stage(n: int, ctx: Context) -> str:
    """Count to n on the request while a stage without a share is open."""
    with ctx.progress().spinner("waiting"):
        return time_increments(ctx.progress(), n)


async def estimates(n: int, ctx: Context) -> str:
    """Give an estimator n updates, a millisecond apart."""
    estimator = Estimator()
    begin = process_time()
    for i in range(n):
        estimator.update(i / 1000, i + 1, n)
    return f"{process_time() - begin} {estimator.progress}"


LOOPS: tuple[Loop, ...] = (reports, increments, stage, stages, items, attribute, beside_stage, estimates)


def add_loops(server: Server) -> None:
    """Add a tool for each loop, and two that do not run in the task of the request."""
    for loop in LOOPS:
        server.tool(loop)

    @server.tool
    def in_thread(n: int, ctx: Context) -> str:
        """Count to n on the request, from a worker thread."""
        return time_increments(ctx.progress(), n)

    @server.tool(task=TaskConfig(mode="required"))
    async def in_task(n: int, ctx: Context) -> str:
        """Count to n in a background task, whose record also estimates rate and time left."""
        return time_increments(ctx.progress(), n)
