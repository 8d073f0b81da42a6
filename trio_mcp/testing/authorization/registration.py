"""The registration endpoint: a client registers itself (RFC 7591).

Owns the checks of what it says about itself, and its credentials. Refuses to know grants.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.clients import (
    AUTH_METHODS,
    CODE,
    GRANT_TYPES,
    OAuthClient,
    find_redirect_flaw,
)
from trio_mcp.testing.authorization.exchange import Answer, OAuthProblem, Request, answer_json
from trio_mcp.testing.authorization.state import AuthorizationState


def _refuse(description: str) -> OAuthProblem:
    return OAuthProblem("invalid_client_metadata", description)


def answer_register(state: AuthorizationState, request: Request) -> Answer:
    """Register a client; raises OAuthProblem."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _refuse("the content-type must be application/json")
    try:
        document = msgspec.json.decode(request.body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _refuse("the body is no JSON object") from None
    usual = "web" if state.settings.strict_redirects else "native"
    application_type = document.get("application_type", usual)
    if application_type not in ("web", "native"):
        raise _refuse("application_type must be web or native")
    method = document.get("token_endpoint_auth_method", "client_secret_basic")
    if method not in AUTH_METHODS:
        raise _refuse(f"token_endpoint_auth_method must be one of {', '.join(AUTH_METHODS)}")
    grant_types = _read_names(document, "grant_types", [CODE])
    if not set(grant_types) <= set(GRANT_TYPES):
        raise _refuse(f"grant_types must be among {', '.join(GRANT_TYPES)}")
    redirect_uris = _read_redirects(document, application_type, CODE in grant_types)
    scopes = _read_scopes(document)
    client = OAuthClient(
        client_id=f"client-{secrets.token_urlsafe(12)}",
        secret=secrets.token_urlsafe(32) if method.startswith("client_secret") else None,
        auth_method=method,
        redirect_uris=redirect_uris,
        grant_types=grant_types,
        name=str(document.get("client_name", "")),
        keys=_read_keys(document, method),
        scopes=scopes if state.settings.strict_scopes else None,
    )
    state.clients.put(client.client_id, client)
    registered: dict[str, Any] = {
        **document,
        "client_id": client.client_id,
        "client_id_issued_at": int(state.now()),
        "redirect_uris": list(redirect_uris),
        "grant_types": list(grant_types),
        "response_types": ["code"] if CODE in grant_types else [],
        "token_endpoint_auth_method": method,
        "application_type": application_type,
    }
    registered.pop("client_secret", None)
    if client.secret is not None:
        registered |= {"client_secret": client.secret, "client_secret_expires_at": 0}
    return answer_json(registered, 201)


def _read_names(document: Mapping[str, Any], name: str, default: list[str]) -> tuple[str, ...]:
    value = document.get(name, default)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _refuse(f"{name} must be a list of strings")
    return tuple(value)


def _read_redirects(document: Mapping[str, Any], application_type: str, are_needed: bool) -> tuple[str, ...]:
    uris = _read_names(document, "redirect_uris", [])
    if are_needed and not uris:
        raise OAuthProblem("invalid_redirect_uri", "redirect_uris are missing")
    for uri in uris:
        flaw = find_redirect_flaw(uri, application_type)
        if flaw is not None:
            raise OAuthProblem("invalid_redirect_uri", f"a redirect URI is not allowed: {flaw}")
    return uris


def _read_scopes(document: Mapping[str, Any]) -> frozenset[str] | None:
    scope = document.get("scope")
    if scope is None:
        return None
    if not isinstance(scope, str):
        raise _refuse("scope must be a string")
    return frozenset(scope.split())


def _read_keys(document: Mapping[str, Any], method: str) -> jose.KeySet | None:
    if method != "private_key_jwt":
        return None
    try:
        return jose.read_keys(document.get("jwks"))
    except jose.InvalidJwt:
        raise _refuse("private_key_jwt needs keys in jwks") from None
