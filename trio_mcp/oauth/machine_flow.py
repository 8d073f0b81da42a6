"""Tokens without a person: discovery, and one request to a token endpoint, whatever the grant.

Owns what such grants have in common, and to which authorization server their credentials belong. Refuses to
know the single grants, each of which only writes the fields of its request.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_authentication import AuthenticatedForm
from trio_mcp.oauth.discovery import (
    Discovery,
    choose_issuer,
    choose_scopes,
    discover_issuer,
    discover_resource,
    require_endpoint,
)
from trio_mcp.oauth.requests import OAuthAnswer, post_form
from trio_mcp.oauth.token_keeper import Grant, TokenKeeper, make_prover
from trio_mcp.oauth.token_set import read_tokens, write_scopes
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.wire.authorization import AuthorizationServerMetadata, Challenge, canonical_resource

if TYPE_CHECKING:
    from trio_mcp.oauth.dpop import DpopProver, Rewrite

TOKEN_ENDPOINT: Final = "the token endpoint"


class GrantRequest(Protocol):
    """What one grant sends to the token endpoint."""

    @property
    def client_id(self) -> str:
        """The client to which the tokens belong; empty if it has no id."""

    @property
    def is_bound(self) -> bool:
        """Whether what is sent belongs to one authorization server, and must not be had by another."""

    async def write(
        self, metadata: AuthorizationServerMetadata, resource: str, scopes: frozenset[str] | None
    ) -> AuthenticatedForm:
        """The grant's own fields, with the client's authentication; checkpoints.

        Raises AuthorizationError.
        """


def _read_scopes_option(scopes: Collection[str] | None) -> frozenset[str] | None:
    if isinstance(scopes, str):
        raise TypeError("scopes= is a collection of scopes, not one text")
    return None if scopes is None else frozenset(scopes)


@attrs.define(kw_only=True, eq=False)
class MachineOptions:
    """What every grant without a person takes; its public class explains each.

    Raises TypeError for scopes that are one text, ValueError for a `dpop` that there is not.
    """

    scopes: frozenset[str] | None = attrs.field(converter=_read_scopes_option)
    issuer: str | None
    allow_private: bool
    ssl_context: ssl.SSLContext | None = attrs.field(repr=False)
    now: Callable[[], float] = attrs.field(repr=False)
    dpop: bool | str

    def __attrs_post_init__(self) -> None:
        make_prover(self.dpop, self.now)  # tries it

    def bind(self, issuer: str) -> None:
        """Let only `issuer` have the credentials from now on; raises AuthorizationError for another.

        Otherwise any server could have them sent to an authorization server of its own.
        """
        if self.issuer not in (None, issuer):
            raise AuthorizationError(
                f"the credentials are for {self.issuer}, and are not sent to {issuer}", issuer=issuer
            )
        self.issuer = issuer


class MachineAuthorization:
    """What `auth=` of a client takes for a grant without a person: the one keeper of each server."""

    def __init__(self, request: GrantRequest, options: MachineOptions) -> None:
        self._request = request
        self._options = options
        self._keepers: dict[str, TokenKeeper] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._describe()}with tokens for {len(self._keepers)} servers>"

    def _describe(self) -> str:
        """Whose tokens these are, and a blank; nothing if it cannot be said in short."""
        return ""

    def for_server(self, url: str, ssl_context: ssl.SSLContext | None) -> TokenKeeper:
        """What gives the requests to the server at `url` their token; one for all its clients.

        Raises ValueError if it is no URL of a server.
        """
        server, options = canonical_resource(url), self._options
        keeper = self._keepers.get(server)
        if keeper is None:
            policy = UrlPolicy.for_server(
                server, allow_private=options.allow_private, ssl_context=options.ssl_context or ssl_context
            )
            prover = make_prover(options.dpop, options.now)
            flow = MachineFlow(server, self._request, options, policy, prover)
            # Nothing is stored: a token is had again for the asking.
            keeper = self._keepers[server] = TokenKeeper(server, flow, None, "", options.now, prover)
        return keeper


class MachineFlow:
    """A `TokenSource` that needs no person, for the server at `url`."""

    def __init__(
        self,
        url: str,
        request: GrantRequest,
        options: MachineOptions,
        policy: UrlPolicy,
        prover: DpopProver | None,
    ) -> None:
        self._url = url
        self._request = request
        self._options = options
        self._policy = policy
        self._prover = prover
        self._discovery: Discovery | None = None

    def __repr__(self) -> str:
        return f"<MachineFlow for {self._url}>"

    async def find_issuer(self, challenge: Challenge | None, known: str | None) -> str:
        """The authorization server that is responsible now; checkpoints. Raises AuthorizationError."""
        self._discovery = await discover_resource(self._url, challenge, self._policy)
        return choose_issuer(self._discovery, self._options.issuer, known)

    async def obtain(self, challenge: Challenge | None, known: Grant | None, extra: frozenset[str]) -> Grant:
        """Ask the token endpoint; checkpoints. Raises AuthorizationError.

        It is asked once: a refusal has a reason that another try, or another grant, does not change.
        """
        assert self._discovery is not None, "the issuer is found first"
        issuer = choose_issuer(self._discovery, self._options.issuer, None if known is None else known.issuer)
        if self._request.is_bound:
            self._options.bind(issuer)
        metadata = await discover_issuer(issuer, self._policy)
        url = require_endpoint(metadata.token_endpoint, "token endpoint", issuer, self._policy)
        if self._prover is not None:
            self._prover.require_supported(metadata)
        before = None if known is None else known.asked
        scopes = choose_scopes(self._discovery, challenge, self._options.scopes, before, extra)
        resource = self._discovery.resource
        answer = await self._post(url, partial(self._write, metadata, resource, scopes))
        tokens = read_tokens(
            answer,
            now=self._options.now(),
            asked=scopes,
            issuer=issuer,
            token_types=("bearer",) if self._prover is None else ("dpop",),
        )
        # A refresh token would be one more secret, and is worth no more than the credentials themselves.
        tokens = attrs.evolve(tokens, refresh_token=None)
        return Grant(tokens, issuer, self._request.client_id, resource, scopes)

    async def refresh(self, grant: Grant) -> Grant | None:
        """There is no refresh token."""
        raise AssertionError("tokens of this grant have none")

    async def _write(
        self, metadata: AuthorizationServerMetadata, resource: str, scopes: frozenset[str] | None
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The fields and headers of a request."""
        form = await self._request.write(metadata, resource, scopes)
        fields = {**form.fields, "resource": resource}
        if scopes is not None:
            fields["scope"] = write_scopes(scopes)
        return fields, form.headers

    async def _post(self, url: str, write: Rewrite) -> OAuthAnswer:
        fields, headers = await write()
        if self._prover is None:
            return await post_form(url, fields, headers=headers, policy=self._policy, what=TOKEN_ENDPOINT)
        return await self._prover.post_form(
            url, fields, headers=headers, policy=self._policy, what=TOKEN_ENDPOINT, rewrite=write
        )
