"""A channel that always holds the newest value, for readers that may be slow.

Owns the replacement of a value that was not read. It never waits for its reader, and never fails
because of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class LatestChannel(Generic[T]):
    """`offer` values; `receive` is the reader's end, which gets each newest one in order."""

    def __init__(self) -> None:
        self._send, self.receive = trio.open_memory_channel[T](1)
        # An end of our own: the reader may close its end whenever it likes.
        self._replace = self.receive.clone()

    def offer(self, value: T) -> None:
        """Send `value`, in the place of one that was not read; after `close` this does nothing."""
        with suppress(trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            self._replace.receive_nowait()
        with suppress(trio.ClosedResourceError):
            self._send.send_nowait(value)

    def close(self) -> None:
        """End the channel behind the newest value."""
        self._send.close()
        self._replace.close()
