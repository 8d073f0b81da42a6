"""Progress as lines of text: for logs, and for other programs.

Owns the text of a line, and when a log gets one: now and then, while a program gets every update.
Refuses to know what reads the lines.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from trio_mcp.handlers.meter import Reading, show_count, show_share
from trio_mcp.handlers.rate_limit import open_limiter
from trio_mcp.handlers.sink import Progress, ProgressReceiver, ProgressSink
from trio_mcp.printable import escape_in_json, one_line, printable
from trio_mcp.validators import require_positive

MESSAGE_CHARACTERS: Final = 500
"""How much of a message is shown: more than fits on one line of any terminal."""

LINE_SECONDS: Final = 1.0
"""The time between two lines of a log, by default."""


ROUNDING: Final = 1e-9
"""How much a share may be below the step that it has reached, because of rounding."""


class TextFile(Protocol):
    """The file that lines are written to."""

    def write(self, text: str, /) -> object:
        """Write some text."""

    def flush(self) -> object:
        """Make the text visible to readers."""


def describe(reading: Reading) -> str:
    """Format an update as a line of text: ` 47% 12/25 message`."""
    share = f"{show_share(reading):>4} " if reading.share is not None else ""
    message = one_line((reading.message or "")[:MESSAGE_CHARACTERS])
    return f"{share}{show_count(reading)} {message}".rstrip()


class LogProgress(ProgressSink):
    """Writes the progress of calls to a logger: the first update, the last, and a line now and then.

    `logger` is "trio_mcp.progress" by default, `level` the level of the lines. `every` is the number
    of seconds between two lines, by default 1. With `percent` instead, there is a line
    whenever that much more of the total is done; without a total, one line a second.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        every: float | None = None,
        percent: float | None = None,
        level: int = logging.INFO,
    ) -> None:
        if every is not None and percent is not None:
            raise ValueError("lines come by time or by percent: give `every` or `percent`, not both")
        for name, value in (("every", every), ("percent", percent)):
            if value is not None:
                require_positive(name, value)
        self._logger = logger or logging.getLogger("trio_mcp.progress")
        self._every = LINE_SECONDS if every is None else every
        self._step = None if percent is None else percent / 100
        self._level = level

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        """See `ProgressSink.open_call`; checkpoints."""

        lines = _Lines(self._logger, self._level, one_line(tool))
        try:
            async with open_limiter(lines.write, self._every) as write_timed:
                yield partial(lines.receive, write_timed, self._step)
        finally:
            lines.finish()


class _Lines:
    """The lines of one call."""

    def __init__(self, logger: logging.Logger, level: int, tool: str) -> None:
        self._logger = logger
        self._level = level
        self._tool = tool
        self._next = 0.0  # the share at which the next line is due, if lines are written by percent
        self._newest: Progress | None = None
        self._written: Progress | None = None

    def receive(self, write_timed: ProgressReceiver, step: float | None, update: Progress) -> None:
        """Write `update` if it is due: by its share if it has one and `step` is given, else by time."""
        self._newest = update
        if step is None or update.share is None:
            write_timed(update)
        elif update.share >= self._next:
            self._next = step * (math.floor(update.share / step + ROUNDING) + 1)
            self.write(update)

    def write(self, update: Progress) -> None:
        """Write a line."""
        self._written = update
        reading = Reading(update.progress, update.total, update.message)
        self._logger.log(self._level, "%s: %s", self._tool, describe(reading))

    def finish(self) -> None:
        """Write the last update, unless it was written; also if the call has failed."""
        if self._newest is not None and self._newest is not self._written:
            self.write(self._newest)


class JsonLinesProgress(ProgressSink):
    """Writes each update to a text file as a line of JSON, for other programs to read.

    A line has "call" (a number that distinguishes the calls of this object), "tool",
    "progress", and "total", "message" and "stages" if there are any. Each line is
    written and flushed in the Trio thread, so the file should not block.
    """

    def __init__(self, file: TextFile) -> None:
        self._file = file
        self._calls = itertools.count(1)

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        """See `ProgressSink.open_call`."""
        call = next(self._calls)

        def write(update: Progress) -> None:
            line: dict[str, Any] = {"call": call, "tool": tool, "progress": update.progress}
            if update.total is not None:
                line["total"] = update.total
            if update.message is not None:
                line["message"] = update.message
            if update.stages:
                line["stages"] = update.stages
            text = printable(msgspec.json.encode(line).decode(), escape=escape_in_json)
            self._file.write(text + "\n")
            self._file.flush()

        yield write
