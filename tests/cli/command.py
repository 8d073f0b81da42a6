"""Runs `trio-mcp` as a process, as a person or a script does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import attrs

from tests.support.limits import HANG_SECONDS

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(columns: int) -> dict[str, str]:
    """The environment of a process with a terminal of this width."""
    kept = {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "NO_COLOR"}}
    return kept | {"COLUMNS": str(columns), "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}


def command(*arguments: str | Path) -> list[str]:
    """The command line of `trio-mcp` with these arguments."""
    return [sys.executable, "-m", "trio_mcp.cli", *map(str, arguments)]


def run(*arguments: str | Path, columns: int = 120) -> subprocess.CompletedProcess[str]:
    """Run to the end, with pipes for stdout and stderr."""
    return subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        env=environment(columns),
        check=False,
    )


def start(*arguments: str | Path, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start with pipes for stdout and stderr."""
    return subprocess.Popen(
        command(*arguments),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(120),
    )


def read_until(fd: int, text: str) -> str:
    """Read until `text` has come; raises AssertionError if it does not come."""
    seen = b""
    deadline = time.monotonic() + HANG_SECONDS
    while text.encode() not in seen:
        chunk = _read(fd, deadline)
        assert chunk, f"{text!r} did not come, but {seen!r}"
        seen += chunk
    return seen.decode()


def read_all(fd: int) -> str:
    """Read until the end of the stream."""
    deadline = time.monotonic() + HANG_SECONDS
    chunks = []
    while chunk := _read(fd, deadline):
        chunks.append(chunk)
    return b"".join(chunks).decode()


def _read(fd: int, deadline: float) -> bytes:
    ready, _, _ = select.select([fd], [], [], max(deadline - time.monotonic(), 0))
    assert ready, "nothing came in time"
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: nobody has the terminal open any more
        return b""


@attrs.define
class Terminal:
    """A process whose stderr is a terminal; `screen` is the other end of that terminal."""

    process: subprocess.Popen[bytes]
    screen: int

    def type(self, text: str) -> None:
        """Type on its keyboard."""
        os.write(self.screen, text.encode())

    def finish(self) -> tuple[str, str, int]:
        """Wait for the end; returns the rest of the terminal's output, all of stdout, and the exit status."""
        assert self.process.stdout is not None
        try:
            shown = read_all(self.screen)
            with self.process.stdout:
                printed = read_all(self.process.stdout.fileno())
            return shown, printed, self.process.wait(HANG_SECONDS)
        finally:
            os.close(self.screen)
            self.process.kill()
            self.process.wait()


def start_in_terminal(*arguments: str | Path, columns: int, keyboard: bool = False) -> Terminal:
    """Start with a terminal for stderr and, with `keyboard`, for stdin, too."""
    screen, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        command(*arguments),
        stdin=inside if keyboard else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=inside,
        env=environment(columns),
    )
    os.close(inside)
    return Terminal(process, screen)


def show_in_terminal(*arguments: str | Path, columns: int) -> tuple[str, int]:
    """Run with a terminal for stdout, too; returns what it shows, and the exit status."""
    screen, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        command(*arguments, "--quiet"),
        stdin=subprocess.DEVNULL,
        stdout=inside,
        stderr=inside,
        env=environment(columns),
    )
    os.close(inside)
    try:
        return read_all(screen), process.wait(HANG_SECONDS)
    finally:
        os.close(screen)
        process.kill()
        process.wait()


def lines_shown(text: str) -> list[str]:
    """Every line that was ever drawn, without colours and movements."""
    return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", text)) if line.strip()]
