"""What a WebSocket peer sends, a few frames at a time, and when it only wastes time.

Owns where the handshake ends and the frames begin. Refuses to know sockets, and what the frames mean.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from trio_mcp.wire.frame_meter import FrameMeter, Patience, read_websocket_header

_HEAD_END: Final = re.compile(rb"\n\r?\n")


class FramePacer:
    """Cuts what comes, from the end of the first HTTP head on, behind every few frames."""

    def __init__(self) -> None:
        self._last = b""  # of the head, until its end is found
        self._meter: FrameMeter | None = None
        self._patience = Patience()
        self._pieces: deque[bytes] = deque()

    @property
    def has_more(self) -> bool:
        """Whether there are pieces to take."""
        return bool(self._pieces)

    def feed(self, data: bytes, now: float) -> bool:
        """Add what came at `now`, in seconds; whether the peer still sends what is of use."""
        if self._meter is None:
            known = self._last + data
            end = _HEAD_END.search(known)
            if end is None:
                self._last = known[-2:]
                self._pieces.append(data)
                return True
            start = end.end() - len(self._last)
            self._meter = FrameMeter(read_websocket_header)
            self._pieces.append(data[:start])
            data = data[start:]
        self._pieces.extend(self._meter.cut(data))
        return not self._patience.is_exhausted_by(self._meter.take_counts(), now)

    def take(self) -> bytes:
        """The next piece, or nothing."""
        return self._pieces.popleft() if self._pieces else b""
