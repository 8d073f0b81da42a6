"""Where a client keeps tokens and registrations between its runs: the interface, and the store in memory.

Owns what every storage promises. Refuses to know what the values mean: they are texts that hold secrets,
so no storage shows them in a repr, a log or an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from weakref import WeakValueDictionary

import trio


class TokenStorage(Protocol):
    """Keeps texts under keys, for the clients of one user.

    Every method checkpoints, and raises TokenStorageError if the storage cannot be used. The message never
    holds a value. A `save` that was begun is carried out wholly or not at all.
    """

    async def load(self, key: str) -> str | None:
        """The text under `key`; None if there is none."""

    async def save(self, key: str, value: str) -> None:
        """Keep `value` under `key`, in place of what was there."""

    async def delete(self, key: str) -> None:
        """Forget what is under `key`; no error if there is nothing."""

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Let one holder at a time into the block, among all that use this storage.

        Whoever refreshes a token loads it again inside the block: the holder before may have done so. The
        lock is not reentrant, and does not keep others from `load`, `save` and `delete`.
        """


class MemoryStorage:
    """A `TokenStorage` that ends with its process; for the tasks of one Trio run."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        # Weak, so that a lock lasts as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<MemoryStorage of {len(self._values)} values>"

    async def load(self, key: str) -> str | None:
        """The text under `key`; None if there is none. Checkpoints."""
        await trio.lowlevel.checkpoint()
        return self._values.get(key)

    async def save(self, key: str, value: str) -> None:
        """Keep `value` under `key`; checkpoints."""
        await trio.lowlevel.checkpoint()
        self._values[key] = value

    async def delete(self, key: str) -> None:
        """Forget what is under `key`; checkpoints."""
        await trio.lowlevel.checkpoint()
        self._values.pop(key, None)

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        """Let one task at a time into the block; checkpoints."""
        lock = self._locks.setdefault(key, trio.Lock())
        async with lock:
            yield
