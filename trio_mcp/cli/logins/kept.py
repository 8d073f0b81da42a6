"""The tokens of an earlier login, for a command that meets the same server."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

from trio_mcp.cli.logins.book import LoginBook
from trio_mcp.cli.logins.flow import choose_browser, load_secret, make_oauth
from trio_mcp.cli.prompter import can_prompt
from trio_mcp.oauth.token_keeper import TokenKeeper
from trio_mcp.wire.authorization import canonical_resource


async def load_keeper(path: Path, url: str, ssl_context: ssl.SSLContext | None) -> TokenKeeper | None:
    """What presents the tokens for the server at `url`; None if the user is not logged in there.

    Checkpoints. Raises TokenStorageError, and ImportError without the extra `keyring` that the login used.
    """
    book = LoginBook(path)
    try:
        server = canonical_resource(url)
    except ValueError:
        return None  # nobody can have logged in to a URL that has no canonical form
    login = (await book.load()).get(server)
    if login is None:
        return None
    storage = book.open_storage(login.place)
    secret = await load_secret(login, server, storage)
    oauth = make_oauth(login, storage, secret, choose_browser(login) if has_terminal() else None)
    return oauth.for_server(url, ssl_context)


def has_terminal() -> bool:
    """Whether somebody sees what is printed on stderr, and can act on it."""
    return can_prompt() and sys.stderr.isatty()
