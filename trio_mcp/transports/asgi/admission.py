"""The requests that an endpoint answers now, and its sessions: their number for each peer.

Owns the caps. Refuses to know what is asked for, and how a refusal looks.
"""

from __future__ import annotations

from collections import Counter

from trio_mcp.transports.asgi.settings import HttpSettings


class Places:
    """At most `limit` of a `kind` ("streams") are there at once, and at most `limit_per_peer` of one peer."""

    def __init__(self, kind: str, limit: int, limit_per_peer: int) -> None:
        self._kind = kind
        self._limit = limit
        self._limit_per_peer = limit_per_peer
        self._taken = 0
        self._peers: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Places: {self._taken} of {self._limit} {self._kind}>"

    def __len__(self) -> int:
        return self._taken

    def refusal(self, peer: str) -> str | None:
        """The cap that keeps out another one of `peer`, or None if it may `enter`."""
        if self._taken >= self._limit:
            return f"max_{self._kind} is {self._limit}"
        if self._peers[peer] >= self._limit_per_peer:
            return f"max_{self._kind}_per_peer is {self._limit_per_peer}"
        return None

    def enter(self, peer: str) -> None:
        """Count one of `peer` from now on."""
        self._taken += 1
        self._peers[peer] += 1

    def leave(self, peer: str) -> None:
        """Count one of `peer` no longer."""
        self._taken -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]


def make_response_places(settings: HttpSettings) -> Places:
    """The places of the requests that are being answered."""
    return Places("streams", settings.max_streams, settings.max_streams_per_peer)


def make_session_places(settings: HttpSettings) -> Places:
    """The places of the sessions of legacy clients that are open, of every transport over HTTP."""
    return Places("sessions", settings.max_sessions, settings.max_sessions_per_peer)
