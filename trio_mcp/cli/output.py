"""Output of `trio-mcp`: data goes to stdout, everything else to stderr.

Owns the settings of both, and what happens if nobody reads them.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import IO, Any

import msgspec
from rich.console import Console, RenderableType
from rich.text import Text

from trio_mcp.printable import escape_in_json, one_line, printable


def make_console(file: IO[str]) -> Console:
    """A console that prints text as it is: no markup, no emoji, no highlighting."""
    return Console(file=file, markup=False, emoji=False, highlight=False)


def prepare_streams() -> None:
    """Make stdout and stderr writable, however this process was started.

    If one is closed, what is written to it is dropped; a character that one cannot encode
    is escaped. Neither ends the command.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_text(text: str) -> None:
    """Print to stdout and flush it; raises BrokenPipeError if nobody reads it.

    At a terminal it is made printable. A program gets the text as it is.
    """
    print(printable(text, lines=True) if sys.stdout.isatty() else text, flush=True)


def print_bytes(data: bytes) -> None:
    """Write bytes to stdout as they are and flush it; raises BrokenPipeError if nobody reads it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def print_json(value: Any) -> None:
    """Print `value` as indented JSON; JSON must be able to hold it.

    Characters that could change a terminal are escaped as JSON does it: the value stays the same.
    """
    text = json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)
    print_text(printable(text, lines=True, escape=escape_in_json))


def print_rich(*renderables: RenderableType) -> None:
    """Print tables and texts to stdout; raises BrokenPipeError if nobody reads them."""
    print(_render(sys.stdout, *renderables), end="", flush=True)


def print_error(message: str) -> None:
    """Print on stderr, in one line, why the command failed."""
    _print_stderr(Text.assemble(("trio-mcp: ", "bold red"), one_line(message)))


def print_note(message: str) -> None:
    """Print a note for a person on stderr, which may have several lines; scripts do not need it."""
    _print_stderr(Text(printable(message, lines=True)))


def _print_stderr(text: Text) -> None:
    with suppress(BrokenPipeError):
        print(_render(sys.stderr, text, soft_wrap=True), end="", file=sys.stderr, flush=True)


def _render(file: IO[str], *renderables: RenderableType, soft_wrap: bool = False) -> str:
    # The console does not print it itself, because it ends the process if the pipe is broken.
    console = make_console(file)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable, soft_wrap=soft_wrap)
    return capture.get()


def give_up_stdout() -> None:
    """Drop the output still buffered for a broken stdout; else the interpreter complains when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
