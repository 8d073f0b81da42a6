"""The authorization endpoint: a client asks, by way of the user's browser, for what the user may grant.

Owns the checks of such a request, and the answer that goes back to the client (OAuth 2.1, section 4.1;
RFC 9207). A request whose client or redirect URI is not good is never redirected.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

import attrs

from trio_mcp.testing.authorization.client_documents import find_client
from trio_mcp.testing.authorization.clients import CODE, OAuthClient, matches_redirect
from trio_mcp.testing.authorization.exchange import (
    Answer,
    OAuthProblem,
    Parameters,
    Request,
    answer_redirect,
)
from trio_mcp.testing.authorization.grants import Grant
from trio_mcp.testing.authorization.login_page import show_failure, show_login
from trio_mcp.testing.authorization.state import OPEN_SCOPES, AuthorizationState, User

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # SHA-256 in base64url, without padding


@attrs.frozen(kw_only=True)
class PendingAuthorization:
    """An authorization request that was checked, and waits for its user."""

    client: OAuthClient
    redirect_uri: str
    named_uri: str | None
    """The redirect URI if the request has named one; then the token request must name it too."""
    state: str | None = attrs.field(default=None, repr=False)
    challenge: str = attrs.field(repr=False)
    scopes: frozenset[str]
    resources: tuple[str, ...]
    nonce: str | None = attrs.field(default=None, repr=False)
    thumbprint: str | None = None


async def answer_authorize(state: AuthorizationState, request: Request) -> Answer:
    """Answer a request at the authorization endpoint; checkpoints if a metadata document is fetched."""
    try:
        if request.method == "POST" and state.settings.login_page:
            return _decide(state, request)
        parameters = request.query_parameters() if request.method == "GET" else request.form()
        client, redirect_uri = await _find_client(state, parameters)
    except OAuthProblem as problem:
        return show_failure(problem)
    try:
        fault = await state.faults.meet("authorize")
        if fault is not None:
            return fault
        pending = _check(state, parameters, client, redirect_uri)
        user = _find_user(state, parameters)
        if user is None:
            key = secrets.token_urlsafe(16)
            state.pages.put(key, pending)
            return show_login(key, client.name or client.client_id, redirect_uri, pending.scopes)
        return _grant(state, pending, user, pending.scopes)
    except OAuthProblem as problem:
        return _refuse(state, redirect_uri, _read_state(parameters), problem.error, problem.description)


async def _find_client(state: AuthorizationState, parameters: Parameters) -> tuple[OAuthClient, str]:
    client = await find_client(state, parameters.need("client_id"))
    if client is None:
        raise OAuthProblem("invalid_client", "the client is unknown")
    given = parameters.one("redirect_uri")
    if given is None and len(client.redirect_uris) == 1:
        return client, client.redirect_uris[0]
    if given is None or not any(matches_redirect(registered, given) for registered in client.redirect_uris):
        raise OAuthProblem("invalid_request", "redirect_uri is none of those that the client has registered")
    return client, given


def _read_state(parameters: Parameters) -> str | None:
    values = parameters.all("state")
    return values[0] if len(values) == 1 else None


def _check(
    state: AuthorizationState, parameters: Parameters, client: OAuthClient, redirect_uri: str
) -> PendingAuthorization:
    """Check the rest of a request; raises OAuthProblem."""
    for name in parameters.names() - {"resource"}:
        parameters.one(name)  # none but this may be repeated
    if parameters.need("response_type") != "code":
        raise OAuthProblem("unsupported_response_type", "response_type must be code")
    if CODE not in client.grant_types:
        raise OAuthProblem("unauthorized_client", "the client has not registered authorization_code")
    if {"request", "request_uri"} & parameters.names():
        raise OAuthProblem("request_not_supported", "request objects are not supported")
    if parameters.one("code_challenge_method") != "S256":  # absent stands for "plain" (RFC 7636, 4.3)
        raise OAuthProblem("invalid_request", "PKCE is required: code_challenge_method must be S256")
    challenge = parameters.one("code_challenge")
    if challenge is None or not _CHALLENGE.fullmatch(challenge):
        raise OAuthProblem("invalid_request", "PKCE is required: code_challenge must be 43 characters long")
    return PendingAuthorization(
        client=client,
        redirect_uri=redirect_uri,
        named_uri=parameters.one("redirect_uri"),
        state=parameters.one("state"),
        challenge=challenge,
        scopes=state.read_scopes(client, parameters.one("scope")),
        resources=state.read_resources(parameters.all("resource")),
        nonce=parameters.one("nonce"),
        thumbprint=parameters.one("dpop_jkt"),
    )


def _find_user(state: AuthorizationState, parameters: Parameters) -> User | None:
    """Who grants the request without being asked; None to ask on a page. Raises OAuthProblem."""
    if state.settings.login_page:
        if parameters.one("prompt") == "none":
            raise OAuthProblem("login_required", "the user has to be asked")
        return None
    hint = parameters.one("login_hint")
    user = state.find_user(hint) if hint is not None else next(iter(state.settings.users), None)
    if user is None:
        raise OAuthProblem("access_denied", "there is no such user")
    return user


def _grant(
    state: AuthorizationState, pending: PendingAuthorization, user: User, chosen: frozenset[str]
) -> Answer:
    granted = chosen & pending.scopes
    if user.scopes is not None:
        granted &= user.scopes | OPEN_SCOPES
    if pending.scopes and not granted:
        raise OAuthProblem("access_denied", "the user has granted none of the scopes")
    grant = Grant(
        client_id=pending.client.client_id,
        subject=user.subject,
        scopes=granted,
        resources=pending.resources,
        auth_time=state.now(),
        thumbprint=pending.thumbprint,
        nonce=pending.nonce,
    )
    code = state.grants.make_code(grant, pending.named_uri, pending.challenge, state.settings.code_seconds)
    return _redirect(state, pending.redirect_uri, {"code": code, "state": pending.state})


def _refuse(
    state: AuthorizationState, redirect_uri: str, client_state: str | None, error: str, description: str
) -> Answer:
    answer = {"error": error, "error_description": description, "state": client_state}
    return _redirect(state, redirect_uri, answer)


def _redirect(state: AuthorizationState, redirect_uri: str, parameters: dict[str, str | None]) -> Answer:
    answer = {**parameters, "iss": state.issuer, **state.faults.redirect}
    return answer_redirect(redirect_uri, answer.items())


def _decide(state: AuthorizationState, request: Request) -> Answer:
    """What the user has decided on the login page; raises OAuthProblem for what no page has sent."""
    origin = request.headers.get("origin")
    if origin not in (None, "null") and not f"{state.issuer}/".startswith(f"{origin}/"):
        raise OAuthProblem("invalid_request", "the form comes from another site")
    form = request.form()
    key = form.need("transaction")
    pending = state.pages.get(key)
    if not isinstance(pending, PendingAuthorization):
        raise OAuthProblem("invalid_request", "the page is too old; start again in your client")
    user = state.find_user(form.one("user") or "")
    decision = form.one("decision")
    if decision == "allow" and (user is None or not _is_password(user, form.one("password"))):
        name = pending.client.name or pending.client.client_id
        return show_login(
            key, name, pending.redirect_uri, pending.scopes, "The name or the password is wrong."
        )
    state.pages.take(key)
    try:
        if decision != "allow" or user is None:
            raise OAuthProblem("access_denied", "the user has refused")
        return _grant(state, pending, user, frozenset(form.all("granted")))
    except OAuthProblem as problem:
        return _refuse(state, pending.redirect_uri, pending.state, problem.error, problem.description)


def _is_password(user: User, given: str | None) -> bool:
    return secrets.compare_digest(user.password.encode(), (given or "").encode("utf-8", "surrogatepass"))
