"""Ctrl-C: the tool is cancelled at the server, and the command cleans up."""

from __future__ import annotations

import os
import pty
import signal
import sys
from pathlib import Path

from tests.cli.command import read_until, start, start_in_terminal
from tests.support.limits import HANG_SECONDS


def test_the_first_ctrl_c_cancels_the_tool(server_file: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with start("call", server_file, "hang", f"marker={marker}") as process:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), "hanging")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert (printed, errors.decode().splitlines()[-1]) == (b"", "Cancelled.")
    assert b"Traceback" not in errors
    assert marker.read_text() == "cleaned up"


def test_the_second_ctrl_c_does_not_wait_for_the_server(server_file: Path, tmp_path: Path) -> None:
    with start("call", server_file, "hang", f"marker={tmp_path / 'marker'}", "stubborn=true") as process:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), "hanging")
        process.send_signal(signal.SIGINT)
        read_until(process.stderr.fileno(), "Ctrl-C again does not wait")
        process.send_signal(signal.SIGINT)
        # The server holds stderr open, too: that stderr ends shows that the server is gone.
        _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "Cancelled."
    assert b"Traceback" not in errors


def test_in_a_terminal_the_bar_stays_and_the_cursor_comes_back(server_file: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    terminal = start_in_terminal("call", server_file, "hang", f"marker={marker}", columns=80)
    read_until(terminal.screen, "hanging")
    terminal.process.send_signal(signal.SIGINT)
    shown, printed, status = terminal.finish()
    assert (printed, status) == ("", 130)
    assert "Cancelled." in shown
    assert "\x1b[?25h" in shown
    assert marker.read_text() == "cleaned up"


def test_the_demo_can_be_cancelled() -> None:
    with start("demo", sys.prefix) as process:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), "counting files")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, printed) == (130, b"")
    assert errors.decode().splitlines()[-1] == "Cancelled."


def test_a_server_that_is_run_by_hand_says_so_and_ends(server_file: Path) -> None:
    keyboard, stdin = pty.openpty()
    with start("run", server_file, stdin=stdin) as process:
        os.close(stdin)
        assert process.stderr is not None
        read_until(process.stderr.fileno(), "calculator serves MCP over stdin and stdout; Ctrl-C ends it.")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=HANG_SECONDS)
    os.close(keyboard)
    assert (process.returncode, printed) == (130, b"")
    assert b"Traceback" not in errors
