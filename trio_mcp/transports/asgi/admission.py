"""What an endpoint has taken on: how many requests, from whom, and how to end them.

Owns the caps. Knows nothing of what the requests say, nor how a refusal looks.
"""

from __future__ import annotations

from collections import Counter

import trio

from trio_mcp.transports.asgi.settings import HttpSettings


class Admission:
    """The requests that are being answered; `scopes` are those that end them."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._streams = 0
        self._peers: Counter[str] = Counter()
        self.scopes: set[trio.CancelScope] = set()

    def __len__(self) -> int:
        return self._streams

    def refusal(self, peer: str) -> str | None:
        """Which cap keeps out another request of `peer`, or None where it may `enter`."""
        settings = self._settings
        if self._streams >= settings.max_streams:
            return f"max_streams is {settings.max_streams}"
        if self._peers[peer] >= settings.max_streams_per_peer:
            return f"max_streams_per_peer is {settings.max_streams_per_peer}"
        return None

    def enter(self, peer: str) -> None:
        """Count a request of `peer` until it leaves."""
        self._streams += 1
        self._peers[peer] += 1

    def leave(self, peer: str) -> None:
        """Count a request of `peer` no longer."""
        self._streams -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def end_all(self) -> None:
        """Cancel what is being answered; does not wait."""
        for scope in self.scopes:
            scope.cancel()
