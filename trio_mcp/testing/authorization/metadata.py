"""The documents about the authorization server: its metadata and its keys.

Owns what it says about itself (RFC 8414, section 2; OpenID Connect Discovery 1.0, section 3). Refuses to know
how endpoints work.
"""

from __future__ import annotations

from typing import Any

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.clients import AUTH_METHODS, GRANT_TYPES
from trio_mcp.testing.authorization.exchange import Answer, Request, answer_json
from trio_mcp.testing.authorization.faults import replace_members
from trio_mcp.testing.authorization.state import ID_JAG, OPEN_SCOPES, AuthorizationState

CACHED = {"cache-control": "public, max-age=60", "pragma": "public"}


def describe_server(state: AuthorizationState) -> dict[str, Any]:
    """The metadata, with its faults applied."""
    settings = state.settings
    secret_methods = [method for method in AUTH_METHODS if method != "none"]
    members: dict[str, Any] = {
        "issuer": state.issuer,
        "authorization_endpoint": state.url("authorize"),
        "token_endpoint": state.url("token"),
        "introspection_endpoint": state.url("introspect"),
        "revocation_endpoint": state.url("revoke"),
        "jwks_uri": state.url("jwks"),
        "registration_endpoint": state.url("register") if settings.registration else None,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(jose.ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": secret_methods,
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "client_id_metadata_document_supported": settings.client_documents,
        "authorization_response_iss_parameter_supported": True,
        "identity_chaining_requested_token_types_supported": [ID_JAG],
        "authorization_grant_profiles_supported": ["urn:ietf:params:oauth:grant-profile:id-jag"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [settings.algorithm],
    }
    if settings.scopes_supported is not None:
        members["scopes_supported"] = sorted(settings.scopes_supported | OPEN_SCOPES)
    if settings.dpop != "off":
        members["dpop_signing_alg_values_supported"] = list(jose.ALGORITHMS)
    return replace_members(members, state.faults.metadata)


def answer_metadata(state: AuthorizationState, request: Request) -> Answer:
    """The metadata."""
    return answer_json(describe_server(state), headers=CACHED)


def answer_keys(state: AuthorizationState, request: Request) -> Answer:
    """The public keys."""
    return answer_json(state.keys.document(), headers=CACHED)
