"""What was granted, and the codes and tokens that came of it.

Owns their life: a code is good once, a refresh token too, and whoever uses one again loses the whole grant
(OAuth 2.1, sections 4.1.3 and 4.3.1). Refuses to know HTTP, and keeps no code or token in clear.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import attrs

from trio_mcp.testing.authorization.exchange import OAuthProblem
from trio_mcp.testing.authorization.recent import Recent


@attrs.define(kw_only=True)
class Grant:
    """What `subject` has granted to a client, with all codes and tokens that come of it.

    `thumbprint` is that of the key to which the refresh tokens of a public client are bound (RFC 9449,
    section 5).
    """

    client_id: str
    subject: str
    scopes: frozenset[str]
    resources: tuple[str, ...] = ()
    auth_time: float = 0.0
    thumbprint: str | None = None
    nonce: str | None = attrs.field(default=None, repr=False)
    is_revoked: bool = False


@attrs.define(kw_only=True)
class Code:
    """An authorization code that was handed out; `challenge` is that of PKCE, by S256.

    `redirect_uri` is the one that the request has named, or None.
    """

    grant: Grant
    redirect_uri: str | None
    challenge: str = attrs.field(repr=False)
    expires_at: float
    is_used: bool = False


@attrs.define(kw_only=True)
class RefreshToken:
    """A refresh token that was handed out."""

    grant: Grant
    expires_at: float
    is_used: bool = False


@attrs.define(kw_only=True)
class AccessToken:
    """An access token that was handed out, with what introspection says about it."""

    grant: Grant
    claims: Mapping[str, Any] = attrs.field(repr=False)
    expires_at: float
    is_revoked: bool = False


def digest(secret: str) -> str:
    """The name under which a secret is remembered."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class GrantBook:
    """The codes and tokens that were handed out; `now` is the Unix time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._codes: Recent[Code] = Recent()
        self._refresh: Recent[RefreshToken] = Recent()
        self._access: Recent[AccessToken] = Recent()

    def __repr__(self) -> str:
        return (
            f"<GrantBook: {len(self._codes)} codes, {len(self._refresh)} refresh tokens, "
            f"{len(self._access)} access tokens>"
        )

    def make_code(self, grant: Grant, redirect_uri: str | None, challenge: str, seconds: float) -> str:
        """Make an authorization code that is good for so many seconds."""
        code = secrets.token_urlsafe(32)
        expires_at = self._now() + seconds
        self._codes.put(
            digest(code),
            Code(grant=grant, redirect_uri=redirect_uri, challenge=challenge, expires_at=expires_at),
        )
        return code

    def use_code(self, code: str, client_id: str) -> Code:
        """Use a code up; raises OAuthProblem if it is not good. A code that is used again ends its grant."""
        found = self._codes.get(digest(code))
        if found is None or found.grant.client_id != client_id:
            raise OAuthProblem("invalid_grant", "the code is unknown, or was issued to another client")
        if found.is_used:
            found.grant.is_revoked = True
            raise OAuthProblem("invalid_grant", "the code was used before, so its grant is revoked")
        found.is_used = True
        if found.expires_at <= self._now() or found.grant.is_revoked:
            raise OAuthProblem("invalid_grant", "the code has expired")
        return found

    def make_refresh_token(self, grant: Grant, seconds: float) -> str:
        """Make a refresh token that is good for so many seconds."""
        token = secrets.token_urlsafe(32)
        self._refresh.put(digest(token), RefreshToken(grant=grant, expires_at=self._now() + seconds))
        return token

    def find_refresh_token(self, token: str, client_id: str) -> RefreshToken:
        """A good refresh token; raises OAuthProblem if it is not. One that was used before ends its grant."""
        found = self._refresh.get(digest(token))
        if found is None or found.grant.client_id != client_id:
            raise OAuthProblem(
                "invalid_grant", "the refresh token is unknown, or was issued to another client"
            )
        if found.is_used:
            found.grant.is_revoked = True
            raise OAuthProblem("invalid_grant", "the refresh token was used before, so its grant is revoked")
        if found.expires_at <= self._now() or found.grant.is_revoked:
            raise OAuthProblem("invalid_grant", "the refresh token has expired or was revoked")
        return found

    def remember(self, token: str, grant: Grant, claims: Mapping[str, Any], expires_at: float) -> None:
        """Remember an access token that is handed out."""
        self._access.put(digest(token), AccessToken(grant=grant, claims=claims, expires_at=expires_at))

    def describe(self, token: str) -> Mapping[str, Any]:
        """What introspection says about a token (RFC 7662, section 2.2)."""
        access = self._access.get(digest(token))
        if access is not None:
            if access.is_revoked or access.grant.is_revoked or access.expires_at <= self._now():
                return {"active": False}
            return {"active": True, **access.claims}
        refresh = self._refresh.get(digest(token))
        if refresh is None or refresh.is_used or refresh.grant.is_revoked:
            return {"active": False}
        if refresh.expires_at <= self._now():
            return {"active": False}
        grant = refresh.grant
        return {
            "active": True,
            "client_id": grant.client_id,
            "sub": grant.subject,
            "scope": " ".join(sorted(grant.scopes)),
            "exp": int(refresh.expires_at),
        }

    def revoke(self, token: str, client_id: str) -> None:
        """Revoke a token of this client (RFC 7009, section 2.1); with a refresh token goes its grant."""
        access = self._access.get(digest(token))
        if access is not None and access.grant.client_id == client_id:
            access.is_revoked = True
        refresh = self._refresh.get(digest(token))
        if refresh is not None and refresh.grant.client_id == client_id:
            refresh.grant.is_revoked = True

    def revoke_subject(self, subject: str) -> None:
        """Revoke all that this user has granted."""
        for issued in (*self._codes, *self._refresh, *self._access):
            if issued.grant.subject == subject:
                issued.grant.is_revoked = True
