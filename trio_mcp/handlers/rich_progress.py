"""`RichProgress`, the handler that shows bars.

Owns when a call is added to the board and removed from it. Refuses to know how bars look: that is
the board's, which needs rich and so is imported only when a `RichProgress` is made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from trio_mcp.handlers.sink import ProgressReceiver, ProgressSink


class RichProgress(ProgressSink):
    """Shows calls as bars in a terminal: one for the whole of each call, and one for each of its open stages.

    Stages of a stage are indented below it. One object may show many calls at once; the
    last line of a call stays when it ends. `console` is a `rich.console.Console`, by default one on
    stderr; if that is not a terminal, only the last line of each call is printed. The bars are
    shown while a call is running, and for the whole of a `with` block around several calls.
    A console that prints the object prints the bars as they are.

    Raises ImportError if rich is not installed.
    """

    def __init__(self, console: Any = None) -> None:
        # Imported here: it needs rich, which only the extra `cli` installs.
        from trio_mcp.handlers.rich_board import Board

        self._board = Board(console)

    def __enter__(self) -> RichProgress:
        self._board.hold()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._board.let_go()

    def __rich__(self) -> Any:
        return self._board.draw()

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        """See `ProgressSink.open_call`."""
        row = self._board.open_row(tool)
        try:
            yield row.receive
        finally:
            self._board.close_row(row)
