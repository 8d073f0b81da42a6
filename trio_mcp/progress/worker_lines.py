"""Progress of another process, as lines of JSON.

Owns the format of the lines, and that a wrong line is skipped and does no other harm. Refuses to know
processes: the lines may come from any stream.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec
import trio
from msgspec import UNSET, UnsetType

from trio_mcp.progress.checks import MAX_MESSAGE_LENGTH
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.progress.stages import Stage

logger = logging.getLogger("trio_mcp.progress")

MAX_LINE_BYTES: Final = 131_072
"""The longest message with every character escaped, and room for the other members."""

LINES_AT_ONCE: Final = 64
"""How many lines are read before other tasks have a turn."""

SHOWN_BYTES: Final = 100
"""How much of a skipped line is logged."""


class Line(msgspec.Struct):
    """One report: a value that is absent stays as it is, and other members are ignored."""

    progress: int | float | UnsetType = UNSET
    increment: int | float | UnsetType = UNSET
    total: int | float | UnsetType | None = UNSET
    message: str | UnsetType | None = UNSET


class LineReader:
    """Turns each line into a report of its own, on one reporter.

    A line that is no report is skipped. The first is logged as a warning, the others as debug.
    """

    def __init__(self, reporter: ProgressReporter | Stage) -> None:
        self._reporter = reporter
        self._decoder = msgspec.json.Decoder(Line)
        self._rest = b""  # at most MAX_LINE_BYTES
        self._is_skipping = False
        self._level = logging.WARNING

    async def feed(self, data: bytes | bytearray) -> None:
        """Report the lines in `data`, which may end in the middle of one; checkpoints as reports do."""
        await trio.lowlevel.checkpoint_if_cancelled()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for number, line in enumerate(lines, 1):
            if number % LINES_AT_ONCE == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()  # lines without a report do not yield
            if self._is_skipping:
                self._is_skipping = False
            else:
                await self._report(line)
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._is_skipping:
                self._skip(self._rest, f"it has more than {MAX_LINE_BYTES} bytes")
            self._rest, self._is_skipping = b"", True

    async def finish(self) -> None:
        """Report a last line that has no newline; checkpoints as `feed` does."""
        rest, self._rest = self._rest, b""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._is_skipping:
            await self._report(rest)

    async def read_all(self, stream: trio.abc.ReceiveStream) -> None:
        """Report all lines of `stream` until it ends; checkpoints. Raises what the stream raises."""
        while data := await stream.receive_some():
            await self.feed(data)
        await self.finish()

    async def _report(self, text: bytes) -> None:
        if not text.strip():
            return
        if len(text) > MAX_LINE_BYTES:
            self._skip(text, f"it has more than {MAX_LINE_BYTES} bytes")
            return
        try:
            line = _check(self._decoder.decode(text))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._skip(text, str(error))
            return
        reporter = self._reporter
        await reporter.wait_if_full()
        reporter.end_notification()
        try:
            _apply(line, reporter)
        except ValueError as error:  # the sum of all increments is not finite any more
            self._skip(text, str(error))
        reporter.end_notification()
        await reporter.take_turn()

    def _skip(self, text: bytes, reason: str) -> None:
        logger.log(self._level, "a line that is no report was skipped: %s: %r", reason, text[:SHOWN_BYTES])
        self._level = logging.DEBUG


def _check(line: Line) -> Line:
    """Return `line`; raises ValueError if it has no value, or one that is not legal."""
    if line == Line():
        raise ValueError("none of progress, increment, total and message is in it")
    if line.increment is not UNSET and line.progress is not UNSET:
        raise ValueError("progress and increment exclude each other")
    for value, name in ((line.increment, "the increment"), (line.total, "total")):
        if isinstance(value, (int, float)) and value <= 0:
            raise ValueError(f"{name} must be larger than 0")
    return line


def _apply(line: Line, reporter: ProgressReporter | Stage) -> None:
    if isinstance(line.total, (int, float)):
        reporter.set_total(line.total)  # first, because the progress is part of this total
    if not isinstance(line.message, UnsetType):
        reporter.set_message(None if line.message is None else line.message[:MAX_MESSAGE_LENGTH])
    if isinstance(line.progress, (int, float)):
        reporter.reach(line.progress)
    elif isinstance(line.increment, (int, float)):
        reporter.increment(line.increment)
