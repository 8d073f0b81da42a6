"""The log messages of an upstream server, which go to the clients of the proxy.

A message does not say for which request it is. So it is handed on only if all requests that are being made
are of one client, and nobody sees what belongs to somebody else. Owns that rule, and the bound of what waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import msgspec

from trio_mcp.client.link import Link
from trio_mcp.errors import ProtocolError
from trio_mcp.proxy.downstream import Downstream
from trio_mcp.wire.messages import LOGGING_LEVELS, LoggingLevel, LogParams

logger = logging.getLogger("trio_mcp.proxy")

LogTaker: TypeAlias = Callable[[LogParams], None]
"""Takes a log message of an upstream server; never waits."""


class RelayedLogs:
    """The requests that are being made by one connection, and where its log messages go."""

    def __init__(self) -> None:
        self._requests: dict[Downstream, LogTaker] = {}
        self._level: LoggingLevel = "info"

    def __repr__(self) -> str:
        return f"<RelayedLogs: {len(self._requests)} requests>"

    def begin(self, link: Link) -> None:
        """Take the log messages of a new connection."""
        self._level = "info"  # what servers send to a client that has not said anything
        link.session.routes.on_log = self.note

    async def want(self, link: Link, level: LoggingLevel | None) -> None:
        """Let a legacy server send messages of `level` and above; a modern one is told with each request.

        Checkpoints if it is told. More are sent than some clients want; they get what they want.
        """
        if level is None or link.era.modern or "logging" not in link.agreement.capabilities:
            return
        if LOGGING_LEVELS.index(level) >= LOGGING_LEVELS.index(self._level):
            return
        self._level = level
        try:
            await link.set_log_level(level)
        except ProtocolError as error:
            logger.debug("an upstream server does not set its log level: %s", error)

    @contextmanager
    def relaying(self, downstream: Downstream, take: LogTaker) -> Iterator[None]:
        """While the block lasts, log messages may be for this request, and `take` gets them then."""
        self._requests[downstream] = take
        try:
            yield
        finally:
            del self._requests[downstream]

    def note(self, params: msgspec.Raw | msgspec.UnsetType) -> None:
        """Hand a message on behind what its request has sent; never waits."""
        if not self._requests or isinstance(params, msgspec.UnsetType):
            return
        newest = next(reversed(self._requests))
        home = newest.request.connection.home
        if any(one.request.connection.home is not home for one in self._requests):
            logger.debug("a log message of an upstream server was dropped: several clients wait for it")
            return
        try:
            self._requests[newest](msgspec.json.decode(params, type=LogParams))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.debug("a malformed log message was dropped: %s", error)
