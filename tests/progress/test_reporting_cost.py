"""Calls that use neither stages nor tracking nor time left execute no code of them."""

from __future__ import annotations

import dis
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import trio_mcp
from trio_mcp import Context, Lossless, Server, ServerSettings, open_client

PACKAGE = str(Path(trio_mcp.__file__).parent)
UNUSED = {"stages", "shares", "exact_sum", "tracking", "estimator", "stalls", "silence", "meter"}
"""Modules that a call needs for nothing but stages, loops and time."""

REPORTING = (
    "Context.report_progress",
    "ProgressHelper.increment",
    "ProgressHelper._apply",
    "ProgressReporter.report",
    "ProgressReporter.increment",
    "ProgressReporter._publish",
)
N = 100


class Executed:
    """The code of trio_mcp that ran: modules, instructions by function, and loads of stage-related names."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.looks: Counter[tuple[str, str]] = Counter()
        self.instructions: Counter[str] = Counter()

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return None
        if event == "call":
            self.modules.add(Path(code.co_filename).stem)
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
        elif event == "opcode":
            self.instructions[code.co_qualname] += 1
            look = find_stage_loads(code).get(frame.f_lasti)
            if look is not None:
                self.looks[code.co_qualname, look] += 1
        return self.trace


@cache
def find_stage_loads(code: CodeType) -> dict[int, str]:
    """Return the instructions of a function that load a name with "stage" or "estimator" in it."""
    return {
        instruction.offset: instruction.argval
        for instruction in dis.get_instructions(code)
        if isinstance(instruction.argval, str)
        and instruction.opname.startswith("LOAD")
        and ("stage" in instruction.argval or "estimator" in instruction.argval)
    }


@contextmanager
def executed() -> Iterator[Executed]:
    """Trace this thread; since Python 3.12, only from the second call of each function on."""
    seen = Executed()
    before = sys.gettrace()
    sys.settrace(seen.trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


async def count(ctx: Context) -> None:
    for _ in range(N):
        ctx.progress().increment()


async def report(ctx: Context) -> None:
    for n in range(N):
        await ctx.report_progress(n + 1, N, "working")


def make_server(*loops: Callable[[Context], Awaitable[None]]) -> Server:
    settings = ServerSettings(progress=Lossless(buffer=64), strict_yield=True)
    server = Server("costs", version="1", settings=settings)

    def add(loop: Callable[[Context], Awaitable[None]]) -> None:
        @server.tool(name=loop.__name__)
        async def call(ctx: Context) -> None:
            await loop(ctx)

    for loop in loops:
        add(loop)
    return server


@pytest.mark.parametrize(
    ("loop", "looks"), [(count, {("ProgressReporter._publish", "stages_total")}), (report, set())]
)
async def test_a_call_without_stages_executes_no_code_of_stages(wire, loop, looks):
    """It holds from the report to the progress handler, on both sides.

    A report loads nothing of stages; an `increment` loads one attribute, the sum of the stages. The writer
    checks for stages once for each run of updates that it takes.
    """
    reached: list[float] = []
    async with wire.open(make_server(loop)) as client:
        with executed():
            await client.call_tool(loop.__name__, progress_handler=lambda *update: None)
        with executed() as seen:
            await client.call_tool(loop.__name__, progress_handler=lambda *update: reached.append(update[0]))
    assert reached[-1] == N
    assert {"reporter", "call_queue", "pending_call"} <= seen.modules
    assert not seen.modules & UNUSED
    asked = {look: times for look, times in seen.looks.items() if look[0] in REPORTING}
    assert asked == dict.fromkeys(looks, N)


@pytest.mark.parametrize("loop", [count, report])
@pytest.mark.parametrize("handler", [None, lambda *update: None], ids=["no token", "token"])
async def test_a_report_beside_an_open_stage_executes_the_same_code_as_without(loop, handler):
    """A stage reads the state of its request when it moves; the request never reads that of a stage."""
    seen: list[Executed] = []

    async def measure(ctx: Context) -> None:
        with executed():
            await loop(ctx)  # the first report does work that later ones do not
        with executed() as part:
            await loop(ctx)
        seen.append(part)

    async def without(ctx: Context) -> None:
        await measure(ctx)

    async def beside(ctx: Context) -> None:
        async with ctx.progress().stage("open", weight=1):
            await measure(ctx)

    async with open_client(make_server(without, beside)) as client:
        await client.call_tool("without", progress_handler=handler)
        await client.call_tool("beside", progress_handler=handler)
    alone, accompanied = ({name: part.instructions[name] for name in REPORTING} for part in seen)
    assert alone == accompanied
    assert sum(alone.values()) > 10 * N


async def test_the_trace_sees_stages_if_they_are_used():
    async def staged(ctx: Context) -> None:
        async with ctx.progress().stage("open", total=N) as stage:
            for _ in stage.track(range(N)):
                pass

    async with open_client(make_server(staged)) as client:
        with executed() as seen:
            await client.call_tool("staged", progress_handler=lambda *update: None)
    assert {"stages", "shares", "exact_sum", "tracking"} <= seen.modules
    assert seen.looks["ProgressReporter._publish", "stages_total"] > N
