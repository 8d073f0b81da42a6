"""The exit statuses of `trio-mcp`, and the error that carries one.

Owns the numbers. `running.py` decides which exception leads to which.
"""

from __future__ import annotations

from typing import Final

SUCCEEDED: Final = 0
TOOL_FAILED: Final = 1
"""The tool answered with an error, or a server's file could not be imported."""
FAILED: Final = 2
"""The command could not do its work: bad arguments, no such tool, connection lost."""
TIMED_OUT: Final = 124  # as timeout(1) exits
INTERRUPTED: Final = 130  # as in shells: 128 + SIGINT
PIPE_BROKEN: Final = 141  # as in shells: 128 + SIGPIPE


class CommandError(Exception):
    """Ends a command with one line on stderr and an exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status
