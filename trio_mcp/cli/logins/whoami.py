"""`trio-mcp whoami`: where the user is logged in, and what the tokens allow; never a token.

Owns the layout. No server is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.text import Text

from trio_mcp.cli.access import find_tokens_file
from trio_mcp.cli.logins.book import Login, LoginBook
from trio_mcp.cli.output import print_json, print_note, print_rich
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.oauth.token_keeper import Grant
from trio_mcp.printable import one_line
from trio_mcp.wire.authorization import canonical_resource

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


async def show_logins(url: str | None, *, as_json: bool = False, now: Callable[[], float] = time.time) -> int:
    """Print the login to the server at `url`, or all; checkpoints. `now` tells Unix seconds.

    Raises CommandError if the user is not logged in there, and TokenStorageError.
    """
    book = LoginBook(find_tokens_file())
    logins = await book.load()
    if url is not None:
        server = canonical_resource(url)
        if server not in logins:
            raise CommandError(f"you are not logged in to {server}")
        logins = {server: logins[server]}
    grants = await book.load_grants(logins)
    if as_json:
        found = [as_object(server, login, grants[server]) for server, login in sorted(logins.items())]
        print_json({"logins": found})
    elif not logins:
        print_note("You are not logged in to any server.")
    else:
        print_rich(
            *(render(server, login, grants[server], now()) for server, login in sorted(logins.items()))
        )
    return SUCCEEDED


def as_object(server: str, login: Login, grant: Grant | None) -> dict[str, Any]:
    """A login as JSON; times are in Unix seconds."""
    found: dict[str, Any] = {"server": server, "storage": login.place, "hasToken": grant is not None}
    if grant is not None:
        scopes = grant.tokens.scopes
        found |= {
            "issuer": grant.issuer,
            "clientId": grant.client_id,
            "scopes": None if scopes is None else sorted(scopes),
            "expiresAt": grant.tokens.expires_at,
            "isRenewable": grant.tokens.refresh_token is not None,
        }
    return found


def render(server: str, login: Login, grant: Grant | None, now: float) -> Text:
    """A login in a few lines."""
    if grant is None:
        rows = {"token": f"none is kept any more: trio-mcp login {server}"}
    else:
        scopes = grant.tokens.scopes
        rows = {
            "issuer": grant.issuer,
            "client": grant.client_id,
            "scopes": "not told" if scopes is None else " ".join(sorted(scopes)) or "none",
            "expires": describe_end(grant, now),
        }
    rows["storage"] = login.place
    lines = [Text(one_line(server), style="bold")]
    lines += [Text.assemble(f"  {name:<8} ", one_line(value)) for name, value in rows.items()]
    return Text("\n").join(lines)


def describe_end(grant: Grant, now: float) -> str:
    """When the access token ends, and whether another one is got by itself then."""
    end = grant.tokens.expires_at
    renewal = ", renewed by itself" if grant.tokens.refresh_token is not None else ""
    if end is None:
        return "not told" + renewal
    return (f"{'in ' + _describe_span(end - now) if end > now else 'over'}") + renewal


def _describe_span(seconds: float) -> str:
    for size, name in _UNITS:
        count = int(seconds // size)
        if count or size == 1:
            return f"{count} {name}{'' if count == 1 else 's'}"
    raise AssertionError("the last unit takes everything")
