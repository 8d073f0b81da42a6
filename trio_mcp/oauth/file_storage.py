"""Tokens in a file that only its owner can read, shared by the processes of one user.

Owns the file: its mode, its atomic replacement and its locks. Refuses to know what the values mean.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from trio_mcp.errors import TokenStorageError
from trio_mcp.oauth.file_lock import hold_file_lock

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""A larger file is not read: the tokens of a thousand servers take a tenth of it."""

T = TypeVar("T")

_OTHERS: Final = 0o077
_decode: Final = msgspec.json.Decoder(dict[str, str]).decode
_logger: Final = logging.getLogger("trio_mcp.oauth")


class FileStorage:
    """A `TokenStorage` in the file `path`, for `OAuth(storage=...)`; "~" is the user's home.

    Tokens outlive the process there. Nothing is read or made before the first use.

    The file has mode 600 and is replaced in one step, so that a reader sees the old values or the new ones.
    Directories that do not exist are made with mode 700. Processes and threads may share the file; its
    locks are files beside it (`.lock`), which stay. What it holds is not encrypted: `KeyringStorage` is for
    machines on which other programs of the user are not to read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser().absolute()

    def __repr__(self) -> str:
        return f"FileStorage({str(self._path)!r})"

    async def load(self, key: str) -> str | None:
        """The text under `key`; None if there is none. Checkpoints; raises TokenStorageError."""
        if sys.platform == "win32":  # there nobody can replace a file that is being read
            async with self._hold(".lock"):
                return (await self._run(self._read)).get(key)
        return (await self._run(self._read)).get(key)

    async def save(self, key: str, value: str) -> None:
        """Keep `value` under `key`; checkpoints. Raises TokenStorageError."""
        await self._change(key, value)

    async def delete(self, key: str) -> None:
        """Forget what is under `key`; checkpoints. Raises TokenStorageError."""
        await self._change(key, None)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Let one holder at a time into the block, among all processes; checkpoints.

        Raises TokenStorageError.
        """
        return self._hold(f".{sha256(key.encode()).hexdigest()[:16]}.lock")

    def _hold(self, suffix: str) -> AbstractAsyncContextManager[None]:
        return hold_file_lock(self._path.with_name(self._path.name + suffix))

    async def _change(self, key: str, value: str | None) -> None:
        async with self._hold(".lock"):
            await self._run(self._replace, key, value)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return await trio.to_thread.run_sync(function, *arguments)
        except OSError as error:
            raise self._failure(error) from error

    def _read(self) -> dict[str, str]:
        try:
            with open(self._path, "rb") as file:
                self._make_private(file.fileno())
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return {}
        if len(data) > MAX_FILE_BYTES:
            raise TokenStorageError(f"token storage {self._path}: more than {MAX_FILE_BYTES:,} bytes")
        try:
            return _decode(data)
        except msgspec.DecodeError:
            raise TokenStorageError(
                f"token storage {self._path}: this is no file of tokens; remove it to log in anew"
            ) from None

    def _make_private(self, descriptor: int) -> None:
        if sys.platform != "win32" and os.fstat(descriptor).st_mode & _OTHERS:
            _logger.warning("token storage %s could be read by other users; it has mode 600 now", self._path)
            with suppress(PermissionError):
                os.fchmod(descriptor, 0o600)

    def _replace(self, key: str, value: str | None) -> None:
        entries = self._read()
        if entries.get(key) == value:
            return
        if value is None:
            del entries[key]
        else:
            entries[key] = value
        target = os.path.realpath(self._path)  # a link to the file goes on being one
        descriptor, name = tempfile.mkstemp(dir=os.path.dirname(target), prefix=f".{self._path.name}.")
        try:
            with open(descriptor, "wb") as file:
                file.write(msgspec.json.encode(entries))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise

    def _failure(self, error: OSError) -> TokenStorageError:
        return TokenStorageError(f"token storage {self._path}: {error.strerror or type(error).__name__}")
