"""The terminal on stderr: whether there is one, and who else writes to it.

Owns descriptor 2 while a server starts, so that what servers write there is
printed above the bar and not into it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio
from rich.console import Console
from rich.text import Text

from trio_mcp.cli.output import make_console
from trio_mcp.concurrency.nursery import open_unwrapping_nursery

STDERR: Final = 2

DRAIN_SECONDS: Final = 0.5
"""How many seconds whatever a server has left behind may go on holding its stderr."""

LINE_BYTES: Final = 64 * 1024
"""A line that is longer is printed in parts, so that what we hold has an end."""


@contextmanager
def open_terminal() -> Iterator[Console | None]:
    """The terminal that stderr is, as a console; None where it is none that can show a bar."""
    if not (sys.stderr.isatty() and make_console(sys.stderr).is_interactive):
        yield None
        return
    # A descriptor of its own, because `relay_stderr` takes number 2.
    with open(os.dup(STDERR), "w", encoding=sys.stderr.encoding, errors="backslashreplace") as file:
        yield make_console(file)


@asynccontextmanager
async def relay_stderr(console: Console | None) -> AsyncIterator[Callable[[], None]]:
    """Print on `console`, line by line, what processes that start now write to stderr; checkpoints.

    Without a console they write there themselves. Yields a function that gives our own
    stderr back, to be called when they have started. On exit waits for those processes
    to close theirs, for at most `DRAIN_SECONDS` seconds.
    """
    if console is None:
        await trio.lowlevel.checkpoint()
        yield lambda: None
        return
    # Shielded because a server that is told to stop may write while it does, and would die of a
    # broken pipe; the deadline is set on exit.
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
    """Let descriptor 2 lead into a pipe until it is given back."""
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
    """Print a line with its colours; whatever would move the cursor is left out."""
    console.print(Text.from_ansi(line.decode(errors="replace")), soft_wrap=True)
