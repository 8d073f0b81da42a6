"""Progress of another process, as lines of JSON.

Owns the protocol, and that nothing a process writes can do more than be skipped. Knows no
processes: the lines come from any stream.
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

logger = logging.getLogger("trio_mcp")

MAX_LINE_BYTES: Final = 131_072
"""The longest message with every character escaped, and room for the rest."""

SHOWN_BYTES: Final = 100
"""So much of a line that is skipped is logged."""


class Line(msgspec.Struct):
    """One report; what is absent stays as it is. Other members are ignored."""

    progress: int | float | UnsetType = UNSET
    increment: int | float | UnsetType = UNSET
    total: int | float | UnsetType | None = UNSET
    message: str | UnsetType | None = UNSET


class LineReader:
    """Applies lines to a reporter, each as a report of its own.

    A line that is no report is skipped: the first is logged as a warning, others as debug.
    """

    def __init__(self, reporter: ProgressReporter | Stage) -> None:
        self._reporter = reporter
        self._decoder = msgspec.json.Decoder(Line)
        self._rest = b""  # at most MAX_LINE_BYTES
        self._is_skipping = False
        self._level = logging.WARNING

    async def feed(self, data: bytes | bytearray) -> None:
        """Take what was read; checkpoints as reports do, and waits where a lossless call has to."""
        await trio.lowlevel.checkpoint_if_cancelled()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._is_skipping:
                self._is_skipping = False
            else:
                await self._take(line)
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._is_skipping:
                self._skip(self._rest, f"it has more than {MAX_LINE_BYTES} bytes")
            self._rest, self._is_skipping = b"", True

    async def finish(self) -> None:
        """Take a last line that has no end; checkpoints as `feed`."""
        rest, self._rest = self._rest, b""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._is_skipping:
            await self._take(rest)

    async def follow(self, stream: trio.abc.ReceiveStream) -> None:
        """Take all lines of `stream` until it ends; checkpoints. Raises what the stream raises."""
        while data := await stream.receive_some():
            await self.feed(data)
        await self.finish()

    async def _take(self, text: bytes) -> None:
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
        await reporter.make_room()
        reporter.stand_alone()
        try:
            _apply(line, reporter)
        except ValueError as error:  # the sum of all increments is no number any more
            self._skip(text, str(error))
        reporter.stand_alone()
        await reporter.take_turn()

    def _skip(self, text: bytes, reason: str) -> None:
        logger.log(self._level, "a line that is no report was skipped: %s: %r", reason, text[:SHOWN_BYTES])
        self._level = logging.DEBUG


def _check(line: Line) -> Line:
    """Return `line`, or raise ValueError where it says nothing, or what cannot be."""
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
        reporter.set_total(line.total)  # first, since what is done is done of it
    if not isinstance(line.message, UnsetType):
        reporter.set_message(None if line.message is None else line.message[:MAX_MESSAGE_LENGTH])
    if isinstance(line.progress, (int, float)):
        reporter.reach(line.progress)
    elif isinstance(line.increment, (int, float)):
        reporter.increment(line.increment)
