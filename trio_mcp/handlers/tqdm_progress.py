"""Progress on a tqdm bar, or on whatever has its interface.

Owns what of an update goes where. Knows tqdm by its attributes only, and imports nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from trio_mcp.handlers.plain_text import one_line
from trio_mcp.handlers.sink import Progress, ProgressReceiver, ProgressSink


class TqdmBar(Protocol):
    """What is used of a bar: `tqdm.tqdm` and its relatives have it all."""

    n: Any
    total: Any

    def set_description(self, desc: str, refresh: bool) -> object:
        """Show `desc` before the bar, now or with the next update."""

    def update(self, n: float) -> object:
        """Add `n` to what is done."""

    def refresh(self) -> object:
        """Draw the bar now."""


class TqdmProgress(ProgressSink):
    """Shows the progress of one call on a bar of yours, which stays yours to close.

    The total is the bar's where the call has none. How often the bar is drawn is the
    bar's own affair; the last update is drawn in any case.
    """

    def __init__(self, bar: TqdmBar) -> None:
        self._bar = bar
        self._message: str | None = None

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        """See `ProgressSink.open_call`."""
        try:
            yield self._take
        finally:
            self._bar.refresh()

    def _take(self, update: Progress) -> None:
        bar = self._bar
        if update.total is not None and update.total != bar.total:
            bar.total = update.total
        if update.message != self._message:
            self._message = update.message
            bar.set_description(one_line(update.message or ""), refresh=False)
        bar.update(update.progress - bar.n)
