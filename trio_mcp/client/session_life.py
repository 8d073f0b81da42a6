"""How a client's session lives: in which session of the server it is, and whether it is lost.

Owns the waiting for that. A legacy server behind HTTP may end its session, and the next one knows nothing of
the first. Refuses to know who waits, and what has to be set up again.
"""

from __future__ import annotations

import trio

from trio_mcp.errors import ConnectionLost


class SessionLife:
    """Tells those who wait when the server has a new session, can no longer be heard, or is lost."""

    def __init__(self) -> None:
        self.lost: ConnectionLost | None = None
        self.generation = 0
        """How many sessions there were before this one."""
        self.unheard: str | None = None
        """Why the server's own messages do not arrive any more; None while they do."""
        self.silent: str | None = None
        """Why the server cannot send messages of its own; None if it can, or if that is not known yet."""
        self._changed = trio.lowlevel.ParkingLot()

    def lose(self, error: ConnectionLost) -> None:
        """Note that the connection has ended; only the first reason counts."""
        if self.lost is None:
            self.lost = error
            self._changed.unpark_all()

    def note_renewed(self) -> None:
        """Note that the server has a new session."""
        self.generation += 1
        self.unheard = self.silent = None
        self._changed.unpark_all()

    def note_silent(self, reason: str) -> None:
        """Note that the server has no way to send messages of its own."""
        self.silent = reason
        self._changed.unpark_all()

    def note_unheard(self, reason: str) -> None:
        """Note that the server's own messages do not arrive any more."""
        self.unheard = reason
        self._changed.unpark_all()

    async def wait_changed(self, generation: int) -> None:
        """Wait until the session is another one than `generation`, is unheard or lost; checkpoints."""
        await trio.lowlevel.checkpoint()
        while self.lost is None and self.unheard is None and self.generation == generation:
            await self._changed.park()

    async def wait_silent(self) -> str:
        """Wait until it is known that the server sends nothing of its own, and return why; checkpoints."""
        await trio.lowlevel.checkpoint()
        while self.silent is None:
            await self._changed.park()
        return self.silent

    async def wait_lost(self) -> ConnectionLost:
        """Wait until the connection has ended, and return why; checkpoints."""
        await trio.lowlevel.checkpoint()
        while self.lost is None:
            await self._changed.park()
        return ConnectionLost(str(self.lost))
