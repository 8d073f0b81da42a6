"""The log messages of a server that wait for the client's log handler.

Owns the bounded queue, the one task that empties it, and the boundary at which a failure of the
handler ends. Refuses to know where the messages come from.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import msgspec
import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.wire.messages import LoggingLevel, LogParams

logger = logging.getLogger("trio_mcp.client")


@attrs.frozen
class LogMessage:
    """One log message of a server (MCP logging); `data` is text or any JSON value."""

    level: LoggingLevel
    data: Any
    logger: str | None = None


LogHandler: TypeAlias = Callable[[LogMessage], Awaitable[None] | None]
"""Called with each log message; sync or async, never twice at once."""


class LogQueue:
    """Holds at most `limit` messages; if more arrive while the handler is busy, the oldest are dropped."""

    def __init__(self, handler: LogHandler, limit: int) -> None:
        self._handler = handler
        self._messages: deque[LogMessage] = deque(maxlen=limit)
        self._dropped = 0  # since the handler last caught up
        self._arrival = trio.lowlevel.ParkingLot()
        self._closing = False
        self._scope = trio.CancelScope(shield=True)  # until `close` or `abandon`

    def __len__(self) -> int:
        return len(self._messages)

    def put_raw(self, params: msgspec.Raw | msgspec.UnsetType) -> None:
        """Queue the message that the parameters of notifications/message hold; a malformed one is dropped."""
        try:
            self.put(_read_message(params))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.debug("a malformed log message was dropped: %s", error)

    async def run(self) -> None:
        """Hand the messages to the handler, until the queue is closed and empty; checkpoints."""
        with self._scope:
            while self._messages or not self._closing:
                if self._messages:
                    await self._handle(self._messages.popleft())
                else:
                    self._tell_dropped()
                    await self._arrival.park()

    def close(self, deadline: float) -> None:
        """End `run` once the queue is empty, at the latest at `deadline` by Trio's clock."""
        self._closing = True
        self._arrival.unpark_all()
        self._scope.deadline = deadline
        self._scope.shield = False

    def abandon(self) -> None:
        """End `run` at once: the handler gets no more messages."""
        self._closing = True
        self._scope.cancel()

    def put(self, message: LogMessage) -> None:
        """Queue a message; never waits."""
        if len(self._messages) == self._messages.maxlen:
            if self._dropped == 0:
                logger.warning("the log handler is slow: the oldest messages are dropped")
            self._dropped += 1
        self._messages.append(message)
        self._arrival.unpark_all()

    def _tell_dropped(self) -> None:
        if self._dropped:
            logger.warning("%d log messages were dropped", self._dropped)
            self._dropped = 0

    async def _handle(self, message: LogMessage) -> None:
        try:
            pending = self._handler(message)
            if pending is not None and inspect.isawaitable(pending):
                await pending
        except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything; see contain_failure
            contain_failure(error, "a log handler", logger)
        await trio.lowlevel.checkpoint()


def _read_message(params: msgspec.Raw | msgspec.UnsetType) -> LogMessage:
    raw = b"" if isinstance(params, msgspec.UnsetType) else params
    read = msgspec.json.decode(raw, type=LogParams)
    return LogMessage(read.level, msgspec.json.decode(read.data), read.logger)
