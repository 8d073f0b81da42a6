"""A store in memory that outlives the servers of a test, as a file does, and what a crash does to it."""

from __future__ import annotations

import secrets
from typing import Any

from trio_mcp import MemoryTaskStore


class DurableMemoryStore(MemoryTaskStore):
    """Keeps tasks from one server to the next."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sweep_interval = 60.0

    def crash(self) -> None:
        """From now on nothing that the present process puts counts, as if it had died."""
        self._holder = secrets.token_hex(8)
