"""The requests that an endpoint answers now, and its sessions: their number for each peer.

Owns the caps, and how to end the requests. Refuses to know what they ask for, and how a refusal looks.
"""

from __future__ import annotations

from collections import Counter

import trio

from trio_mcp.transports.asgi.settings import HttpSettings


class Admission:
    """The requests that are being answered; cancelling the `scopes` ends them."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._streams = 0
        self._peers: Counter[str] = Counter()
        self.scopes: set[trio.CancelScope] = set()

    def __len__(self) -> int:
        return self._streams

    def refusal(self, peer: str) -> str | None:
        """The cap that keeps out another request of `peer`, or None if it may `enter`."""
        settings = self._settings
        if self._streams >= settings.max_streams:
            return f"max_streams is {settings.max_streams}"
        if self._peers[peer] >= settings.max_streams_per_peer:
            return f"max_streams_per_peer is {settings.max_streams_per_peer}"
        return None

    def enter(self, peer: str) -> None:
        """Count a request of `peer` from now on."""
        self._streams += 1
        self._peers[peer] += 1

    def leave(self, peer: str) -> None:
        """Count a request of `peer` no longer."""
        self._streams -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def end_all(self) -> None:
        """Cancel every request that is being answered; does not wait."""
        for scope in self.scopes:
            scope.cancel()


class SessionPlaces:
    """The sessions of legacy clients that are open, of every transport over HTTP."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._taken = 0
        self._peers: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._taken

    def refusal(self, peer: str) -> str | None:
        """Why `peer` may not open another session, or None if it may."""
        if self._taken >= self._settings.max_sessions:
            return f"max_sessions is {self._settings.max_sessions}, and so many are open"
        if self._peers[peer] >= self._settings.max_sessions_per_peer:
            return f"max_sessions_per_peer is {self._settings.max_sessions_per_peer}, and so many are open"
        return None

    def enter(self, peer: str) -> None:
        """Count a session of `peer` from now on."""
        self._taken += 1
        self._peers[peer] += 1

    def leave(self, peer: str) -> None:
        """Count a session of `peer` no longer."""
        self._taken -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]
