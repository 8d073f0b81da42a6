"""Tokens in the keyring of the user's system, by the library keyring.

Owns how a long value is kept where values must be short, and the import of that library. Refuses to know
what the values mean.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from trio_mcp.errors import TokenStorageError
from trio_mcp.oauth.file_lock import hold_file_lock

T = TypeVar("T")

PART_CHARACTERS: Final = 1200
"""Windows keeps at most 2,560 bytes in one credential, as UTF-16; a longer value is kept in parts."""

_PARTS: Final = "trio_mcp-parts:"
_TRIES: Final = 3


class KeyringStorage:
    """A `TokenStorage` in the system's keyring, for `OAuth(storage=...)`; needs the extra `keyring`.

    `service` is the name under which the entries stand there. Keyrings have no locks: `lock` uses files in
    `lock_directory`, by default one in the user's state directory, which hold no secrets. `backend` is a
    backend of keyring; by default it is the one that keyring finds. The system may ask the user for a
    password; a method waits for that in a thread, and cannot be cancelled meanwhile. A value longer than
    `part_characters` is kept in several entries, for keyrings that take short ones only.

    Raises ModuleNotFoundError without the extra.
    """

    def __init__(
        self,
        service: str = "trio_mcp",
        *,
        lock_directory: str | os.PathLike[str] | None = None,
        backend: Any = None,
        part_characters: int | None = PART_CHARACTERS if sys.platform == "win32" else None,
    ) -> None:
        try:
            import keyring.errors
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "KeyringStorage needs keyring: pip install 'trio-mcp[keyring]'", name=error.name
            ) from error
        self._service = service
        self._keyring = keyring if backend is None else backend
        self._failures = keyring.errors.KeyringError
        self._locks = Path(_state_directory() if lock_directory is None else lock_directory)
        self._part_characters = part_characters
        self._limiter = trio.CapacityLimiter(1)  # few backends bear several threads

    def __repr__(self) -> str:
        return f"KeyringStorage({self._service!r})"

    async def load(self, key: str) -> str | None:
        """The text under `key`; None if there is none. Checkpoints; raises TokenStorageError."""
        return await self._run(self._read, key)

    async def save(self, key: str, value: str) -> None:
        """Keep `value` under `key`; checkpoints. Raises TokenStorageError."""
        await self._run(self._write, key, value)

    async def delete(self, key: str) -> None:
        """Forget what is under `key`; checkpoints. Raises TokenStorageError."""
        await self._run(self._remove, key)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Let one holder at a time into the block, among all processes; checkpoints.

        Raises TokenStorageError.
        """
        digest = sha256(f"{self._service}\n{key}".encode()).hexdigest()[:32]
        return hold_file_lock(self._locks / f"{digest}.lock")

    async def _run(self, function: Callable[..., T], *arguments: str) -> T:
        try:
            return await trio.to_thread.run_sync(function, *arguments, limiter=self._limiter)
        except self._failures as error:
            # Not its text: a backend may put there what it was given.
            raise TokenStorageError(f"the keyring of this system: {type(error).__name__}") from None

    def _get(self, key: str) -> str | None:
        found: str | None = self._keyring.get_password(self._service, key)
        return found

    def _read(self, key: str) -> str | None:
        for _ in range(_TRIES):  # another process may be replacing the parts
            head = self._get(key)
            parts = [self._get(name) for name in _part_names(key, head)]
            if head is None or not parts:
                return head
            if None not in parts:
                return "".join(part for part in parts if part is not None)
        return None

    def _write(self, key: str, value: str) -> None:
        old = self._get(key)
        size = self._part_characters
        if size is None or len(value) <= size:
            head = value
        else:
            pieces = [value[start : start + size] for start in range(0, len(value), size)]
            head = f"{_PARTS}{len(pieces)}:{secrets.token_hex(8)}"
            for name, piece in zip(_part_names(key, head), pieces, strict=True):
                self._keyring.set_password(self._service, name, piece)
        self._keyring.set_password(self._service, key, head)
        self._forget_parts(key, old)

    def _remove(self, key: str) -> None:
        old = self._get(key)
        if old is not None:
            self._keyring.delete_password(self._service, key)
            self._forget_parts(key, old)

    def _forget_parts(self, key: str, head: str | None) -> None:
        for name in _part_names(key, head):
            if self._get(name) is not None:
                self._keyring.delete_password(self._service, name)


def _part_names(key: str, head: str | None) -> list[str]:
    """The names of the entries that hold a value, if `head` stands for one in parts."""
    if head is None or not head.startswith(_PARTS):
        return []
    count, _, generation = head.removeprefix(_PARTS).partition(":")
    return [f"{key}#{generation}.{number}" for number in range(int(count))]


def _state_directory() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "trio_mcp" / "locks"
