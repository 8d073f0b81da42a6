"""Shows several background tasks at once: a bar for each, or plain lines.

Owns the state of each task while it is watched, and its drawing. As in `cli/display.py`,
drawing reads the newest values a few times a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trio_mcp.cli.display import LINE_SECONDS, print_line
from trio_mcp.client.task_snapshot import Status, TaskSnapshot
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.handlers.meter import Meter, Reading, show_count, show_rate, show_share, show_time
from trio_mcp.handlers.rich_board import MARGIN, NARROW, WIDE, make_live
from trio_mcp.handlers.text_lines import MESSAGE_CHARACTERS, describe
from trio_mcp.printable import one_line

ID_CHARACTERS: Final = 8
"""How much of an id is shown beside a bar, if that is enough to tell the tasks apart."""

STATUS_STYLES: Final = {
    "working": "cyan",
    "input_required": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
}


@attrs.define(eq=False)
class TaskRow:
    """One task that is watched; `changes` counts the changes that can be shown."""

    id: str
    status: Status = "working"
    has_ended: bool = False
    changes: int = 0
    meter: Meter = attrs.field(factory=lambda: Meter(time.monotonic()))
    _status_message: str | None = None
    _newest_progress: TaskSnapshot | None = None

    def update(self, task: TaskSnapshot) -> None:
        """Show a snapshot of the task; for its end, `end` is called."""
        # A snapshot may lack the progress that an earlier one had; the earlier one counts then.
        if task.has_progress:
            self.meter.update(0 if task.current is None else task.current, task.total, task.message)
            self._newest_progress = task
        if not task.is_final:
            self.status = task.status
            self._status_message = task.status_message
            self.changes += 1

    def end(self, status: Status, words: str | None) -> None:
        """Show how the task ended, and why."""
        self.status = status
        self._status_message = words
        self.has_ended = True
        self.changes += 1

    @property
    def message(self) -> str:
        """The message of its progress or else of its status; the other way round if it failed."""
        reported = None if self.meter.newest is None else self.meter.newest.message
        texts = [reported, self._status_message]
        if self.status == "failed":
            texts.reverse()
        return one_line((texts[0] or texts[1] or "")[:MESSAGE_CHARACTERS])

    def pace(self, now: float) -> tuple[str, str]:
        """The rate and the time left, in words: as measured here, or else as the server says."""
        if self.has_ended or self._newest_progress is None:
            return "", ""
        rate, left = self.meter.rate(now) or self._newest_progress.rate or 0.0, self.meter.time_left(now)
        if left == math.inf and self._newest_progress.eta is not None:
            left = self._newest_progress.eta
        return show_rate(rate), f"{show_time(left)} left" if self._newest_progress.total is not None else ""

    def describe(self) -> str:
        """The task as a line of text: `ID working  47% 12/25 message`."""
        reading = self.meter.newest
        shown = self.message if reading is None else describe(reading._replace(message=self.message))
        return f"{one_line(self.id)} {show_status(self.status)} {shown}".rstrip()


@asynccontextmanager
async def open_rows(rows: Sequence[TaskRow], console: Console | None) -> AsyncIterator[None]:
    """Show `rows` as they change: bars on `console`, or lines without a console."""
    if console is not None:
        await trio.lowlevel.checkpoint()
        with make_live(console, lambda: draw_rows(rows, console.width)):
            yield
        return
    lines = TaskLines(rows)
    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(lines.print_regularly)
        try:
            yield
        finally:
            lines.print_newest()
            nursery.cancel_scope.cancel()


def draw_rows(rows: Sequence[TaskRow], width: int) -> Table:
    """A line of `width` columns for each task: id, message, bar, count, rate, time left, status."""
    now = time.monotonic()
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.width = max(width - MARGIN, NARROW // 2)
    short = shorten([row.id for row in rows])
    readings = [row.meter.newest for row in rows]
    # As wide as the counts at the end, so that the bars keep their places.
    counts = [show_count(r._replace(progress=r.total or r.progress)) for r in readings if r is not None]
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True, min_width=8, ratio=1, overflow="ellipsis")
    if width >= NARROW:
        table.add_column(min_width=8)
    if width >= WIDE:
        table.add_column(no_wrap=True, min_width=4, justify="right")
    table.add_column(no_wrap=True, min_width=max(map(len, counts), default=0), justify="right")
    if width >= WIDE:
        table.add_column(no_wrap=True, justify="right", style="magenta")
        table.add_column(no_wrap=True, justify="right", style="cyan")
    table.add_column(no_wrap=True, min_width=len("completed"))
    for row, name, reading in zip(rows, short, readings, strict=True):
        cells: list[Text | ProgressBar] = [Text(name), Text(row.message)]
        if width >= NARROW:
            cells.append(_draw_bar(row, reading, width // 5))
        if width >= WIDE:
            cells.append(Text("" if reading is None else show_share(reading)))
        cells.append(Text("" if reading is None else show_count(reading)))
        if width >= WIDE:
            cells += map(Text, row.pace(now))
        cells.append(style_status(row.status))
        table.add_row(*cells)
    return table


def _draw_bar(row: TaskRow, reading: Reading | None, width: int) -> Text | ProgressBar:
    if reading is not None and reading.share is not None:
        return ProgressBar(total=1.0, completed=reading.share, width=width)
    if row.has_ended:
        return Text(" " * width)
    return ProgressBar(total=None, width=width)  # pulses


def shorten(ids: Sequence[str]) -> list[str]:
    """The shortest beginnings of `ids` that tell them apart, of at least `ID_CHARACTERS`."""
    names = [one_line(ident) for ident in ids]
    length = ID_CHARACTERS
    while len({name[:length] for name in names}) < len(set(names)):
        length += 1
    return [name[:length] for name in names]


def show_status(status: Status) -> str:
    """A status in words: `input required`."""
    return status.replace("_", " ")


def style_status(status: Status) -> Text:
    """A status in words and in its colour."""
    return Text(show_status(status), style=STATUS_STYLES[status])


class TaskLines:
    """Prints a line for each task that has changed; always its first state and its last."""

    def __init__(self, rows: Sequence[TaskRow]) -> None:
        self._rows = rows
        self._printed = dict.fromkeys((row.id for row in rows), 0)
        self.print_newest()

    async def print_regularly(self) -> None:
        """Print the tasks that have changed every fifth of a second, until cancelled."""
        while True:
            await trio.sleep(LINE_SECONDS)
            self.print_newest()

    def print_newest(self) -> None:
        """Print the state of each task that has changed since it was printed."""
        for row in self._rows:
            if row.changes > self._printed[row.id]:
                self._printed[row.id] = row.changes
                print_line(row.describe())
