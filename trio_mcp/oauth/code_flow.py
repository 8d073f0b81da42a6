"""The authorization code flow for one server: discovery, registration, the user's consent, the tokens.

Owns the order of its steps and what is asked for (MCP authorization, "Authorization Flow Steps"). Refuses to
know when tokens are needed, which a `TokenKeeper` does.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import attrs
import trio

from trio_mcp.errors import AuthorizationDenied, AuthorizationError
from trio_mcp.oauth.callback import read_callback
from trio_mcp.oauth.client_identity import ClientIdentity
from trio_mcp.oauth.client_options import ClientOptions, Receiver
from trio_mcp.oauth.discovery import (
    Discovery,
    choose_issuer,
    choose_scopes,
    discover_issuer,
    discover_resource,
    require_endpoint,
)
from trio_mcp.oauth.pkce import ProofKey
from trio_mcp.oauth.registration import ClientRegistration
from trio_mcp.oauth.requests import OAuthAnswer, post_form
from trio_mcp.oauth.revocation import revoke
from trio_mcp.oauth.storage import TokenStorage
from trio_mcp.oauth.token_keeper import Grant
from trio_mcp.oauth.token_set import TokenSet, read_tokens, write_scopes
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.wire.authorization import AuthorizationServerMetadata, Challenge

if TYPE_CHECKING:
    from trio_mcp.oauth.dpop import DpopProver

OFFLINE_ACCESS: Final = "offline_access"
"""The scope by which some authorization servers are asked for a refresh token."""

INVALID_CLIENT: Final = "invalid_client"
_CLIENT_GONE: Final = frozenset({INVALID_CLIENT, "unauthorized_client"})
_REFRESH_GONE: Final = _CLIENT_GONE | {"invalid_grant", "invalid_scope", "invalid_target"}


class CodeFlow:
    """A `TokenSource` by the authorization code flow, for the server at `url`."""

    def __init__(
        self,
        url: str,
        options: ClientOptions,
        policy: UrlPolicy,
        storage: TokenStorage | None,
        prover: DpopProver | None = None,
    ) -> None:
        self._url = url
        self._options = options
        self._policy = policy
        self._prover = prover
        self.client = ClientIdentity(url, options, policy, storage)
        """Who the client is at each authorization server."""
        self._discovery: Discovery | None = None
        self._issuers: dict[str, AuthorizationServerMetadata] = {}

    def __repr__(self) -> str:
        return f"<CodeFlow for {self._url}>"

    async def find_issuer(self, challenge: Challenge | None, known: str | None) -> str:
        """The authorization server that is responsible now; checkpoints. Raises AuthorizationError."""
        self._discovery = await discover_resource(self._url, challenge, self._policy)
        return choose_issuer(self._discovery, self._options.issuer, known)

    async def obtain(self, challenge: Challenge | None, known: Grant | None, extra: frozenset[str]) -> Grant:
        """Let the user authorize the client; checkpoints. Raises AuthorizationError."""
        assert self._discovery is not None, "the issuer is found first"
        issuer = choose_issuer(self._discovery, self._options.issuer, None if known is None else known.issuer)
        metadata = self._issuers[issuer] = await discover_issuer(issuer, self._policy)
        self._require_code_flow(metadata)
        before = None if known is None else known.asked
        scopes = choose_scopes(self._discovery, challenge, self._options.scopes, before, extra)
        if scopes is not None and OFFLINE_ACCESS in (metadata.scopes_supported or ()):
            scopes |= {OFFLINE_ACCESS}
        state = secrets.token_urlsafe(32)
        try:
            async with self._open_receiver(state) as receiver:
                registration = await self.client.find(metadata, receiver.uri, scopes)
                proof = ProofKey()
                url = self._write_request(metadata, registration, receiver.uri, state, proof, scopes)
                query = await self._ask_user(url, receiver, issuer)
                code = read_callback(query, state, metadata)
                grant = await self._redeem(metadata, registration, receiver.uri, code, proof, scopes)
                await self.client.keep(issuer, registration)
                return grant
        except OSError as error:
            raise AuthorizationError(
                f"the answer of {issuer} cannot be received here: {error}", issuer=issuer
            ) from error

    async def refresh(self, grant: Grant) -> Grant | None:
        """Get tokens by the refresh token; None if it is not good any more. Checkpoints.

        Raises AuthorizationError if the authorization server cannot be asked.
        """
        metadata = await self._find_metadata(grant.issuer)
        registration = await self.client.find_known(metadata, grant.client_id)
        if registration is None or registration.client_id != grant.client_id:
            return None  # the token belongs to a client that this one is not any more
        fields = {
            "grant_type": "refresh_token",
            "refresh_token": grant.tokens.refresh_token or "",
            "resource": grant.resource,
        }
        answer = await self._post_token(metadata, registration, fields)
        tokens = self._read(answer, metadata, grant.tokens.scopes)
        if isinstance(tokens, AuthorizationError):
            if tokens.error in _CLIENT_GONE:
                await self.client.forget(metadata.issuer)
            if tokens.error in _REFRESH_GONE:
                return None
            raise tokens
        if tokens.refresh_token is None:  # the old one stays good (RFC 6749, 6)
            tokens = attrs.evolve(tokens, refresh_token=grant.tokens.refresh_token)
        return attrs.evolve(grant, tokens=tokens)

    async def revoke(self, grant: Grant) -> bool:
        """End the tokens at their issuer (RFC 7009); False if it does not offer that. Checkpoints.

        Raises AuthorizationError if the authorization server cannot be asked, or refuses.
        """
        metadata = await self._find_metadata(grant.issuer)
        registration = await self.client.find_known(metadata, grant.client_id)
        return registration is not None and await revoke(grant.tokens, metadata, registration, self._policy)

    async def _find_metadata(self, issuer: str) -> AuthorizationServerMetadata:
        """What an authorization server says about itself, as it was last read; checkpoints if it was not."""
        metadata = self._issuers.get(issuer)
        if metadata is None:
            metadata = self._issuers[issuer] = await discover_issuer(issuer, self._policy)
        return metadata

    # What is asked for.

    def _require_code_flow(self, metadata: AuthorizationServerMetadata) -> None:
        issuer = metadata.issuer
        require_endpoint(metadata.authorization_endpoint, "authorization endpoint", issuer, self._policy)
        require_endpoint(metadata.token_endpoint, "token endpoint", issuer, self._policy)
        if "S256" not in (metadata.code_challenge_methods_supported or ()):
            raise AuthorizationError(
                f"{issuer} does not say that it supports PKCE with S256, without which codes can be stolen",
                issuer=issuer,
            )
        if self._prover is not None:
            self._prover.require_supported(metadata)

    def _write_request(
        self,
        metadata: AuthorizationServerMetadata,
        registration: ClientRegistration,
        redirect_uri: str,
        state: str,
        proof: ProofKey,
        scopes: frozenset[str] | None,
    ) -> str:
        """The URL that the user is sent to."""
        assert self._discovery is not None, "the issuer is found first"
        assert metadata.authorization_endpoint is not None, "it is required before"
        fields = {
            "response_type": "code",
            "client_id": registration.client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": proof.challenge,
            "code_challenge_method": "S256",
            "resource": self._discovery.resource,
        }
        if scopes is not None:
            fields["scope"] = write_scopes(scopes)
            if OFFLINE_ACCESS in scopes:
                fields["prompt"] = "consent"  # without it the scope is ignored (OpenID Connect Core, 11)
        if self._prover is not None:
            fields["dpop_jkt"] = self._prover.key.thumbprint()  # the code is good with that key only
        endpoint = metadata.authorization_endpoint
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(fields)}"

    # The user.

    @asynccontextmanager
    async def _open_receiver(self, state: str) -> AsyncIterator[Receiver]:
        redirect = self._options.redirect
        if callable(redirect):
            assert self._options.redirect_uri is not None, "OAuth checks it"
            yield _Fetched(self._options.redirect_uri)
            return
        async with redirect.open_receiver(state) as receiver:
            yield receiver

    async def _ask_user(self, url: str, receiver: Receiver, issuer: str) -> str:
        """Take the user to `url`, and return the query with which they come back."""
        redirect = self._options.redirect
        with trio.move_on_after(self._options.timeout):
            if callable(redirect):
                return await redirect(url)
            await self._options.open_browser(url)
            return await receiver.wait_callback()
        raise AuthorizationDenied(
            f"nobody has let the client in at {issuer} within {self._options.timeout:g} seconds",
            issuer=issuer,
        )

    # The token endpoint.

    async def _redeem(
        self,
        metadata: AuthorizationServerMetadata,
        registration: ClientRegistration,
        redirect_uri: str,
        code: str,
        proof: ProofKey,
        scopes: frozenset[str] | None,
    ) -> Grant:
        """Exchange a code for tokens; checkpoints."""
        assert self._discovery is not None, "the issuer is found first"
        resource = self._discovery.resource
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": proof.verifier,
            "resource": resource,
        }
        answer = await self._post_token(metadata, registration, fields)
        tokens = self._read(answer, metadata, scopes)
        if isinstance(tokens, AuthorizationError):
            if tokens.error in _CLIENT_GONE:
                await self.client.forget(metadata.issuer)
            raise tokens
        key = None if self._prover is None else self._prover.key.dump()
        return Grant(tokens, metadata.issuer, registration.client_id, resource, scopes, key)

    async def _post_token(
        self, metadata: AuthorizationServerMetadata, registration: ClientRegistration, fields: dict[str, str]
    ) -> OAuthAnswer:
        url = require_endpoint(metadata.token_endpoint, "token endpoint", metadata.issuer, self._policy)
        proved, headers = registration.authenticate(fields)
        post = post_form if self._prover is None else self._prover.post_form
        return await post(url, proved, headers=headers, policy=self._policy, what="the token endpoint")

    def _read(
        self, answer: OAuthAnswer, metadata: AuthorizationServerMetadata, asked: frozenset[str] | None
    ) -> TokenSet | AuthorizationError:
        """The tokens in an answer, or why there are none."""
        try:
            return read_tokens(
                answer,
                now=self._options.now(),
                asked=asked,
                issuer=metadata.issuer,
                token_types=("bearer",) if self._prover is None else ("dpop",),
            )
        except AuthorizationError as error:
            return error


@attrs.frozen
class _Fetched:
    """The place of a receiver if the caller fetches the answer."""

    uri: str

    async def wait_callback(self) -> str:
        raise AssertionError("the caller's function returns the answer")
