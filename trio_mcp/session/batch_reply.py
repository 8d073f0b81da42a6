"""The answer to one JSON-RPC batch (MCP base protocol 2025-03-26, "Batching").

Owns the answers of its members until all are there. Refuses to know what the members ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio_mcp.session.connection import ServerConnection
from trio_mcp.wire.frames import Batch, OutFrame


class BatchReply:
    """Collects the answers to one batch, `expected` in all, and sends them as one.

    `admitted` is how many requests of the batch were begun; `on_answered` is told that number at the end. A
    batch whose requests were all cancelled is not answered.
    """

    def __init__(
        self, expected: int, connection: ServerConnection, on_answered: Callable[[int], None]
    ) -> None:
        self._expected = expected
        self._answers: list[Any] = []  # at most as many as a batch may have members
        self._connection = connection
        self._on_answered = on_answered
        self.admitted = 0

    def add(self, answer: OutFrame | None) -> None:
        """Take the answer of one member, or None if it gets none; the last one sends all. Does not wait."""
        self._expected -= 1
        if answer is not None:
            self._answers.append(answer)
        if self._expected == 0:
            if self._answers:
                self._connection.outbox.put(Batch(self._answers))
            self._connection.note_answered()
            self._on_answered(self.admitted)
