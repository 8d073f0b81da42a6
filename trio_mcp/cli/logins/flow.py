"""The `OAuth` of a login, and how its user is asked.

Owns what is shown to the user. Refuses to know the list of logins.
"""

from __future__ import annotations

import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from trio_mcp.cli.logins.book import Login, secret_key
from trio_mcp.cli.output import print_note
from trio_mcp.cli.status import CommandError
from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_options import OpenBrowser, Receiver, Redirect
from trio_mcp.oauth.loopback import LoopbackRedirect
from trio_mcp.oauth.oauth import OAuth
from trio_mcp.oauth.storage import TokenStorage

CLIENT_NAME = "trio-mcp"


class PersonNeededError(AuthorizationError):
    """Only a person can get another token, and nobody is there to be asked."""


@attrs.frozen
class NoRedirect:
    """A `Redirect` where nobody can be asked: it ends the flow before anything is registered."""

    @asynccontextmanager
    async def open_receiver(self, state: str) -> AsyncIterator[Receiver]:
        """Raise PersonNeededError; checkpoints."""
        await trio.lowlevel.checkpoint()
        raise PersonNeededError("somebody has to log in")
        yield  # it is a context manager


def make_oauth(
    login: Login,
    storage: TokenStorage,
    secret: str | None,
    open_browser: OpenBrowser | None,
) -> OAuth:
    """What gets the tokens of a login; without `open_browser` nobody is asked, and PersonNeededError raised.

    Raises CommandError for options that make no sense.
    """
    redirect: Redirect = NoRedirect() if open_browser is None else LoopbackRedirect(port=login.port)
    try:
        return OAuth(
            client_id=login.client_id,
            client_secret=secret,
            client_metadata_url=login.client_metadata_url,
            client_name=CLIENT_NAME,
            scopes=login.scopes,
            issuer=login.issuer,
            storage=storage,
            redirect=redirect,
            open_browser=open_browser or show_url,
            allow_private=login.allows_private,
        )
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from None


async def load_secret(login: Login, server: str, storage: TokenStorage) -> str | None:
    """The client's secret that was kept with a login; checkpoints. Raises TokenStorageError."""
    return await storage.load(secret_key(server)) if login.has_secret else None


def choose_browser(login: Login) -> OpenBrowser:
    """How the user of this terminal is asked."""
    return show_page if login.opens_browser else show_url


async def show_url(url: str) -> None:
    """Print the URL on stderr; checkpoints."""
    print_note(f"To log in, open this address on this machine:\n{url}")
    await trio.lowlevel.checkpoint()


async def show_page(url: str) -> None:
    """Open the URL in the user's browser, and print it for the case that no browser opens; checkpoints."""
    print_note(f"To log in, use the page that opens in your browser, or open this address:\n{url}")
    # Abandoned: some browsers stay in the foreground of the terminal.
    await trio.to_thread.run_sync(webbrowser.open, url, abandon_on_cancel=True)
