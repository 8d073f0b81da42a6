"""How `trio-mcp` writes: data to stdout, everything else to stderr.

Owns both consoles' settings.
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

from trio_mcp.handlers.plain_text import printable


def make_console(file: IO[str]) -> Console:
    """A console without guesses: no markup, no emoji, no highlighting of what others wrote."""
    return Console(file=file, markup=False, emoji=False, highlight=False)


def prepare_streams() -> None:
    """Make stdout and stderr fit to write to, however this process was started.

    A closed one swallows what is written, and a character that one cannot encode is
    escaped: neither ends the command.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_text(text: str) -> None:
    """Print to stdout at once, as it is; raises BrokenPipeError where nobody reads it."""
    print(text, flush=True)


def print_json(value: Any) -> None:
    """Print `value`, which JSON can hold, indented."""
    print_text(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def print_rich(*renderables: RenderableType) -> None:
    """Print tables and the like to stdout; raises BrokenPipeError where nobody reads them."""
    print(_render(sys.stdout, *renderables), end="", flush=True)


def print_error(message: str) -> None:
    """Say on stderr, in one line, why the command failed."""
    _print_stderr(Text.assemble(("trio-mcp: ", "bold red"), " ".join(printable(message).split())))


def print_note(message: str) -> None:
    """Say something on stderr that a script does not need."""
    _print_stderr(Text(printable(message)))


def _print_stderr(text: Text) -> None:
    with suppress(BrokenPipeError):
        print(_render(sys.stderr, text, soft_wrap=True), end="", file=sys.stderr, flush=True)


def _render(file: IO[str], *renderables: RenderableType, soft_wrap: bool = False) -> str:
    # Not printed by the console itself: it would end the process where the pipe is broken.
    console = make_console(file)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable, soft_wrap=soft_wrap)
    return capture.get()


def give_up_stdout() -> None:
    """Send what is still buffered for a broken stdout nowhere, so that the interpreter's exit is quiet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
