"""Which servers the user is logged in to, and where the tokens of each are kept.

Owns the list of logins, which holds no secret, and the storage of each: the file in which the list stands,
or the keyring of the system. Refuses to know how a token is got.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from trio_mcp.errors import TokenStorageError
from trio_mcp.oauth.file_storage import FileStorage
from trio_mcp.oauth.keyring_storage import KeyringStorage
from trio_mcp.oauth.storage import TokenStorage
from trio_mcp.oauth.token_keeper import Grant, load_grant

Place: TypeAlias = Literal["file", "keyring"]

_LOGINS: Final = "logins"
_LOCK: Final = "logins lock"


class Login(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the user has logged in to one server; `place` is where its tokens are, `port` that of the redirect.

    The client's secret, if it `has_secret`, is kept with the tokens.
    """

    place: Place = "file"
    client_id: str | None = None
    has_secret: bool = False
    client_metadata_url: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] = ()
    port: int = 0
    opens_browser: bool = True
    allows_private: bool = False


class LoginBook:
    """The logins that the file at `path` lists, by the canonical URL of each server.

    Every method but `open_storage` checkpoints, and raises TokenStorageError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = FileStorage(path)

    async def load(self) -> dict[str, Login]:
        """All logins."""
        text = await self._file.load(_LOGINS)
        try:
            return {} if text is None else msgspec.json.decode(text, type=dict[str, Login])
        except (msgspec.MsgspecError, RecursionError):
            raise TokenStorageError(
                f"token storage {self._path}: its list of logins cannot be read; remove it to log in anew"
            ) from None

    async def add(self, server: str, login: Login) -> None:
        """List a login, in place of the one to that server before."""
        async with self._changing() as logins:
            logins[server] = login

    async def remove(self, server: str) -> None:
        """List the login to `server` no more."""
        async with self._changing() as logins:
            logins.pop(server, None)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[dict[str, Login]]:
        async with self._file.lock(_LOCK):
            logins = await self.load()
            yield logins
            await self._file.save(_LOGINS, msgspec.json.encode(logins).decode())

    def open_storage(self, place: Place) -> TokenStorage:
        """Where the tokens of a login are; raises ImportError without the extra `keyring`."""
        return self._file if place == "file" else KeyringStorage()

    async def load_grants(self, logins: Mapping[str, Login]) -> dict[str, Grant | None]:
        """The tokens of each login; None if they are not there any more."""
        found: dict[str, Grant | None] = {}
        for server, login in logins.items():
            text = await self.open_storage(login.place).load(tokens_key(server))
            found[server] = None if text is None else load_grant(text)
        return found


def tokens_key(server: str) -> str:
    """Under which key of its storage `OAuth` keeps the tokens for a server."""
    return f"tokens {server}"


def secret_key(server: str) -> str:
    """Under which key the secret of the client is kept with which the user logged in to a server."""
    return f"secret {server}"
