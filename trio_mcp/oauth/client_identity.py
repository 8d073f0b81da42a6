"""Who a client is at each authorization server, for one server of MCP.

Owns the order of the three ways to a client id (MCP client registration), and what of it is kept. Refuses to
know grants and tokens.
"""

from __future__ import annotations

import trio

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_options import ClientOptions
from trio_mcp.oauth.registration import (
    ClientRegistration,
    choose_method,
    dump_registration,
    load_registration,
    register,
)
from trio_mcp.oauth.storage import TokenStorage
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.wire.authorization import AuthorizationServerMetadata


class ClientIdentity:
    """The registrations of a client that uses the server at `url`, by issuer. Every method checkpoints."""

    def __init__(
        self, url: str, options: ClientOptions, policy: UrlPolicy, storage: TokenStorage | None
    ) -> None:
        self._url = url
        self._options = options
        self._policy = policy
        self._storage = storage
        self._bound_to: str | None = options.issuer
        self._registrations: dict[str, ClientRegistration] = {}
        self._unused: dict[str, ClientRegistration] = {}  # registered, but no user has agreed to them yet

    def __repr__(self) -> str:
        return f"<ClientIdentity for {self._url}: {len(self._registrations)} registrations>"

    async def find_known(
        self, metadata: AuthorizationServerMetadata, client_id: str | None = None
    ) -> ClientRegistration | None:
        """Who the client is at an authorization server, if that is known already.

        If it was registered dynamically, by `client_id` if that is given: another process may have done it.
        Raises AuthorizationError if the client id was registered with another authorization server.
        """
        await trio.lowlevel.checkpoint()
        options, issuer = self._options, metadata.issuer
        if options.client_id is not None:
            if self._bound_to not in (None, issuer):
                raise AuthorizationError(
                    f"the client id was registered with {self._bound_to}, and is not for {issuer}",
                    issuer=issuer,
                )
            self._bound_to = issuer
            method = choose_method(metadata, has_secret=options.client_secret is not None)
            return ClientRegistration(options.client_id, options.client_secret, method)
        if options.client_metadata_url is not None and metadata.client_id_metadata_document_supported:
            return ClientRegistration(options.client_metadata_url)
        held = self._registrations.get(issuer)
        if self._storage is not None and (held is None or client_id not in (None, held.client_id)):
            text = await self._storage.load(self._key(issuer))
            kept = None if text is None else load_registration(text)
            if kept is not None:
                held = self._registrations[issuer] = kept
        return held

    async def find(
        self, metadata: AuthorizationServerMetadata, redirect_uri: str, scopes: frozenset[str] | None
    ) -> ClientRegistration:
        """Who the client is at an authorization server, registered there if need be.

        Raises AuthorizationError if it has no id there, and gets none.
        """
        issuer, options = metadata.issuer, self._options
        for known in (await self.find_known(metadata), self._unused.get(issuer)):
            if known is not None and known.serves(redirect_uri, options.now()):
                return known
        if metadata.registration_endpoint is None:
            raise AuthorizationError(
                f"{issuer} registers no clients by itself: register one there, and give its client_id"
                f"{', or a client_metadata_url' if metadata.client_id_metadata_document_supported else ''}",
                issuer=issuer,
            )
        registration = await register(metadata, redirect_uri, scopes, options.client_name, self._policy)
        self._unused[issuer] = registration
        return registration

    async def keep(self, issuer: str, registration: ClientRegistration) -> None:
        """Keep a registration to which the user has agreed, in place of the one before."""
        await trio.lowlevel.checkpoint()
        self._unused.pop(issuer, None)
        if not registration.is_dynamic or self._registrations.get(issuer) == registration:
            return
        self._registrations[issuer] = registration
        if self._storage is not None:
            await self._storage.save(self._key(issuer), dump_registration(registration))

    async def forget(self, issuer: str) -> None:
        """Drop what the client was registered as, here and in the storage."""
        await trio.lowlevel.checkpoint()
        self._unused.pop(issuer, None)
        self._registrations.pop(issuer, None)
        if self._storage is not None:
            await self._storage.delete(self._key(issuer))

    def _key(self, issuer: str) -> str:
        # With the server: a client that registers anew for one server must not end the tokens for another.
        return f"client {issuer} {self._url}"
