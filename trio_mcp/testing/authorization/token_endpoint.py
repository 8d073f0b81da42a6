"""The token endpoint: a client asks for tokens (OAuth 2.1, section 3.2).

Owns the grants by a code, by a refresh token and by the client's own credentials. Assertions are in
`assertions.py`.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from trio_mcp.testing.authorization.assertions import exchange_token, grant_by_assertion, name_workload
from trio_mcp.testing.authorization.client_authentication import authenticate_client
from trio_mcp.testing.authorization.clients import (
    CLIENT_CREDENTIALS,
    CODE,
    GRANT_TYPES,
    JWT_BEARER,
    REFRESH,
    TOKEN_EXCHANGE,
    OAuthClient,
)
from trio_mcp.testing.authorization.dpop_proofs import check_token_proof, make_nonce
from trio_mcp.testing.authorization.exchange import Answer, OAuthProblem, Parameters, Request
from trio_mcp.testing.authorization.grants import Grant
from trio_mcp.testing.authorization.issuing import issue_tokens
from trio_mcp.testing.authorization.state import AuthorizationState

_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, section 4.1


async def answer_token(state: AuthorizationState, request: Request) -> Answer:
    """Answer a request for tokens; checkpoints if a metadata document is fetched. Raises OAuthProblem."""
    form = request.form()
    for name in form.names() - {"resource", "audience"}:
        form.one(name)  # none but these may be repeated
    grant_type = form.need("grant_type")
    if grant_type not in GRANT_TYPES:
        raise OAuthProblem("unsupported_grant_type", "this grant type is not supported")
    is_workload = grant_type == JWT_BEARER and not _authenticates(request, form)
    client = name_workload(form) if is_workload else await authenticate_client(state, request, form)
    if grant_type not in client.grant_types:
        raise OAuthProblem("unauthorized_client", f"the client has not registered {grant_type}")
    thumbprint = check_token_proof(state, request)
    answer = _GRANTS[grant_type](state, form, client, thumbprint)
    if thumbprint is None or not state.settings.dpop_nonce:
        return answer
    return answer.with_headers(make_nonce(state))


def _authenticates(request: Request, form: Parameters) -> bool:
    """Whether the request names a client; one by an assertion need not (RFC 7523, section 3.1)."""
    return "authorization" in request.headers or bool({"client_id", "client_assertion"} & form.names())


def _grant_by_code(
    state: AuthorizationState, form: Parameters, client: OAuthClient, thumbprint: str | None
) -> Answer:
    verifier = form.one("code_verifier")
    code = state.grants.use_code(form.need("code"), client.client_id)
    if code.redirect_uri is not None and form.one("redirect_uri") != code.redirect_uri:
        raise OAuthProblem("invalid_grant", "redirect_uri is not that of the authorization request")
    if verifier is None or not _VERIFIER.fullmatch(verifier):
        raise OAuthProblem("invalid_grant", "code_verifier is missing, or is not 43 to 128 characters long")
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode("ascii")).digest()).rstrip(b"=")
    if not compare_digest(challenge, code.challenge.encode("ascii")):
        raise OAuthProblem("invalid_grant", "code_verifier is not that of the authorization request")
    grant = code.grant
    _check_key(grant, thumbprint)
    if client.is_public:
        grant.thumbprint = thumbprint
    return issue_tokens(
        state,
        grant,
        client,
        resources=_choose_resources(state, form, grant),
        thumbprint=thumbprint,
    )


def _grant_by_refresh_token(
    state: AuthorizationState, form: Parameters, client: OAuthClient, thumbprint: str | None
) -> Answer:
    found = state.grants.find_refresh_token(form.need("refresh_token"), client.client_id)
    grant = found.grant
    _check_key(grant, thumbprint)
    requested = form.one("scope")
    scopes = grant.scopes if requested is None else frozenset(requested.split())
    if not scopes <= grant.scopes:
        raise OAuthProblem("invalid_scope", "a scope was not granted")
    resources = _choose_resources(state, form, grant)
    found.is_used = True  # each is good once, and is replaced by the one in the answer
    return issue_tokens(state, grant, client, scopes=scopes, resources=resources, thumbprint=thumbprint)


def _check_key(grant: Grant, thumbprint: str | None) -> None:
    if grant.thumbprint is not None and grant.thumbprint != thumbprint:
        raise OAuthProblem("invalid_dpop_proof", "the grant is bound to another key")


def _choose_resources(state: AuthorizationState, form: Parameters, grant: Grant) -> tuple[str, ...]:
    """The audience of a token: what is asked for, within what was granted (RFC 8707, section 2.2)."""
    asked = state.read_resources(form.all("resource"))
    if asked and grant.resources and not set(asked) <= set(grant.resources):
        raise OAuthProblem("invalid_target", "the resource was not granted")
    return asked or grant.resources


def _grant_by_credentials(
    state: AuthorizationState, form: Parameters, client: OAuthClient, thumbprint: str | None
) -> Answer:
    if client.is_public:
        raise OAuthProblem("unauthorized_client", "a client without credentials has no rights of its own")
    grant = Grant(
        client_id=client.client_id,
        subject=client.client_id,
        scopes=state.read_scopes(client, form.one("scope")),
        resources=state.read_resources(form.all("resource")),
        auth_time=state.now(),
    )
    return issue_tokens(
        state,
        grant,
        client,
        thumbprint=thumbprint,
        can_refresh=False,
    )


_GRANTS: Final = {
    CODE: _grant_by_code,
    REFRESH: _grant_by_refresh_token,
    CLIENT_CREDENTIALS: _grant_by_credentials,
    JWT_BEARER: grant_by_assertion,
    TOKEN_EXCHANGE: exchange_token,
}
