"""How a command gets in at a server with a URL: by `--auth`, or by the tokens of an earlier login.

Owns the hint at `trio-mcp login`. What is needed for tokens is imported only if there are logins.
"""

from __future__ import annotations

import os
import shlex
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs
import trio

from trio_mcp.cli.secret_source import read_secret
from trio_mcp.cli.status import CommandError
from trio_mcp.cli.targets import CommandTarget, read_target, split_target
from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.client.stdio_server import StdioServer
from trio_mcp.errors import AuthorizationError
from trio_mcp.printable import one_line

if TYPE_CHECKING:
    from trio_mcp.oauth.token_keeper import TokenKeeper
    from trio_mcp.transports.http.authorizer import Refusal


MAX_SHOWN: Final = 20
"""How many scopes a hint names; they are told by the server."""


def find_tokens_file() -> Path:
    """The file of the user's state in which logins are listed."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "trio_mcp" / "tokens.json"


def find_target(text: str, env: Sequence[str], cwd: str | None, auth: str | None) -> CommandTarget:
    """The target as `read_target`, with the token that `--auth` names; raises CommandError."""
    command = read_target(text, env, cwd)
    return command if auth is None else _give_token(command, auth)


def _give_token(command: CommandTarget, auth: str) -> CommandTarget:
    target, options = split_target(command)
    if not isinstance(target, str):
        raise CommandError("--auth is for servers with a URL, not for those that are started here")
    if _has_credentials(target):
        raise CommandError("--auth makes no sense here: the URL has credentials of its own")
    from trio_mcp.transports.http.authorizer import StaticToken

    token = read_secret(auth, "--auth", may_be_plain=True)
    try:
        StaticToken(token)
    except ValueError as error:
        raise CommandError(f"--auth: {error}") from None
    headers = {name: value for name, value in options.get("headers", {}).items() if not _authorizes(name)}
    return ServerEntry(target, options={**options, "headers": headers, "auth": token})


def find_access(command: CommandTarget) -> tuple[list[str] | str | StdioServer, Mapping[str, Any]]:
    """The target for `open_client` and its keyword arguments, with the way to the tokens of a login."""
    target, options = split_target(command)
    if not isinstance(target, str) or "auth" in options or _has_credentials(target):
        return target, options
    if any(map(_authorizes, options.get("headers") or ())):
        return target, options
    return target, {**options, "auth": KeptTokens(target)}


def give_access(entry: ServerEntry) -> ServerEntry:
    """The entry of a group, with the way to the tokens of a login; its other options stay."""
    return attrs.evolve(entry, options=find_access(entry)[1])


def _has_credentials(url: str) -> bool:
    return "@" in urlsplit(url).netloc


def _authorizes(header: str) -> bool:
    return header.lower() == "authorization"


class KeptTokens:
    """The `auth` of a command for the server at `url`: the tokens of a login, if there was one.

    They are refreshed without a word. If that is not enough, the user is asked if a terminal is there; else
    AuthorizationError says which command lets them log in.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._ssl_context: ssl.SSLContext | None = None
        self._keeper: TokenKeeper | None = None
        self._is_loaded = False
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<KeptTokens for {self._url}>"

    def for_server(self, url: str, ssl_context: ssl.SSLContext | None) -> KeptTokens:
        """Itself: a command has one server."""
        self._ssl_context = ssl_context
        return self

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        """The token of the login; nothing without one. Checkpoints only if it has to wait."""
        if not self._is_loaded:
            async with self._lock:
                await self._load()
        return {} if self._keeper is None else await self._keeper.headers(method, url)

    async def answer(self, refusal: Refusal) -> bool:
        """Get a better token; checkpoints. Raises AuthorizationError."""
        from trio_mcp.wire.authorization import find_challenge

        challenge = find_challenge(refusal.headers.get("www-authenticate"))
        parameters = {} if challenge is None else challenge.parameters
        scopes = parameters.get("scope", "").split()
        lacks_scope = parameters.get("error") == "insufficient_scope"
        if refusal.status != 401 and not lacks_scope:
            await trio.lowlevel.checkpoint()
            return False
        if self._keeper is None:
            await trio.lowlevel.checkpoint()
            raise AuthorizationError(self._hint("wants an access token", scopes if lacks_scope else ()))
        from trio_mcp.cli.logins.flow import PersonNeededError

        try:
            return await self._keeper.answer(refusal)
        except PersonNeededError:
            problem = "needs more than was granted" if lacks_scope else "does not accept your login any more"
            raise AuthorizationError(self._hint(problem, scopes if lacks_scope else ())) from None

    def _hint(self, problem: str, scopes: Sequence[str]) -> str:
        options = "".join(f" --scope {shlex.quote(one_line(scope))}" for scope in scopes[:MAX_SHOWN])
        return f"{self._url} {problem}: trio-mcp login {shlex.quote(self._url)}{options}"

    async def _load(self) -> None:
        if self._is_loaded:
            return
        path = find_tokens_file()
        if await trio.Path(path).exists():
            from trio_mcp.cli.logins.kept import load_keeper

            self._keeper = await load_keeper(path, self._url, self._ssl_context)
        self._is_loaded = True
