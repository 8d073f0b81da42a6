"""Which authorization server is responsible for a server, and what it says about itself.

Owns the order in which documents are looked for, and what in them is believed (MCP authorization server
discovery). Refuses to know grants and tokens.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

from trio_mcp.errors import DiscoveryError
from trio_mcp.oauth.requests import get_json
from trio_mcp.oauth.token_set import read_scopes
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.transports.http.address import parse_address
from trio_mcp.wire.authorization import (
    AuthorizationServerMetadata,
    Challenge,
    ProtectedResourceMetadata,
    authorization_server_urls,
    canonical_resource,
    protected_resource_urls,
    read_document,
    resource_covers,
)

MAX_SHOWN: Final = 5
"""How many authorization servers a message names."""


@attrs.frozen
class Discovery:
    """What is known of a server's authorization.

    `resource` is what tokens are to be for, and `scopes_supported` what the server's metadata names, None if
    it names none. `issuers` are the authorization servers that the server trusts, the preferred first.
    """

    resource: str
    issuers: tuple[str, ...]
    scopes_supported: frozenset[str] | None = None


async def discover_resource(server_url: str, challenge: Challenge | None, policy: UrlPolicy) -> Discovery:
    """Ask a server which authorization servers it trusts; checkpoints.

    The metadata is where `challenge` says, or else at a well-known place. A server without metadata is
    taken for its own authorization server, as in MCP 2025-03-26. Raises DiscoveryError, and
    AuthorizationError if nobody answers.
    """
    named = challenge.parameters.get("resource_metadata") if challenge is not None else None
    urls = (named,) if named else protected_resource_urls(server_url)
    for url in urls:
        answer = await get_json(url, policy=policy, what="the metadata of the server")
        if answer.is_success:
            return _read_resource(answer.body, server_url)
        if named or answer.status >= 500:
            raise DiscoveryError(f"the metadata of {server_url} was answered with {answer.status} at {url}")
    return Discovery(canonical_resource(server_url), (parse_address(server_url).origin,))


def _read_resource(body: bytes, server_url: str) -> Discovery:
    try:
        metadata = read_document(body, ProtectedResourceMetadata, f"the metadata of {server_url}")
    except ValueError as error:
        raise DiscoveryError(str(error)) from None
    if not resource_covers(metadata.resource, server_url):
        # Else a server could have us get tokens for another one (RFC 9728, 7.3).
        raise DiscoveryError(
            f"the metadata of {server_url} is that of {metadata.resource!r}, another resource"
        )
    if not metadata.authorization_servers:
        raise DiscoveryError(f"the metadata of {server_url} names no authorization server")
    scopes = metadata.scopes_supported
    return Discovery(
        metadata.resource,
        tuple(metadata.authorization_servers),
        None if scopes is None else frozenset(scopes),
    )


async def discover_issuer(issuer: str, policy: UrlPolicy) -> AuthorizationServerMetadata:
    """What the authorization server `issuer` says about itself; checkpoints.

    Raises DiscoveryError unless a document says that it is of exactly this issuer (RFC 8414, 3.3), and
    AuthorizationError if nobody answers.
    """
    try:
        urls = authorization_server_urls(issuer)
    except ValueError as error:
        raise DiscoveryError(f"there is no authorization server: {error}", issuer=issuer) from None
    statuses = []
    for url in urls:
        answer = await get_json(url, policy=policy, what="the metadata of the authorization server")
        if answer.is_success:
            return _read_issuer(answer.body, issuer)
        if answer.status >= 500:
            raise DiscoveryError(f"{issuer} answered {answer.status} for its metadata", issuer=issuer)
        statuses.append(str(answer.status))
    raise DiscoveryError(
        f"{issuer} has no metadata: it answered {', '.join(statuses)} at {', '.join(urls)}", issuer=issuer
    )


def _read_issuer(body: bytes, issuer: str) -> AuthorizationServerMetadata:
    try:
        metadata = read_document(body, AuthorizationServerMetadata, f"the metadata of {issuer}")
    except ValueError as error:
        raise DiscoveryError(str(error), issuer=issuer) from None
    if metadata.issuer != issuer:
        raise DiscoveryError(
            f"the metadata of {issuer!r} is that of {metadata.issuer!r}; the two must be equal to the letter",
            issuer=issuer,
        )
    return metadata


def choose_issuer(discovery: Discovery, pinned: str | None, known: str | None) -> str:
    """The authorization server to use: the `pinned` one, or one that is `known` from before, or the first.

    Raises DiscoveryError if the server does not trust the pinned one.
    """
    if pinned is not None:
        if pinned not in discovery.issuers:
            trusted = ", ".join(discovery.issuers[:MAX_SHOWN])
            raise DiscoveryError(f"the server trusts {trusted}, and not {pinned}", issuer=pinned)
        return pinned
    return known if known in discovery.issuers and known is not None else discovery.issuers[0]


def choose_scopes(
    discovery: Discovery, challenge: Challenge | None, *others: Collection[str] | None
) -> frozenset[str] | None:
    """The scopes to ask for: what a challenge, or else the server, says, and the `others` besides.

    None leaves the choice to the authorization server (MCP authorization, "Scope Selection Strategy").
    """
    needed = None if challenge is None else read_scopes(challenge.parameters.get("scope"))
    if needed is None:
        needed = discovery.scopes_supported
    return frozenset().union(needed or (), *(scopes or () for scopes in others)) or None


def require_endpoint(url: str | None, what: str, issuer: str, policy: UrlPolicy) -> str:
    """An endpoint of an authorization server; raises DiscoveryError if it has none that may be used."""
    if url is None:
        raise DiscoveryError(f"{issuer} has no {what}", issuer=issuer)
    policy.check(url, f"the {what}")
    return url
