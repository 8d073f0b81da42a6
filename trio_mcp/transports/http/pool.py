"""The connections to one address that wait for their next request.

Owns how many are kept, and for how long. Knows nothing of requests.
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import Final

import attrs
import trio

from trio_mcp.transports.http.address import Address
from trio_mcp.transports.http.h11_connection import H11Connection, open_connection

KEPT_CONNECTIONS: Final = 100
"""How many idle connections wait for the next request; those in use are not limited.

As many as a busy client has calls at a time: to connect anew costs both sides more than a call.
"""

KEPT_SECONDS: Final = 4.0
"""How long an idle connection is used again; it is closed with the first request after that.

Less than the 5 seconds after which Node, uvicorn and hypercorn close one: a request that meets the
closing is lost.
"""


@attrs.frozen
class ConnectionPoolStatistics:
    """The state of a `ConnectionPool`."""

    idle: int
    """How many connections wait for their next request."""
    opened: int
    """How many connections were opened so far."""
    reused: int
    """How many requests so far were sent on a connection that had carried another."""
    is_closed: bool


class ConnectionPool:
    """The connections to `address`. The one that was used last is reused first, so the others can expire."""

    def __init__(self, address: Address, ssl_context: ssl.SSLContext | None) -> None:
        self._address = address
        self._ssl_context = ssl_context
        self._idle: deque[tuple[float, H11Connection]] = deque()  # with the times at which they expire
        self._opened = self._reused = 0
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<ConnectionPool of {self._address.origin}: {state}, {len(self._idle)} idle>"

    def statistics(self) -> ConnectionPoolStatistics:
        """The state of the pool now."""
        return ConnectionPoolStatistics(len(self._idle), self._opened, self._reused, self._closed)

    def reuse(self) -> H11Connection | None:
        """Hand out an idle connection that is open as far as one can tell; None if there is none."""
        self._expire()
        while self._idle:
            _, connection = self._idle.pop()
            if not connection.is_stale:
                self._reused += 1
                return connection
            connection.close()
        return None

    async def open(self) -> H11Connection:
        """Open a new connection; checkpoints. Raises the `FAILURES` of connections."""
        connection = await open_connection(self._address, self._ssl_context)
        self._opened += 1
        return connection

    def give_back(self, connection: H11Connection) -> None:
        """Keep a connection for the next request, or close it if it cannot carry one."""
        if self._closed or not connection.renew():
            connection.close()
            return
        self._idle.append((trio.current_time() + KEPT_SECONDS, connection))
        if len(self._idle) > KEPT_CONNECTIONS:
            self._idle.popleft()[1].close()
        self._expire()

    def _expire(self) -> None:
        now = trio.current_time()
        while self._idle and self._idle[0][0] <= now:
            self._idle.popleft()[1].close()

    def close(self) -> None:
        """Close the idle connections, and from now on each that comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()
