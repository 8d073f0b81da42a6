"""The terminal on stderr: whether there is one, and what servers write to it.

Owns descriptor 2 while a server starts, so that the server's stderr is
printed above the progress bar and not into it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio
from rich.console import Console
from rich.text import Text

from trio_mcp.cli.output import make_console
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.printable import printable

STDERR: Final = 2

DRAIN_SECONDS: Final = 0.5
"""How many seconds processes that a server has started may keep its stderr open after its end."""

LINE_BYTES: Final = 64 * 1024
"""A longer line is printed in parts, so that the buffer is bounded."""


COLOURS: Final = re.compile(r"(\x1b\[[0-9;]*m)")


@contextmanager
def open_terminal() -> Iterator[Console | None]:
    """A console on stderr, or None if stderr is not a terminal that can show a bar."""
    if not (sys.stderr.isatty() and make_console(sys.stderr).is_interactive):
        yield None
        return
    with _open_console() as console:
        yield console


@contextmanager
def _open_console() -> Iterator[Console]:
    # A descriptor of its own, because `relay_stderr` takes number 2.
    with open(os.dup(STDERR), "w", encoding=sys.stderr.encoding, errors="backslashreplace") as file:
        yield make_console(file)


@asynccontextmanager
async def relay_stderr(console: Console | None) -> AsyncIterator[Callable[[], None]]:
    """Print on `console`, line by line, what processes started in the block write to stderr; checkpoints.

    Without a console they write to stderr themselves, unless that is a terminal: no server writes
    to a terminal itself, because it could change it. Yields a function that restores our own
    stderr, to be called when they have started. On exit waits until those processes have
    closed theirs, for at most `DRAIN_SECONDS`.
    """
    if console is None and sys.stderr.isatty():
        with _open_console() as plain:
            async with relay_stderr(plain) as restore_stderr:
                yield restore_stderr
        return
    if console is None:
        await trio.lowlevel.checkpoint()
        yield lambda: None
        return
    # Shielded because a server may write while it stops, and a broken pipe would kill it; the
    # deadline is set on exit.
    patience = trio.CancelScope(shield=True)
    with _redirected_stderr() as (reading, restore_stderr):
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(_print_lines, reading, console, patience)
            try:
                yield restore_stderr
            finally:
                restore_stderr()
                patience.deadline = trio.current_time() + DRAIN_SECONDS


@contextmanager
def _redirected_stderr() -> Iterator[tuple[int, Callable[[], None]]]:
    """Redirect descriptor 2 into a pipe; yields the end to read, and a function that restores it."""
    saved = os.dup(STDERR)

    def restore_stderr() -> None:
        os.dup2(saved, STDERR)

    try:
        reading, writing = os.pipe()
        os.dup2(writing, STDERR)
        os.close(writing)
        try:
            yield reading, restore_stderr
        finally:
            restore_stderr()
    finally:
        os.close(saved)


async def _print_lines(fd: int, console: Console, scope: trio.CancelScope) -> None:
    rest = b""
    async with trio.lowlevel.FdStream(fd) as stream:
        with scope:
            while chunk := await stream.receive_some():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    _print_line(line, console)
    if rest:
        _print_line(rest, console)


def _print_line(line: bytes, console: Console) -> None:
    """Print a line with its colours; all other control sequences become visible."""
    # What was before a carriage return would be overwritten, as by a progress bar.
    text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
    parts = COLOURS.split(text)  # text and colours by turns
    console.print(Text.from_ansi("".join(map(_clean, parts))), soft_wrap=True)


def _clean(part: str) -> str:
    return part if COLOURS.fullmatch(part) else printable(part.expandtabs())
