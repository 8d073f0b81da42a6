"""The log messages of an upstream server, which go to the clients of the proxy.

A message does not say for which request it is. So it is handed on only if all requests that are being made
are of one client, and nobody sees what belongs to somebody else. Owns that rule, and the bound of what waits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from trio_mcp.proxy.downstream import Downstream
from trio_mcp.wire.messages import LogParams

logger = logging.getLogger("trio_mcp")


class RelayedLogs:
    """The requests that are being made by one connection, and where its log messages go."""

    def __init__(self) -> None:
        self._requests: dict[Downstream, None] = {}

    def __repr__(self) -> str:
        return f"<RelayedLogs: {len(self._requests)} requests>"

    @contextmanager
    def relaying(self, downstream: Downstream) -> Iterator[None]:
        """While the block lasts, log messages may be for this request."""
        self._requests[downstream] = None
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
        request = newest.request
        try:
            message = msgspec.json.decode(params, type=LogParams)
            if not request.wants_log(message.level):
                return
            if request.call_queue.frames >= request.call_queue.outbox.frame_limit:
                logger.warning("a client reads slowly: log messages of an upstream server are dropped")
                return
            request.put_log(message.level, msgspec.json.decode(message.data), message.logger)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.debug("a malformed log message was dropped: %s", error)
