"""`ClientCredentials`: tokens for a program that acts for itself (OAuth 2.1, 4.2).

Owns the grant and its options. Refuses to know discovery, and when a token is needed.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final

import attrs

from trio_mcp.oauth.client_authentication import (
    AuthenticatedForm,
    ClientAuthentication,
    make_authentication,
)
from trio_mcp.oauth.machine_flow import MachineAuthorization, MachineOptions
from trio_mcp.wire.authorization import AuthorizationServerMetadata

if TYPE_CHECKING:
    from trio_mcp.oauth.signing_key import KeyMaterial

GRANT_TYPE: Final = "client_credentials"


@attrs.frozen
class _Request:
    _client: ClientAuthentication

    @property
    def client_id(self) -> str:
        return self._client.client_id

    @property
    def is_bound(self) -> bool:
        return True

    async def write(
        self, metadata: AuthorizationServerMetadata, resource: str, scopes: frozenset[str] | None
    ) -> AuthenticatedForm:
        return await self._client.authenticate({"grant_type": GRANT_TYPE}, metadata)


class ClientCredentials(MachineAuthorization):
    """Tokens for a program that acts for itself, by its own credentials; no person is asked.

    It is what `open_client(url, auth=...)` takes, for any number of clients of one Trio run; of many calls
    that meet an expired token, one gets another. Calls raise AuthorizationError if none is got. (MCP
    extension OAuth Client Credentials; RFC 6749, 4.4.)

    The client `client_id` was registered with the authorization server, with a `client_secret` or with the
    public part of `private_key`. A private key is an unencrypted PEM or a JWK, or an async function that
    takes the audience and returns a signed assertion, for a key that stays in a vault (RFC 7523, 2.2). It
    signs with `algorithm` under `key_id`; by default the algorithm follows from the key and from what the
    server accepts. `auth_method` is "client_secret_basic" or "client_secret_post"; by default one that the
    server takes.

    `issuer` is the URL of the authorization server to which the credentials belong. Without it they are bound
    to the first that a server names, so give it unless you trust the server as much as them. `scopes` are
    asked for beside those that the server wants. With `allow_private` a server may name addresses of the
    client's own network. `ssl_context` says which certificates the authorization server may have, by default
    those that the client accepts of the server. With `dpop` every token is bound to a key that is made for
    it, so that nobody else can use it (RFC 9449; extra `auth`); a text is the algorithm of the key, by
    default "ES256". `now` is the clock by which tokens expire, in Unix seconds.

    Raises ValueError or TypeError for options that make no sense. `extension` is the extension of MCP that a
    client declares with it.
    """

    extension: Final = "io.modelcontextprotocol/oauth-client-credentials"

    def __init__(
        self,
        client_id: str,
        client_secret: str | None = None,
        *,
        private_key: KeyMaterial | Callable[[str], Awaitable[str]] | None = None,
        algorithm: str | None = None,
        key_id: str | None = None,
        auth_method: str | None = None,
        scopes: Collection[str] | None = None,
        issuer: str | None = None,
        allow_private: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        dpop: bool | str = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        if client_secret is None and private_key is None:
            raise TypeError("a client_secret= or a private_key= is needed")
        client = make_authentication(
            client_id,
            client_secret=client_secret,
            private_key=private_key,
            algorithm=algorithm,
            key_id=key_id,
            method=auth_method,
        )
        options = MachineOptions(
            scopes=scopes,
            issuer=issuer,
            allow_private=allow_private,
            ssl_context=ssl_context,
            now=now,
            dpop=dpop,
        )
        self._client_id = client_id
        super().__init__(_Request(client), options)

    def _describe(self) -> str:
        return f"of {self._client_id!r} "
