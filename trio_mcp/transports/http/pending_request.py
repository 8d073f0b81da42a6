"""A request in flight over HTTP: how far its answer has come, and which stream has to be read before another.

Owns no socket. What is done with either is the transport's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs
import trio

from trio_mcp.transports.http.response import HttpResponse, StreamPosition
from trio_mcp.wire.frames import Request

CATCH_UP_ROUNDS: Final = 1000
"""For so many scheduling rounds one stream waits for the reader of another, which may itself have to wait."""


@attrs.define(eq=False)
class PendingRequest:
    """One request in flight, and how far its answer has come."""

    request: Request
    headers: Mapping[str, str]
    """What a modern request mirrors; empty for a legacy one."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    sent: trio.Event = attrs.field(factory=trio.Event)
    answer: HttpResponse | None = None
    """Its response, while that is read."""
    position: StreamPosition = attrs.field(factory=StreamPosition)
    is_started: bool = False
    is_begun: bool = False
    """The server has begun to answer, so that it will not refuse."""
    is_answered: bool = False
    is_cancelled: bool = False
    is_refused: bool = False
    """The server has ended the session; the request is sent again in the next one."""
    failure: str | None = None

    @property
    def is_modern(self) -> bool:
        """Whether the request says its own protocol version, and so needs no session."""
        return bool(self.headers)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is waited for."""
        return self.is_answered or self.is_cancelled


async def let_read(earlier: HttpResponse | None) -> None:
    """Let the reader of another stream take what has come on it; checkpoints where that is something.

    The progress of a background task changes streams (MCP tasks 2025-11-25): what is handed over of
    the later one must not overtake what was sent on the earlier one.
    """
    for _ in range(CATCH_UP_ROUNDS):
        if earlier is None or not earlier.has_unread():
            return
        await trio.lowlevel.checkpoint()
