"""Shows one call on stderr while it runs: as a live bar, as plain lines, or not at all.

Owns the drawing. Updates only set the newest values in a `Meter`; drawing reads them a
few times a second, however often they change.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Final, Protocol

import trio
from rich.console import Console, JustifyMethod
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trio_mcp.client.log_queue import LogHandler, LogMessage
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.handlers.meter import Meter, Reading, show_count, show_rate, show_share, show_time
from trio_mcp.handlers.rich_board import MARGIN, NARROW, WIDE, CallRow, draw_calls, make_live
from trio_mcp.handlers.sink import Progress
from trio_mcp.handlers.text_lines import MESSAGE_CHARACTERS, describe
from trio_mcp.printable import one_line, printable

LINE_SECONDS: Final = 0.2

_LEVEL_STYLES: Final = {
    "warning": "yellow",
    "error": "red",
    "critical": "red",
    "alert": "red",
    "emergency": "red",
}


class Display(Protocol):
    """Shows the progress of one call, and notes about it."""

    meter: Meter

    def update(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Show an update, as a progress handler; cheap however often it is called."""

    def receive(self, update: Progress) -> None:
        """Show an update and the stages that are open, as a receiver."""

    def note(self, text: str) -> None:
        """Print a line of minor interest, which stays."""

    def paused(self) -> AbstractContextManager[None]:
        """Draw nothing during the block, in which the person is asked something."""


def make_log_handler(console: Console | None) -> LogHandler:
    """A log handler that prints each message above the bar, or as a line on stderr without a console."""

    def show(message: LogMessage) -> None:
        text = printable(_log_text(message))
        if console is not None:
            level = Text(f"{message.level:<7} ", style=_LEVEL_STYLES.get(message.level, "cyan"))
            console.print(Text.assemble(level, text, style="dim"), soft_wrap=True)
        else:
            print_line(f"[{message.level}] {text}")

    return show


@asynccontextmanager
async def open_display(title: str, console: Console | None) -> AsyncIterator[Display]:
    """Show the progress of a call named `title`: a bar on `console`, or lines without a console."""
    if console is not None:
        await trio.lowlevel.checkpoint()
        with BarDisplay(title, console) as bar:
            yield bar
        return
    lines = LineDisplay()
    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(lines.print_regularly)
        try:
            yield lines
        finally:
            lines.print_newest()
            nursery.cancel_scope.cancel()


class BarDisplay:
    """A bar in one line at the bottom of the terminal; several lines if the call has stages."""

    def __init__(self, title: str, console: Console) -> None:
        self._row = CallRow(title)
        self.meter = self._row.meter
        self._console = console
        self._spinner = Spinner("line" if console.options.ascii_only else "dots")
        self._live = make_live(console, self._draw)

    def __enter__(self) -> BarDisplay:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._row.has_ended, self._row.stages = True, ()
        self._live.transient = self.meter.newest is None  # a bar that never moved does not stay
        self._live.stop()

    def update(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Store an update, as a progress handler; the next drawing shows it."""
        self.meter.update(progress, total, message)

    def receive(self, update: Progress) -> None:
        """Store an update and the stages that are open; see `update`."""
        self._row.receive(update)

    def note(self, text: str) -> None:
        """Print a dim line above the bar."""
        self._console.print(Text(printable(text), style="dim"), soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the bar during the block."""
        self._live.transient = True
        self._live.stop()
        try:
            yield
        finally:
            if not self._row.has_ended:  # a call may end while a question is open
                self._live = make_live(self._console, self._draw)
                self._live.start(refresh=True)

    def _draw(self) -> Table:
        now, row, width = time.monotonic(), self._row, self._console.width
        if row.had_stages:  # also when all are closed, so that the columns keep their places
            return draw_calls([row], now, width)
        self.meter.sample(now)
        return draw_line(self.meter, now, row.title, self._spinner, width, ended=row.has_ended)


def draw_line(meter: Meter, now: float, title: str, spinner: Spinner, width: int, *, ended: bool) -> Table:
    """One line of `width` columns: message, bar or spinner, count, rate, time."""
    reading = meter.newest or Reading(0)
    message = one_line((reading.message or title)[:MESSAGE_CHARACTERS])
    line = Table.grid(padding=(0, 2, 0, 0), expand=True)
    line.width = max(width - MARGIN, NARROW // 2)
    cells: list[Text | ProgressBar] = []

    def add(cell: str | Text | ProgressBar, least: int, style: str = "", ratio: int | None = None) -> None:
        justify: JustifyMethod = "left" if ratio else "right"
        line.add_column(
            no_wrap=True, min_width=least, style=style, ratio=ratio, justify=justify, overflow="ellipsis"
        )
        cells.append(Text(cell) if isinstance(cell, str) else cell)

    if reading.share is None:
        add(" " if ended else _spin(spinner, now), 1, "cyan")
        add(message, 8, ratio=1)
    else:
        add(message, 8, ratio=1)
        add(ProgressBar(total=1.0, completed=reading.share, width=max(width // 4, 8)), 8)
        add(show_share(reading), 4, "bold")
    if meter.newest is not None and (reading.share is None or width >= WIDE):
        # As wide as the count at the end, so that the bar keeps its place.
        full = show_count(reading._replace(progress=reading.total or reading.progress))
        add(show_count(reading), max(len(full), 5))
    if meter.newest is not None and width >= NARROW:
        add(show_rate(meter.average(now) if ended else meter.rate(now)), 9, "magenta")
    if ended or reading.share is None:
        add(show_time(now - meter.started), 4 if reading.share is None else 9, "cyan")
    else:
        add(f"{show_time(meter.time_left(now))} left", 9, "cyan")
    line.add_row(*cells)
    return line


def _spin(spinner: Spinner, now: float) -> Text:
    frame = spinner.render(now)
    assert isinstance(frame, Text), "a spinner without a text is one character"
    return frame


class LineDisplay:
    """Prints a line at most every fifth of a second, for logs and pipes; always the first and last update."""

    def __init__(self) -> None:
        self.meter = Meter(time.monotonic())
        self._printed = 0

    def update(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Store an update, as a progress handler; the first is printed at once."""
        self.meter.update(progress, total, message)
        if self.meter.updates == 1:
            self.print_newest()

    def receive(self, update: Progress) -> None:
        """Store an update; its message names the stage that moved."""
        self.update(update.progress, update.total, update.message)

    def note(self, text: str) -> None:
        """Print a line."""
        print_line(printable(text))

    def paused(self) -> AbstractContextManager[None]:
        """Change nothing: lines disturb no question."""
        return nullcontext()

    async def print_regularly(self) -> None:
        """Print the newest update every fifth of a second, until cancelled."""
        while True:
            await trio.sleep(LINE_SECONDS)
            self.print_newest()

    def print_newest(self) -> None:
        """Print the newest update, unless it has been printed already."""
        if self.meter.newest is not None and self.meter.updates > self._printed:
            self._printed = self.meter.updates
            print_line(describe(self.meter.newest))


class SilentDisplay:
    """Shows nothing; its meter still counts updates."""

    def __init__(self) -> None:
        self.meter = Meter(time.monotonic())

    def update(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Count an update, as a progress handler."""
        self.meter.update(progress, total, message)

    def receive(self, update: Progress) -> None:
        """Count an update."""
        self.update(update.progress, update.total, update.message)

    def note(self, text: str) -> None:
        """Print nothing."""

    def paused(self) -> AbstractContextManager[None]:
        """Change nothing."""
        return nullcontext()


def _log_text(message: LogMessage) -> str:
    text = message.data if isinstance(message.data, str) else json.dumps(message.data, ensure_ascii=False)
    return text if message.logger is None else f"{message.logger}: {text}"


def print_line(line: str) -> None:
    """Print a line on stderr."""
    with suppress(BrokenPipeError):  # the tool goes on if nobody reads stderr any more
        print(line, file=sys.stderr, flush=True)
