"""The answer of the token endpoint: an access token, and what comes with it.

Owns the claims of access tokens (RFC 9068) and ID tokens (OpenID Connect Core 1.0, section 2), and the
audience of an access token. Refuses to know why a token is granted.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

from trio_mcp.testing.authorization.clients import REFRESH, OAuthClient
from trio_mcp.testing.authorization.exchange import Answer, answer_json
from trio_mcp.testing.authorization.faults import replace_members
from trio_mcp.testing.authorization.grants import Grant
from trio_mcp.testing.authorization.state import AuthorizationState


def issue_tokens(
    state: AuthorizationState,
    grant: Grant,
    client: OAuthClient,
    *,
    scopes: Collection[str] | None = None,
    resources: tuple[str, ...] | None = None,
    thumbprint: str | None,
    can_refresh: bool = True,
) -> Answer:
    """Issue an access token for `resources`, bound to the key with this thumbprint if there is one.

    Without `scopes` or `resources` it has those of the grant.
    A refresh token comes with it if the client has registered for that and `can_refresh`, and an ID token if
    "openid" was granted to a user.
    """
    scopes = grant.scopes if scopes is None else scopes
    resources = grant.resources if resources is None else resources
    settings = state.settings
    expires_at = state.now() + settings.access_token_seconds
    claims = describe_access(
        state, grant, scopes=scopes, resources=resources, thumbprint=thumbprint, expires_at=expires_at
    )
    token = secrets.token_urlsafe(32) if settings.opaque_tokens else state.keys.sign(claims, "at+jwt")
    state.grants.remember(token, grant, claims, expires_at)
    members: dict[str, Any] = {
        "access_token": token,
        "token_type": "Bearer" if thumbprint is None else "DPoP",
        "expires_in": int(settings.access_token_seconds),
        "scope": claims.get("scope"),
    }
    if can_refresh and settings.refresh_tokens and REFRESH in client.grant_types:
        members["refresh_token"] = state.grants.make_refresh_token(grant, settings.refresh_token_seconds)
    if can_refresh and "openid" in scopes:
        members["id_token"] = _make_id_token(state, grant)
    return answer_json(replace_members(members, state.faults.token))


def describe_access(
    state: AuthorizationState,
    grant: Grant,
    *,
    scopes: Collection[str],
    resources: tuple[str, ...],
    thumbprint: str | None,
    expires_at: float,
) -> dict[str, Any]:
    """The claims of an access token (RFC 9068, section 2.2); without a resource it is for the issuer."""
    now = int(state.now())
    user = state.find_user(grant.subject)
    claims: dict[str, Any] = {
        **(user.claims if user is not None else {}),
        "iss": state.issuer,
        "sub": grant.subject,
        "aud": list(resources) if len(resources) > 1 else (resources or (state.issuer,))[0],
        "client_id": grant.client_id,
        "iat": now,
        "nbf": now,
        "exp": int(expires_at),
        "jti": secrets.token_urlsafe(12),
        "token_type": "Bearer" if thumbprint is None else "DPoP",
    }
    if scopes:
        claims["scope"] = " ".join(sorted(scopes))
    if user is not None:
        claims["auth_time"] = int(grant.auth_time)
    if thumbprint is not None:
        claims["cnf"] = {"jkt": thumbprint}
    return claims


def _make_id_token(state: AuthorizationState, grant: Grant) -> str:
    now = int(state.now())
    user = state.find_user(grant.subject)
    claims: dict[str, Any] = {
        **(user.claims if user is not None else {}),
        "iss": state.issuer,
        "sub": grant.subject,
        "aud": grant.client_id,
        "iat": now,
        "exp": int(now + state.settings.access_token_seconds),
        "auth_time": int(grant.auth_time),
    }
    if grant.nonce is not None:
        claims["nonce"] = grant.nonce
    return state.keys.sign(claims)
