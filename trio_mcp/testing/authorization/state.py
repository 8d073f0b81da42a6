"""What the endpoints of one authorization server share.

Owns the settings, the users and the names of the endpoints. Refuses to know HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs

from trio_mcp.testing.authorization.clients import OAuthClient
from trio_mcp.testing.authorization.exchange import OAuthProblem
from trio_mcp.testing.authorization.faults import Faults
from trio_mcp.testing.authorization.grants import GrantBook
from trio_mcp.testing.authorization.jose import KeySet
from trio_mcp.testing.authorization.keys import SigningKeys
from trio_mcp.testing.authorization.recent import Recent

OPEN_SCOPES: Final = frozenset({"openid", "offline_access", "profile", "email"})
"""Scopes of OpenID Connect, which every server of this kind knows."""

ID_JAG: Final = "urn:ietf:params:oauth:token-type:id-jag"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"


def _set(value: Collection[str]) -> frozenset[str]:
    if isinstance(value, str):
        raise TypeError(f"this must be a collection of names, not one string: {value!r}")
    return frozenset(value)


def _optional_set(value: Collection[str] | None) -> frozenset[str] | None:
    return None if value is None else _set(value)


@attrs.frozen(kw_only=True)
class User:
    """A user of the authorization server; `scopes` None: may grant whatever is asked for."""

    subject: str
    password: str = attrs.field(default="", repr=False)
    scopes: frozenset[str] | None = attrs.field(default=None, converter=_optional_set)
    claims: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    """More claims of this user, for ID tokens and access tokens, such as "email"."""


@attrs.frozen(kw_only=True)
class AuthorizationSettings:
    """How an authorization server for development behaves. Times are in seconds."""

    users: tuple[User, ...] = attrs.field(
        default=(User(subject="alice", password="alice"), User(subject="bob", password="bob")),
        converter=tuple,
    )
    login_page: bool = False
    """Ask the user on a page; else the first user (or that of `login_hint`) grants whatever is asked for."""
    scopes_supported: frozenset[str] | None = attrs.field(default=None, converter=_optional_set)
    """None: any scope."""
    default_scopes: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    """What a client gets that asks for no scope."""
    resources: frozenset[str] | None = attrs.field(default=None, converter=_optional_set)
    """The resources for which tokens are issued; None: any."""
    registration: bool = True
    """Whether clients may register themselves (RFC 7591)."""
    strict_redirects: bool = False
    """Whether a client that registers without an `application_type` is a web application, as OpenID Connect
    has it, and so may not register a loopback address. Else it is a native one: older clients do not say."""
    strict_scopes: bool = False
    """Whether the `scope` of a registration limits its client (RFC 7591, section 2). The official SDK
    registers with what it asks for first, and could not get more for a tool that needs it."""
    client_documents: bool = True
    """Whether the URL of a metadata document may be the id of a client."""
    dpop: Literal["off", "supported", "required"] = "supported"
    dpop_nonce: bool = False
    """Whether a proof must hold a nonce of the server (RFC 9449, section 8)."""
    refresh_tokens: bool = True
    opaque_tokens: bool = False
    """Access tokens of random text, which only introspection can tell, instead of JSON Web Tokens."""
    code_seconds: float = 60.0
    access_token_seconds: float = 3600.0
    refresh_token_seconds: float = 14 * 86_400.0
    algorithm: str = "ES256"


@attrs.frozen
class SeenRequest:
    """A request that an endpoint has received; the values of its parameters may be secrets."""

    endpoint: str
    method: str
    parameters: Mapping[str, list[str]] = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)


FetchDocument = Callable[[str], Awaitable[bytes]]
"""Reads the metadata document of a client from its URL; raises OAuthProblem or OSError."""


@attrs.define(eq=False)
class AuthorizationState:
    """The live state of one authorization server."""

    issuer: str
    settings: AuthorizationSettings
    now: Callable[[], float]
    fetch_document: FetchDocument
    keys: SigningKeys
    grants: GrantBook
    faults: Faults = attrs.field(factory=Faults)
    clients: Recent[OAuthClient] = attrs.field(factory=Recent)
    trusted: dict[str, Callable[[], KeySet]] = attrs.field(factory=dict)
    """The issuers whose assertions are accepted, with their keys."""
    audience_clients: dict[tuple[str, str], str] = attrs.field(factory=dict)
    """What a client is called at another authorization server, by that server and the client's id here."""
    used_ids: Recent[float] = attrs.field(factory=Recent)
    """The ids (`jti`) of assertions and proofs that were accepted."""
    nonces: Recent[float] = attrs.field(factory=Recent)
    """The nonces that proofs may hold."""
    pages: Recent[Any] = attrs.field(factory=Recent)
    """The login pages that wait for their user."""
    seen: Recent[SeenRequest] = attrs.field(factory=lambda: Recent(1000))
    counts: Counter[str] = attrs.field(factory=Counter)

    @property
    def path(self) -> str:
        """The path of the issuer, without a slash at its end; "" if it has none."""
        return urlsplit(self.issuer).path.rstrip("/")

    def url(self, name: str) -> str:
        """The URL of an endpoint."""
        return f"{self.issuer.rstrip('/')}/{name}"

    def find_user(self, subject: str) -> User | None:
        """The user with this name, or None."""
        return next((user for user in self.settings.users if user.subject == subject), None)

    def use_id(self, owner: str, jti: object) -> bool:
        """Note that an assertion or proof with this id was accepted; False if one was before."""
        if not isinstance(jti, str) or not jti:
            return False
        key = f"{owner}\n{jti}"
        if self.used_ids.get(key) is not None:
            return False
        self.used_ids.put(key, self.now())
        return True

    def read_scopes(self, client: OAuthClient, requested: str | None) -> frozenset[str]:
        """The scopes that a client asks for; raises OAuthProblem if it may not have one of them."""
        if requested is None:
            return self.settings.default_scopes
        scopes = frozenset(requested.split())
        for allowed in (self.settings.scopes_supported, client.scopes):
            if allowed is not None and not scopes <= allowed | OPEN_SCOPES:
                raise OAuthProblem("invalid_scope", "a scope is unknown, or not allowed for this client")
        return scopes

    def read_resources(self, given: Collection[str]) -> tuple[str, ...]:
        """The resources that a client asks for (RFC 8707, section 2); raises OAuthProblem."""
        for resource in given:
            try:
                split = urlsplit(resource)
            except ValueError:
                raise OAuthProblem("invalid_target", "a resource is no URI") from None
            if not split.scheme or "#" in resource:
                raise OAuthProblem("invalid_target", "a resource must be an absolute URI without a fragment")
            if self.settings.resources is not None and resource not in self.settings.resources:
                raise OAuthProblem("invalid_target", "no tokens are issued for this resource")
        return tuple(dict.fromkeys(given))
