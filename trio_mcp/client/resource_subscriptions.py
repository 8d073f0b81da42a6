"""Which resources a client is subscribed to at a legacy server, and for how many listeners.

Owns the count, and the order of subscribing and unsubscribing. A modern subscription is a request of its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from trio_mcp.errors import MCPError
from trio_mcp.wire.messages import Params, SubscribeParams

logger = logging.getLogger("trio_mcp.client")


class ResourceSubscriptions:
    """Subscribes for the first listener of a resource, and unsubscribes behind the last.

    `request` makes a request and waits for its answer, `send` makes one without waiting.
    """

    def __init__(
        self, request: Callable[[str, Params], Awaitable[Any]], send: Callable[[str, Params], None]
    ) -> None:
        self._request = request
        self._send = send
        self._listeners = Counter[str]()
        # One at a time: over HTTP two requests may overtake each other, and the last one must count.
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        return f"<ResourceSubscriptions: {len(self._listeners)} resources>"

    async def add(self, uri: str) -> None:
        """Note a listener, and subscribe for the first; checkpoints. Raises what a request raises."""
        async with self._turn:
            if uri not in self._listeners:
                try:
                    await self._request("resources/subscribe", SubscribeParams(uri=uri))
                except trio.Cancelled:  # the server may have understood it all the same
                    self._send("resources/unsubscribe", SubscribeParams(uri=uri))
                    raise
            self._listeners[uri] += 1

    async def remove(self, uris: Sequence[str]) -> None:
        """Forget a listener of each of `uris`, and unsubscribe behind the last; checkpoints."""
        gone = self._forget(uris)
        try:
            async with self._turn:
                while gone:
                    if gone[-1] not in self._listeners:  # nobody has come meanwhile
                        await self._unsubscribe(gone[-1])
                    gone.pop()
        finally:  # what is left if this is cancelled
            for uri in gone:
                self._send("resources/unsubscribe", SubscribeParams(uri=uri))

    def abandon(self, uris: Sequence[str]) -> None:
        """Do what `remove` does, without waiting for the server."""
        for uri in self._forget(uris):
            self._send("resources/unsubscribe", SubscribeParams(uri=uri))

    async def _unsubscribe(self, uri: str) -> None:
        try:
            await self._request("resources/unsubscribe", SubscribeParams(uri=uri))
        except MCPError as error:
            logger.debug("%r was not unsubscribed: %s", uri, error)

    def _forget(self, uris: Sequence[str]) -> list[str]:
        """Count the listeners down; return the resources that have none any more."""
        self._listeners.subtract(uris)
        gone = [uri for uri in uris if not self._listeners[uri]]
        for uri in gone:
            del self._listeners[uri]
        return gone
