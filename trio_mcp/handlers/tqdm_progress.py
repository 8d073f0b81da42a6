"""Progress on a tqdm bar, or on an object with the same interface.

Owns which part of an update is shown where. Knows only some attributes of tqdm, and does not import it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from trio_mcp.handlers.sink import Progress, ProgressReceiver, ProgressSink
from trio_mcp.printable import one_line


class TqdmBar(Protocol):
    """The attributes of a bar that are used; `tqdm.tqdm` and its variants have them."""

    n: Any
    total: Any

    def set_description(self, desc: str, refresh: bool) -> object:
        """Show `desc` before the bar, at once or with the next update."""

    def update(self, n: float) -> object:
        """Add `n` to the progress."""

    def refresh(self) -> object:
        """Draw the bar now."""


class TqdmProgress(ProgressSink):
    """Shows the progress of one call on a bar that you made and close.

    If the call has no total, the bar keeps its own. The bar decides how often it is drawn; the
    last update is always drawn.
    """

    def __init__(self, bar: TqdmBar) -> None:
        self._bar = bar
        self._message: str | None = None

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        """See `ProgressSink.open_call`."""
        try:
            yield self._show
        finally:
            self._bar.refresh()

    def _show(self, update: Progress) -> None:
        bar = self._bar
        if update.total is not None and update.total != bar.total:
            bar.total = update.total
        if update.message != self._message:
            self._message = update.message
            bar.set_description(one_line(update.message or ""), refresh=False)
        bar.update(update.progress - bar.n)
