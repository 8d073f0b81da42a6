"""The progress of calls as bars in a terminal: one for each call, and one for each open stage.

Owns the drawing, which reads the newest values a few times a second, however often they change.
Needs rich, so it is imported only when bars are shown. Refuses to know where updates come from.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

import attrs

try:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as error:
    raise ImportError("bars need rich: pip install 'trio-mcp[cli]'", name=error.name) from error

from trio_mcp.handlers.meter import Meter, Reading, show_count, show_rate, show_share, show_time
from trio_mcp.handlers.sink import Progress
from trio_mcp.handlers.text_lines import MESSAGE_CHARACTERS
from trio_mcp.printable import one_line
from trio_mcp.wire.frames import StageState

REFRESHES_PER_SECOND: Final = 10
WIDE: Final = 100
"""From this many columns on, a line has all its parts."""
NARROW: Final = 60
"""Below this many columns, a line has only the most important parts."""
MARGIN: Final = 3
"""Columns left free at the right: the terminal echoes ^C there, and must not wrap."""


def make_live(console: Console, draw: Callable[[], RenderableType], *, redirect_stdout: bool = False) -> Live:
    """Make a display of what `draw` returns, at the bottom of the terminal; a thread of rich draws it."""
    return Live(
        console=console,
        get_renderable=draw,
        refresh_per_second=REFRESHES_PER_SECOND,
        redirect_stdout=redirect_stdout,
    )


@attrs.define(eq=False)
class CallRow:
    """One call on the board: its newest update, and the open stages."""

    title: str
    meter: Meter = attrs.field(factory=lambda: Meter(time.monotonic()))
    stages: tuple[StageState, ...] = ()
    had_stages: bool = False
    has_ended: bool = False

    def receive(self, update: Progress) -> None:
        """Note an update, as a receiver of progress; the next drawing shows it."""
        self.meter.update(update.progress, update.total, update.message)
        self.stages = update.stages
        if update.stages:
            self.had_stages = True


class Board:
    """The calls that are shown on one console.

    The last line of a call that has ended stays, above the bars of the others.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console or Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
        self._rows: dict[CallRow, None] = {}
        self._holders = 0
        self._live: Live | None = None

    def hold(self) -> None:
        """Show the bars until `let_go` was called as often as this."""
        self._holders += 1
        if self._live is None:
            # Text printed to the same terminal appears above the bars; other output is left alone.
            live = make_live(
                self.console, self.draw, redirect_stdout=sys.stdout is not None and sys.stdout.isatty()
            )
            live.transient = True  # the lines that stay are printed above it
            live.start()
            self._live = live

    def let_go(self) -> None:
        """Undo one `hold`; the last one removes the bars."""
        self._holders -= 1
        if self._holders == 0 and self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def open_row(self, title: str) -> CallRow:
        """Show a call from now on; `close_row` must be called for it."""
        self.hold()
        row = CallRow(title)
        self._rows[row] = None
        return row

    def close_row(self, row: CallRow) -> None:
        """Print the last line of a call above the bars, unless it never reported, and remove its bar."""
        row.has_ended = True
        row.stages = ()
        del self._rows[row]
        if row.meter.newest is not None:
            self.console.print(draw_calls([row], time.monotonic(), self.console.width))
        self.let_go()

    def draw(self) -> Table:
        """Draw the bars as they are now."""
        return draw_calls(list(self._rows), time.monotonic(), self.console.width)


def draw_calls(rows: Iterable[CallRow], now: float, width: int) -> Table:
    """Draw lines of `width` columns: for each call its own bar, and below it those of its stages."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.width = max(width - MARGIN, NARROW // 2)
    table.add_column(no_wrap=True, min_width=8, ratio=1, overflow="ellipsis")
    table.add_column(min_width=8)
    table.add_column(no_wrap=True, min_width=4, justify="right", style="bold")
    if width >= NARROW:
        table.add_column(no_wrap=True, min_width=5, justify="right")
    if width >= WIDE:
        table.add_column(no_wrap=True, min_width=9, justify="right", style="magenta")
    table.add_column(no_wrap=True, min_width=9, justify="right", style="cyan")
    for row in rows:
        row.meter.sample(now)
        reading = row.meter.newest or Reading(0)
        cells = _draw_bar(_label(row, reading), row.meter.newest, width, moves=not row.has_ended)
        if width >= WIDE:
            cells.append(show_rate(row.meter.average(now) if row.has_ended else row.meter.rate(now)))
        table.add_row(*cells, _show_clock(row, reading, now))
        for stage in row.stages:
            known = stage.progress is not None or stage.total is not None
            reading = Reading(stage.progress or 0, stage.total)
            table.add_row(*_draw_bar(_stage_label(stage), reading if known else None, width, moves=True))
    return table


def _draw_bar(label: str, reading: Reading | None, width: int, *, moves: bool) -> list[RenderableType]:
    """Draw the cells that calls and stages have in common; without a reading, nothing was counted yet."""
    length = max(width // 4, 8)
    bar: RenderableType = ""
    if reading is not None and reading.share is not None:
        bar = ProgressBar(total=1.0, completed=reading.share, width=length)
    elif moves:
        bar = ProgressBar(total=None, width=length)  # moves, and shows no share
    cells: list[RenderableType] = [Text(label), bar, "" if reading is None else show_share(reading)]
    if width >= NARROW:
        cells.append("" if reading is None else show_count(reading))
    return cells


def _label(row: CallRow, reading: Reading) -> str:
    # While stages are open, their own lines show what the message of the call would repeat.
    message = "" if row.stages else one_line((reading.message or "")[:MESSAGE_CHARACTERS])
    title = one_line(row.title)
    return f"{title}: {message}" if message else title


def _stage_label(stage: StageState) -> str:
    indent = "  " * len(stage.path)
    words = [stage.path[-1] if stage.path else "", *([stage.message] if stage.message else ())]
    return indent + one_line(": ".join(words)[:MESSAGE_CHARACTERS])


def _show_clock(row: CallRow, reading: Reading, now: float) -> str:
    if row.has_ended or reading.share is None:
        return show_time(now - row.meter.started)
    return f"{show_time(row.meter.time_left(now))} left"
