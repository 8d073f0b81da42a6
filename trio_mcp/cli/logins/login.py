"""`trio-mcp login`: lets the user authorize this program at a server, and keeps the tokens.

Owns the order: nothing that was kept before is replaced until new tokens are there.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
import trio

from trio_mcp.cli.access import find_tokens_file
from trio_mcp.cli.logins.book import Login, LoginBook, secret_key, tokens_key
from trio_mcp.cli.logins.flow import choose_browser, make_oauth
from trio_mcp.cli.output import print_note
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.client.client import open_client
from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_options import OpenBrowser
from trio_mcp.oauth.storage import TokenStorage
from trio_mcp.oauth.token_keeper import STORE_SECONDS, Grant, TokenKeeper
from trio_mcp.printable import one_line
from trio_mcp.transports.http.authorizer import Refusal
from trio_mcp.wire.authorization import canonical_resource


async def log_in(
    url: str,
    login: Login,
    secret: str | None,
    *,
    protocol: str = "auto",
    open_browser: OpenBrowser | None = None,
) -> int:
    """Get tokens for the server at `url` by the user's consent, and keep them; checkpoints.

    The connection to the server shows that it accepts them. `open_browser` is for tests. Raises CommandError,
    AuthorizationError, and what `open_client` raises.
    """
    server = canonical_resource(url)
    book = LoginBook(find_tokens_file())
    earlier = (await book.load()).get(server)  # finds out before the user is asked if it cannot be read
    storage = book.open_storage(login.place)
    new = _NewTokens(storage, tokens_key(server))
    oauth = make_oauth(login, new, secret, open_browser or choose_browser(login))
    keeper = oauth.for_server(url, None)
    try:
        async with open_client(url, auth=keeper, protocol=protocol):
            pass
        if keeper.grant is None:
            await _log_in_unasked(keeper, url)
    finally:
        if keeper.grant is not None:
            # Shielded: the tokens are kept, so that the list must name them.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                if secret is None:
                    await storage.delete(secret_key(server))
                else:
                    await storage.save(secret_key(server), secret)
                await book.add(server, login)
                if earlier is not None and earlier.place != login.place:
                    old = book.open_storage(earlier.place)
                    await old.delete(secret_key(server))
                    await make_oauth(earlier, old, None, None).log_out(url, revoke=False)
    assert keeper.grant is not None, "otherwise the flow has raised"
    print_note(f"Logged in to {server} {describe_grant(keeper.grant)}.")
    return SUCCEEDED


def describe_grant(grant: Grant) -> str:
    """By whom and for what tokens were given, on one line."""
    scopes = grant.tokens.scopes
    told = "" if scopes is None else f", scopes: {' '.join(sorted(scopes)) or 'none'}"
    return one_line(f"at {grant.issuer} as the client {grant.client_id}{told}")


async def _log_in_unasked(keeper: TokenKeeper, url: str) -> None:
    """Get tokens for a server that lets in clients without one, perhaps not for everything; checkpoints."""
    try:
        await keeper.answer(Refusal(401, {}, {}, "POST", url))
    except AuthorizationError as error:
        raise CommandError(f"{url} lets everybody in, and nobody gives tokens for it: {error}") from None


@attrs.frozen
class _NewTokens:
    """A `TokenStorage` in which the tokens under one key are not found before they are saved through it.

    So the user is asked anew, and tokens of before stay until then.
    """

    _storage: TokenStorage
    _key: str
    _saved: set[str] = attrs.field(factory=set, init=False)

    async def load(self, key: str) -> str | None:
        if key == self._key and key not in self._saved:
            await trio.lowlevel.checkpoint()
            return None
        return await self._storage.load(key)

    async def save(self, key: str, value: str) -> None:
        await self._storage.save(key, value)
        self._saved.add(key)

    async def delete(self, key: str) -> None:
        await self._storage.delete(key)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        return self._storage.lock(key)
