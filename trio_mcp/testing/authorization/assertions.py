"""Grants by an assertion of another issuer, and assertions for other authorization servers.

Owns the JWT bearer grant (RFC 7523, section 2.1), with the Identity Assertion Authorization Grant (ID-JAG) of
enterprise-managed authorization, and the token exchange (RFC 8693) by which a client gets one of these.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.client_authentication import check_assertion_claims
from trio_mcp.testing.authorization.clients import JWT_BEARER, OAuthClient
from trio_mcp.testing.authorization.exchange import Answer, OAuthProblem, Parameters, answer_json
from trio_mcp.testing.authorization.grants import Grant
from trio_mcp.testing.authorization.issuing import issue_tokens
from trio_mcp.testing.authorization.state import ID_JAG, ID_TOKEN, AuthorizationState

ID_JAG_TYPE: Final = "oauth-id-jag+jwt"
ID_JAG_SECONDS: Final = 300


def name_workload(form: Parameters) -> OAuthClient:
    """The client of a request by an assertion that names none: the subject of the assertion.

    The assertion is verified later; until then nothing is granted. Raises OAuthProblem.
    """
    try:
        subject = jose.peek(form.need("assertion"))[1].get("sub")
    except jose.InvalidJwt as error:
        raise OAuthProblem("invalid_grant", str(error)) from None
    if not isinstance(subject, str):
        raise OAuthProblem("invalid_grant", "the assertion has no subject")
    return OAuthClient(client_id=subject, grant_types=(JWT_BEARER,))


def grant_by_assertion(
    state: AuthorizationState, form: Parameters, client: OAuthClient, thumbprint: str | None
) -> Answer:
    """Issue a token for the subject of an assertion of a trusted issuer; raises OAuthProblem."""
    try:
        header, claims = _verify(state, form.need("assertion"))
    except jose.InvalidJwt as error:
        raise OAuthProblem("invalid_grant", str(error)) from None
    requested, resources = form.one("scope"), form.all("resource")
    if header.get("typ") == ID_JAG_TYPE:
        if state.clients.get(client.client_id) is None:
            raise OAuthProblem("invalid_client", "an identity assertion needs a client that is named", 401)
        requested, resources = _read_identity_assertion(claims, client, requested, resources)
    grant = Grant(
        client_id=client.client_id,
        subject=str(claims["sub"]),
        scopes=state.read_scopes(client, requested),
        resources=state.read_resources(resources),
        auth_time=state.now(),
    )
    if not state.use_id(str(claims["iss"]), claims.get("jti")):
        raise OAuthProblem("invalid_grant", "the assertion has no id (jti), or was used before")
    return issue_tokens(
        state,
        grant,
        client,
        thumbprint=thumbprint,
        can_refresh=False,
    )


def _verify(state: AuthorizationState, assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and claims of an assertion of a trusted issuer; raises jose.InvalidJwt."""
    issuer = jose.peek(assertion)[1].get("iss")
    read_keys = state.trusted.get(issuer) if isinstance(issuer, str) else None
    if read_keys is None:
        raise jose.InvalidJwt("the issuer of the assertion is not trusted")
    header, claims = jose.verify(assertion, read_keys())
    check_assertion_claims(state, claims)
    if not isinstance(claims.get("sub"), str):
        raise jose.InvalidJwt("the assertion has no subject")
    return header, claims


def _read_identity_assertion(
    claims: dict[str, Any], client: OAuthClient, requested: str | None, resources: list[str]
) -> tuple[str | None, list[str]]:
    """The scopes and resources of an ID-JAG, which the request may only narrow; raises OAuthProblem."""
    if claims.get("client_id") != client.client_id:
        raise OAuthProblem("invalid_grant", "the identity assertion was issued to another client")
    named = claims.get("resource")
    if isinstance(named, str):
        if any(resource != named for resource in resources):
            raise OAuthProblem("invalid_target", "the identity assertion is for another resource")
        resources = [named]
    scope = claims.get("scope")
    if isinstance(scope, str):
        if requested is not None and not set(requested.split()) <= set(scope.split()):
            raise OAuthProblem("invalid_scope", "a scope is not in the identity assertion")
        requested = scope if requested is None else requested
    return requested, resources


def exchange_token(
    state: AuthorizationState, form: Parameters, client: OAuthClient, thumbprint: str | None
) -> Answer:
    """Make an ID-JAG of an ID token of ours, for another authorization server; raises OAuthProblem."""
    if form.one("requested_token_type") != ID_JAG:
        raise OAuthProblem("invalid_request", f"requested_token_type must be {ID_JAG}")
    if form.one("subject_token_type") != ID_TOKEN:
        raise OAuthProblem("invalid_request", f"subject_token_type must be {ID_TOKEN}")
    audience = form.need("audience")
    try:
        header, identity = state.keys.verify(form.need("subject_token"))
        jose.check_times(identity, state.now())
    except jose.InvalidJwt as error:
        raise OAuthProblem("invalid_grant", str(error)) from None
    if header.get("typ") != "JWT" or identity.get("iss") != state.issuer:
        raise OAuthProblem("invalid_grant", "subject_token is no ID token of this server")
    if identity.get("aud") != client.client_id:
        raise OAuthProblem("invalid_grant", "the ID token was issued to another client")
    resources = form.all("resource")
    scopes = state.read_scopes(client, form.one("scope"))
    now = int(state.now())
    claims = {
        "iss": state.issuer,
        "sub": identity["sub"],
        "aud": audience,
        "client_id": state.audience_clients.get((audience, client.client_id), client.client_id),
        "jti": secrets.token_urlsafe(12),
        "iat": now,
        "exp": now + ID_JAG_SECONDS,
        **({"resource": resources[0]} if len(resources) == 1 else {}),
        **({"scope": " ".join(sorted(scopes))} if scopes else {}),
    }
    return answer_json(
        {
            "access_token": state.keys.sign(claims, ID_JAG_TYPE),
            "issued_token_type": ID_JAG,
            "token_type": "N_A",
            "expires_in": ID_JAG_SECONDS,
            **({"scope": claims["scope"]} if scopes else {}),
        }
    )
