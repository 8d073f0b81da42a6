"""The ready-made progress handlers: what they show, how often, and that the first and last update count."""

from __future__ import annotations

import io
import itertools
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio
from rich.console import Console

from tests.conftest import MODERN, Wire
from trio_mcp import (
    CallTimeout,
    Context,
    JsonLinesProgress,
    LogProgress,
    Progress,
    RichProgress,
    Server,
    ToolError,
    TqdmProgress,
    detailed,
    rate_limited,
)

MEMORY = Wire("memory", MODERN)


def make_server() -> Server:
    """A server with tools whose every report is written by itself."""
    server = Server("handlers", version="1")

    @server.tool
    async def count(ctx: Context, n: int, pause: float = 0.01, then: float = 0, fails: bool = False) -> int:
        for i in range(1, n + 1):
            await ctx.report_progress(i, n, f"step {i}")
            await trio.sleep(pause)
        await trio.sleep(then)
        if fails:
            raise ToolError("no luck")
        return n

    @server.tool
    async def crawl(ctx: Context, n: int) -> None:
        for i in range(1, n + 1):
            await ctx.report_progress(i)
            await trio.sleep(0.1)

    @server.tool
    async def quiet() -> None:
        pass

    @server.tool
    async def build(ctx: Context) -> None:
        """Open four stages of different speeds at once; one of them has stages of its own."""
        progress = ctx.progress()
        progress.plan({"validate": 10, "export": 20, "upload": 30, "index": 40})

        async def work(name: str, steps: int, seconds: float) -> None:
            async with progress.stage(name, total=steps) as stage:
                for step in range(1, steps + 1):
                    await trio.sleep(seconds)
                    stage.set_message(f"{step}/{steps}")
                    stage.increment()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, "validate", 5, 0.1)
            nursery.start_soon(work, "export", 10, 0.2)
            nursery.start_soon(work, "upload", 15, 0.3)
            nursery.start_soon(work, "index", 80, 0.013)

    @server.tool
    async def nest(ctx: Context) -> None:
        async with (
            ctx.progress().stage("export", weight=1) as export,
            export.stage("tables", total=4) as tables,
            tables.stage("users"),
        ):
            tables.set_message("of the shop")
            await trio.sleep(1)

    return server


# RichProgress


def plain_console(width: int = 100) -> Console:
    """A terminal, as rich sees it, that keeps the text that is written to it."""
    return Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, _environ={"TERM": "xterm"}
    )


def shown(bars: RichProgress, width: int = 100) -> list[str]:
    """The lines of the bars at the moment."""
    console = plain_console(width)
    with console.capture() as capture:
        console.print(bars)
    return [line for line in capture.get().splitlines() if line.strip()]


async def frames_of(
    wire: Wire, tool: str, look: Callable[[RichProgress], Any] = shown, console: Console | None = None
) -> list[Any]:
    """The bars of a call of `tool`, every 50 milliseconds."""
    bars = RichProgress(console or plain_console())
    frames: list[Any] = []
    async with wire.open(make_server(), progress_handler=bars) as client, trio.open_nursery() as nursery:

        async def watch() -> None:
            while True:
                await trio.sleep(0.05)
                frames.append(look(bars))

        nursery.start_soon(watch)
        await client.call_tool(tool)
        nursery.cancel_scope.cancel()
    return frames


async def test_four_parallel_stages_are_five_bars(wire, autojump_clock):
    """One total that never falls, and below it a bar for each stage, with its own numbers."""
    console = plain_console()
    frames = await frames_of(wire, "build", console=console)
    full = [frame for frame in frames if len(frame) == 5]
    assert full, "all four stages are open at once"
    assert max(map(len, frames)) == 5
    for total, *stages in full:
        assert re.match(r"build .* \d+% +[\d.]+/100 .*left", total)
        counts = {line.split()[0].rstrip(":"): line.split()[-1] for line in stages}
        assert {name: int(count.partition("/")[2]) for name, count in counts.items()} == {
            "validate": 5, "export": 10, "upload": 15, "index": 80
        }  # fmt: skip
        assert all(line.startswith("  ") for line in stages)
    totals = [int(re.search(r"(\d+)%", frame[0])[1]) for frame in frames if "%" in frame[0]]
    assert totals == sorted(totals)
    assert len(set(totals)) > 20, "smooth"
    printed = console.file.getvalue()
    assert re.search(r"build .*━{25} .*100% +100/100.*\n", printed), "the last line stays"


async def test_stages_of_stages_are_indented(wire, autojump_clock):
    frames = await frames_of(wire, "nest")
    total, export, tables, users = (line.rstrip() for line in frames[-1])
    assert total.startswith("nest ")
    assert export.startswith("  export ")
    assert tables.startswith("    tables: of the shop ")
    assert users.startswith("      users ")
    assert "0/4" in tables


async def test_several_calls_have_a_bar_each(autojump_clock):
    console = plain_console()
    with RichProgress(console) as bars:
        async with MEMORY.open(make_server(), progress_handler=bars) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call_tool, "count", {"n": 10})
                nursery.start_soon(client.call_tool, "nest")
                nursery.start_soon(client.call_tool, "quiet")
                await trio.sleep(0.055)
                lines = shown(bars)
                assert sorted(line.split()[0] for line in lines if not line.startswith(" ")) == [
                    "count:", "nest"
                ]  # fmt: skip
                assert any("step 6" in line and "6/10" in line for line in lines)
            assert shown(bars) == []
    printed = console.file.getvalue()
    assert re.search(r"count: step 10 .*100% +10/10", printed)
    assert "quiet" not in printed.splitlines()[-1], "a call that never reported leaves no line"


async def test_a_cancelled_call_leaves_only_its_own_line(autojump_clock):
    console = Console(file=io.StringIO(), width=80)
    async with MEMORY.open(make_server(), progress_handler=RichProgress(console)) as client:
        with trio.move_on_after(2):
            await client.call_tool("build")
    (line,) = [line for line in console.file.getvalue().splitlines() if line.strip()]
    assert line.startswith("build")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
async def test_bars_fit_on_lines_of_any_width(autojump_clock, width):
    for frame in await frames_of(MEMORY, "nest", lambda bars: shown(bars, width), plain_console(width)):
        assert len(frame) <= 4
        assert max(map(len, frame)) <= max(width, 30)


async def test_without_a_terminal_only_the_last_line_is_printed(autojump_clock):
    console = Console(file=io.StringIO(), width=80)
    async with MEMORY.open(make_server(), progress_handler=RichProgress(console)) as client:
        await client.call_tool("count", {"n": 3})
        await client.call_tool("quiet")
        with pytest.raises(ToolError):
            await client.call_tool("count", {"n": 2, "fails": True})
    lines = [line for line in console.file.getvalue().splitlines() if line.strip()]
    assert [re.findall(r"step \d|\d+%", line) for line in lines] == [["step 3", "100%"], ["step 2", "100%"]]


async def test_text_of_a_server_cannot_move_the_cursor(autojump_clock):
    server = Server("rogue", version="1")

    @server.tool
    async def rogue(ctx: Context) -> None:
        async with ctx.progress().stage("name\x1b[2J") as stage:
            stage.set_message("two\nlines\x1b[1A")
            await trio.sleep(1)

    bars = RichProgress(plain_console())
    async with MEMORY.open(server, progress_handler=bars) as client, client.start_call("rogue"):
        pass
    async with MEMORY.open(server) as client, trio.open_nursery() as nursery:

        async def call() -> None:
            await client.call_tool("rogue", progress_handler=bars)

        nursery.start_soon(call)
        await trio.sleep(0.5)
        lines = shown(bars)
        assert len(lines) == 2
        assert "name\\x1b[2J: two lines\\x1b[1A" in lines[1]
    assert "\x1b[2J" not in bars._board.console.file.getvalue()


def test_without_rich_the_error_names_the_extra():
    code = "import sys; sys.modules['rich.console'] = None; import trio_mcp; trio_mcp.RichProgress()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "bars need rich: pip install 'trio-mcp[cli]'" in done.stderr


# LogProgress


async def lines_of(
    wire: Wire, caplog: Any, tool: str, arguments: dict[str, Any], handler: LogProgress
) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="trio_mcp.progress"):
        async with wire.open(make_server(), progress_handler=handler) as client:
            await client.call_tool(tool, arguments, raise_on_error=False)
    return [record.getMessage() for record in caplog.records if record.name == "trio_mcp.progress"]


async def test_a_log_has_a_line_now_and_then(wire, autojump_clock, caplog):
    lines = await lines_of(wire, caplog, "count", {"n": 100, "pause": 0.095}, LogProgress())
    assert lines[0] == "count:   1% 1/100 step 1"
    assert lines[-1] == "count: 100% 100/100 step 100"
    assert 9 <= len(lines) <= 12
    assert len(set(lines)) == len(lines), "no line comes twice"


async def test_a_log_by_percent_has_a_line_for_each_step(wire, autojump_clock, caplog):
    lines = await lines_of(wire, caplog, "count", {"n": 1000, "pause": 0.001}, LogProgress(percent=25))
    assert [line.split()[2] for line in lines] == [
        "1/1,000",
        "250/1,000",
        "500/1,000",
        "750/1,000",
        "1,000/1,000",
    ]
    lines = await lines_of(wire, caplog, "count", {"n": 3}, LogProgress(percent=70))
    assert [line.split()[2] for line in lines] == ["1/3", "3/3"]
    lines = await lines_of(wire, caplog, "crawl", {"n": 21}, LogProgress(percent=25))
    assert lines[0] == "crawl: 1"
    assert lines[-1] == "crawl: 21"
    assert 3 <= len(lines) <= 5, "without a total, one a second"


async def test_a_log_ends_with_the_last_update_however_the_call_ends(autojump_clock, caplog):
    with caplog.at_level(logging.DEBUG, logger="mine"):
        log = LogProgress(logging.getLogger("mine"), every=1000, level=logging.DEBUG)
        async with MEMORY.open(make_server(), progress_handler=log) as client:
            with pytest.raises(ToolError):
                await client.call_tool("count", {"n": 3, "fails": True})
            with pytest.raises(CallTimeout):
                await client.call_tool("count", {"n": 1000, "pause": 1}, max_timeout=4.5)
            with trio.move_on_after(6.5):
                await client.call_tool("count", {"n": 1000, "pause": 1})
    lines = [
        (record.levelname, record.getMessage().split()[2])
        for record in caplog.records
        if record.name == "mine"
    ]
    assert lines == [("DEBUG", count) for count in ("1/3", "3/3", "1/1,000", "5/1,000", "1/1,000", "7/1,000")]


@pytest.mark.parametrize("options", [{"every": 0}, {"percent": -1}, {"every": 1, "percent": 1}])
def test_a_log_without_a_sensible_pace_is_refused(options):
    with pytest.raises(ValueError, match=r"larger than 0|not both"):
        LogProgress(**options)


# TqdmProgress and JsonLinesProgress


class Bar:
    """The attributes of tqdm that the handler uses."""

    def __init__(self) -> None:
        self.n: float = 0
        self.total: float | None = None
        self.description = ""
        self.drawn: list[tuple[float, float | None, str]] = []

    def set_description(self, desc: str, refresh: bool = True) -> None:
        self.description = desc

    def update(self, n: float = 1) -> None:
        self.n += n

    def refresh(self) -> None:
        self.drawn.append((self.n, self.total, self.description))


async def test_a_tqdm_bar_ends_with_the_last_update(wire):
    bar = Bar()
    async with wire.open(make_server()) as client:
        await client.call_tool("count", {"n": 50, "pause": 0}, progress_handler=TqdmProgress(bar))
    assert bar.drawn == [(50, 50, "step 50")]


async def test_json_lines_hold_every_update(wire, autojump_clock):
    file = io.StringIO()
    async with wire.open(make_server(), progress_handler=JsonLinesProgress(file)) as client:
        await client.call_tool("count", {"n": 2})
        await client.call_tool("crawl", {"n": 1})
        await client.call_tool("nest")
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert lines[:3] == [
        {"call": 1, "tool": "count", "progress": 1, "total": 2, "message": "step 1"},
        {"call": 1, "tool": "count", "progress": 2, "total": 2, "message": "step 2"},
        {"call": 2, "tool": "crawl", "progress": 1},
    ]
    staged = [line["stages"] for line in lines if "stages" in line]
    assert {"path": ["export", "tables"], "total": 4, "message": "of the shop"} in staged[-1]
    assert lines[-1] == {"call": 3, "tool": "nest", "progress": 1, "total": 1}


# rate_limited


async def test_a_limited_handler_keeps_first_and_last(wire, autojump_clock):
    seen: list[tuple[float, float]] = []

    def handler(progress: float, total: float | None, message: str | None) -> None:
        seen.append((trio.current_time(), progress))

    async with wire.open(make_server(), progress_handler=rate_limited(handler, 10)) as client:
        await client.call_tool("count", {"n": 195})
    times, values = zip(*seen, strict=True)
    assert (values[0], values[-1]) == (1, 195)
    assert list(values) == sorted(set(values))
    assert 18 <= len(values) <= 23
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap > 0.0999 for gap in gaps[:-1]), "only the end is not waited for"


async def test_an_update_that_was_held_back_is_handed_over_when_it_is_due(autojump_clock):
    """A handler that shows a state must not show an old one while no updates arrive."""
    seen: list[tuple[float, float]] = []
    start = trio.current_time()
    limited = rate_limited(lambda value, *rest: seen.append((trio.current_time() - start, value)), 2)
    async with MEMORY.open(make_server(), progress_handler=limited) as client:
        await client.call_tool("count", {"n": 5, "pause": 0.01, "then": 60})
    assert seen == [(0, 1), (0.5, 5)]


async def test_a_limited_async_handler_never_runs_twice_at_once(wire, autojump_clock):
    running = most = 0
    seen: list[float] = []

    async def handler(progress: float, total: float | None, message: str | None) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        # After a quick update the next is held back, and handed over while the call receives others.
        await trio.sleep(0.01 if progress == 1 else 0.35)
        seen.append(progress)
        running -= 1

    async with wire.open(make_server(), progress_handler=rate_limited(handler, 10)) as client:
        await client.call_tool("count", {"n": 100})
        assert (running, most) == (0, 1), "barrier"
        assert (seen[0], seen[-1]) == (1, 100)
        assert seen == sorted(set(seen))
        count = len(seen)
        await trio.sleep(10)
    assert len(seen) == count, "none comes later"


async def test_a_limited_handler_gets_the_last_before_an_error(autojump_clock):
    seen: list[float] = []
    limited = rate_limited(detailed(lambda update: seen.append(update.progress)), 0.01)
    async with MEMORY.open(make_server()) as client:
        with pytest.raises(ToolError):
            await client.call_tool("count", {"n": 9, "fails": True}, progress_handler=limited)
    assert seen == [1, 9]


@pytest.mark.parametrize("stuck_from", [0, 1, 5])
async def test_a_timeout_ends_a_call_whose_limited_handler_is_stuck(autojump_clock, stuck_from):
    """The handler is stuck in the call's own task, or in the task that hands over held updates."""

    async def stick(progress: float, total: float | None, message: str | None) -> None:
        if progress > stuck_from:
            await trio.sleep_forever()

    async with MEMORY.open(make_server(), progress_handler=rate_limited(stick, 10)) as client:
        with trio.fail_after(10):
            with pytest.raises(CallTimeout):
                await client.call_tool("count", {"n": 1000}, max_timeout=3)
            with trio.move_on_after(3) as scope:
                await client.call_tool("count", {"n": 1000})
            assert scope.cancelled_caught


async def test_a_limited_handler_that_raises_does_not_disturb_the_call(wire, autojump_clock, caplog):
    def handler(*update: Any) -> None:
        raise ZeroDivisionError

    async with wire.open(make_server(), progress_handler=rate_limited(handler, 10)) as client:
        assert (await client.call_tool("count", {"n": 50})).data == 50
    assert "a progress handler failed" in caplog.text


async def test_a_limit_may_wrap_any_handler_also_a_limited_one(autojump_clock):
    seen: list[Progress] = []
    limited = rate_limited(rate_limited(detailed(seen.append), 10), 5)
    async with MEMORY.open(make_server(), progress_handler=limited) as client:
        await client.call_tool("nest")
    assert any(len(update.stages) == 3 for update in seen)
    assert (seen[-1].progress, seen[-1].stages) == (1, ())


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    with pytest.raises(ValueError, match="larger than 0"):
        rate_limited(print, rate)
    with pytest.raises(TypeError):
        rate_limited(print, "10")
    with pytest.raises(TypeError, match="callable"):
        rate_limited(None, 10)
