"""`OAuth`: what a client gives as `auth` so that its user is asked to let it in.

Owns the options and their checks, and the one keeper of each server. Refuses to know the steps of a flow.
"""

from __future__ import annotations

import ssl
import sys
import time
import webbrowser
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import urlsplit

import trio

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_options import ClientOptions, FetchCallback, OpenBrowser, Redirect
from trio_mcp.oauth.code_flow import CodeFlow
from trio_mcp.oauth.loopback import LoopbackRedirect
from trio_mcp.oauth.storage import TokenStorage
from trio_mcp.oauth.token_keeper import TokenKeeper, make_prover
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.validators import require_seconds
from trio_mcp.wire.authorization import canonical_resource

USER_SECONDS: Final = 300.0
"""How long the user may take to log in and to agree."""


async def open_in_browser(url: str) -> None:
    """Show the user a URL in the browser of the system, and on stderr if there is none; checkpoints."""
    # Abandoned: some browsers stay in the foreground of the terminal.
    if not await trio.to_thread.run_sync(webbrowser.open, url, abandon_on_cancel=True):
        sys.stderr.write(f"Open this address to let the program in:\n{url}\n")
        sys.stderr.flush()


class OAuth:
    """Tokens by the user's consent: the authorization code flow of OAuth 2.1 with PKCE (MCP authorization).

    It is what `open_client(url, auth=...)` takes, for any number of clients of one Trio run. Each server has
    one token in it: of many calls that meet an expired token, one renews it. Nothing happens before a server
    asks for a token; then the calls wait for the user, and raise AuthorizationError if no token is got, or
    TokenStorageError if the storage cannot be used.

    `client_id` is that of a client that was registered beforehand, with its `client_secret` if it has one;
    it is used with one authorization server only, `issuer` if that is given. `client_metadata_url` is an
    https URL with the client's metadata document, which is its id wherever that is supported. Without either
    the client registers itself as `client_name` (RFC 7591). `issuer` is the URL of the only authorization
    server that is trusted; by default it is the one that the server names.

    `scopes` are asked for beside those that the server wants. `storage` keeps tokens and registrations
    between runs, such as a `FileStorage`; by default they are kept in memory. `open_browser` is an async
    function that shows the user a URL; by default it opens the browser of the system. `redirect` receives the
    answer, by default a `LoopbackRedirect()` on a free port of this machine; or it is an async function that
    takes the URL of the request, shows it to the user, and returns the query of the URL to which that leads
    back, which is `redirect_uri`. The user has `timeout` seconds, during which the timeouts of calls stand
    still.

    With `dpop` every token is bound to a key that is made for it and kept with it, so that nobody else can
    use it (RFC 9449; extra `auth`); a text is the algorithm of the key, by default "ES256".

    A server may not name addresses of the client's own network, unless it is there itself, or with
    `allow_private`; then plain http is allowed to private addresses as well. `ssl_context` says which
    certificates the authorization server may have, by default those that the client accepts of the server.
    `now` is the clock by which tokens expire, in Unix seconds.

    Raises ValueError or TypeError for options that make no sense.
    """

    def __init__(
        self,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        client_metadata_url: str | None = None,
        client_name: str = "trio_mcp",
        scopes: Collection[str] | None = None,
        issuer: str | None = None,
        storage: TokenStorage | None = None,
        redirect: Redirect | FetchCallback | None = None,
        redirect_uri: str | None = None,
        open_browser: OpenBrowser = open_in_browser,
        timeout: float = USER_SECONDS,
        dpop: bool | str = False,
        allow_private: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if client_secret is not None and client_id is None:
            raise TypeError("client_secret= belongs to a client_id=, which is not given")
        if isinstance(scopes, str):
            raise TypeError("scopes= is a collection of scopes, not one text")
        if client_metadata_url is not None:
            parts = urlsplit(client_metadata_url)
            if parts.scheme != "https" or not parts.netloc or parts.path in ("", "/"):
                raise ValueError("client_metadata_url= must be an https:// URL with a path")
        redirect = LoopbackRedirect() if redirect is None else redirect
        if callable(redirect) != (redirect_uri is not None):
            raise TypeError("redirect_uri= belongs to a function as redirect=, and a function needs it")
        require_seconds("timeout", timeout)
        self._options = ClientOptions(
            client_id=client_id,
            client_secret=client_secret,
            client_metadata_url=client_metadata_url,
            client_name=client_name,
            scopes=None if scopes is None else frozenset(scopes),
            issuer=issuer,
            redirect=redirect,
            redirect_uri=redirect_uri,
            open_browser=open_browser,
            timeout=timeout,
            now=now,
        )
        make_prover(dpop, now)  # tries it
        self._dpop = dpop
        self._storage = storage
        self._allow_private = allow_private
        self._ssl_context = ssl_context
        self._keepers: dict[str, TokenKeeper] = {}
        self._flows: dict[str, CodeFlow] = {}

    def __repr__(self) -> str:
        return f"<OAuth with tokens for {len(self._keepers)} servers>"

    def for_server(self, url: str, ssl_context: ssl.SSLContext | None) -> TokenKeeper:
        """What gives the requests to the server at `url` their token; one for all its clients.

        Raises ValueError if it is no URL of a server.
        """
        server = canonical_resource(url)
        keeper = self._keepers.get(server)
        if keeper is None:
            policy = UrlPolicy.for_server(
                server, allow_private=self._allow_private, ssl_context=self._ssl_context or ssl_context
            )
            prover = make_prover(self._dpop, self._options.now)
            flow = CodeFlow(server, self._options, policy, self._storage, prover)
            key = f"tokens {server}"
            keeper = TokenKeeper(server, flow, self._storage, key, self._options.now, prover)
            self._keepers[server], self._flows[server] = keeper, flow
        return keeper

    async def log_out(self, url: str, *, revoke: bool = True) -> bool:
        """Forget the tokens for the server at `url`, and the client that was registered for it; checkpoints.

        With `revoke` they are revoked before; False if they are not, because there are none, or their
        authorization server does not offer that (RFC 7009). Raises TokenStorageError, and AuthorizationError
        if that server cannot be asked or refuses, after all is forgotten.
        """
        keeper = self.for_server(url, None)
        grant = await keeper.forget()
        if grant is None:
            return False
        flow = self._flows[canonical_resource(url)]
        failure: AuthorizationError | None = None
        is_revoked = False
        try:
            is_revoked = revoke and await flow.revoke(grant)
        except AuthorizationError as error:
            failure = error
        await flow.client.forget(grant.issuer)
        if failure is not None:
            raise failure
        return is_revoked
