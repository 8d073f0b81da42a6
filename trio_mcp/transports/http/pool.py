"""The connections to one address that wait for their next request.

Owns how many are kept, and for how long. Knows nothing of requests.
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import Final

import trio

from trio_mcp.transports.http.address import Address
from trio_mcp.transports.http.h11_connection import H11Connection, open_connection

KEPT_CONNECTIONS: Final = 100
"""How many idle connections wait for the next request; those in use are not limited.

As many as a busy client has calls at a time: to connect anew costs both sides more than a call.
"""

KEPT_SECONDS: Final = 30.0
"""How long an idle connection is used again; it is closed with the first request after that."""


class ConnectionPool:
    """Hands out connections, the one that was used last first, so that the others can expire."""

    def __init__(self, address: Address, ssl_context: ssl.SSLContext | None) -> None:
        self._address = address
        self._ssl_context = ssl_context
        self._kept: deque[tuple[float, H11Connection]] = deque()  # with the times at which they expire
        self._closed = False

    @property
    def kept(self) -> int:
        """How many connections wait."""
        return len(self._kept)

    def take(self) -> H11Connection | None:
        """A connection that is open as far as one can tell, or None."""
        self._expire()
        while self._kept:
            _, connection = self._kept.pop()
            if not connection.is_stale:
                return connection
            connection.close()
        return None

    async def open(self) -> H11Connection:
        """A new connection; checkpoints. Raises the `FAILURES` of connections."""
        return await open_connection(self._address, self._ssl_context)

    def put(self, connection: H11Connection) -> None:
        """Keep a connection for the next request, or close it where that cannot be."""
        if self._closed or not connection.renew():
            connection.close()
            return
        self._kept.append((trio.current_time() + KEPT_SECONDS, connection))
        if len(self._kept) > KEPT_CONNECTIONS:
            self._kept.popleft()[1].close()
        self._expire()

    def _expire(self) -> None:
        now = trio.current_time()
        while self._kept and self._kept[0][0] <= now:
            self._kept.popleft()[1].close()

    def close(self) -> None:
        """Close those that wait, and from now on all that come back."""
        self._closed = True
        while self._kept:
            self._kept.pop()[1].close()
