"""Shows a load while it runs: a bar for all of it and one for each call, or lines.

Owns the drawing. As in `cli/display.py`, drawing reads the newest values a few times
a second, so it costs the same at any rate of updates.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trio_mcp.cli.bench.load import LoadRun
from trio_mcp.cli.display import print_line
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.handlers.meter import Meter, Reading, show_count, show_rate, show_share, show_time
from trio_mcp.handlers.rich_board import MARGIN, NARROW, make_live
from trio_mcp.handlers.text_lines import MESSAGE_CHARACTERS
from trio_mcp.printable import one_line

LINE_SECONDS: Final = 1.0

ROWS: Final = 10
"""How many calls have a bar of their own."""


@attrs.define(eq=False)
class Gauge:
    """Shows one run, and measures how fast its updates come."""

    title: str
    run: LoadRun
    _meter: Meter = attrs.field(factory=lambda: Meter(time.perf_counter()))

    def draw(self, width: int) -> RenderableType:
        """A line of `width` columns for the whole load, and one for each of the first calls."""
        now = time.perf_counter()
        rate = show_rate(self.sample(now)) or "0/s"
        run = self.run
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.width = max(width - MARGIN, NARROW // 2)
        table.add_column(no_wrap=True, min_width=8, ratio=1, overflow="ellipsis")
        if width >= NARROW:
            table.add_column(min_width=8)
        table.add_column(no_wrap=True, min_width=4, justify="right")
        table.add_column(no_wrap=True, min_width=13, justify="right")

        def add(label: Text, share: float | None, percent: str, count: Text) -> None:
            bar = Text() if share is None else ProgressBar(total=1.0, completed=share, width=width // 4)
            table.add_row(label, *([bar] if width >= NARROW else []), Text(percent), count)

        share = run.share(now)
        add(self._describe_all(now), share, f"{share:.0%}", Text(rate, style="magenta"))
        for number, slot in enumerate(run.slots[:ROWS], 1):
            reading = slot.reading or Reading(0)
            label = Text(
                f"call {number}  {one_line((reading.message or '')[:MESSAGE_CHARACTERS])}", style="dim"
            )
            count = Text("" if slot.reading is None else show_count(reading))
            add(label, reading.share, show_share(reading), count)
        if len(run.slots) > ROWS:
            table.add_row(Text(f"and {len(run.slots) - ROWS:,} more", style="dim"))
        return table

    def describe(self) -> str:
        """The state of the run as a line of text."""
        now = time.perf_counter()
        run = self.run
        rate = show_rate(self.sample(now)) or "0/s"
        failed = f", {run.failed:,} failed" if run.failed else ""
        return (
            f"{now - run.started:3.0f} s  {run.finished:,} calls finished{failed}, "
            f"{run.delivered:,} updates, {rate}"
        )

    def sample(self, now: float) -> float:
        """Record how many updates have come by now, and return the recent rate per second."""
        self._meter.update(self.run.delivered)
        self._meter.sample(now)
        return self._meter.rate(now)

    def _describe_all(self, now: float) -> Text:
        run = self.run
        text = Text.assemble((one_line(self.title), "bold"), f"  {run.finished:,} calls")
        if run.failed:
            text.append(f", {run.failed:,} failed", "red")
        return text.append(f"  {show_time(now - run.started)}", "cyan")


@asynccontextmanager
async def open_gauge(
    title: str, run: LoadRun, console: Console | None, *, quiet: bool
) -> AsyncIterator[None]:
    """Show `run` during the block; bars on `console` are removed at its end."""
    gauge = Gauge(title, run)
    gauge.sample(time.perf_counter())  # the first rate is measured from here
    if quiet:
        await trio.lowlevel.checkpoint()
        yield
    elif console is not None:
        await trio.lowlevel.checkpoint()
        live = make_live(console, lambda: gauge.draw(console.width))
        live.transient = True  # the report replaces the bars
        with live:
            yield
    else:
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(_print_regularly, gauge)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()


async def _print_regularly(gauge: Gauge) -> None:
    while True:
        await trio.sleep(LINE_SECONDS)
        print_line(gauge.describe())
