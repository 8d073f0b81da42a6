"""Which client makes a direct request, and its proof of that.

Owns the methods of authentication (RFC 6749, section 2.3; RFC 7523, section 2.2). Refuses to know grants.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any, Final
from urllib.parse import unquote_plus

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.client_documents import find_client
from trio_mcp.testing.authorization.clients import OAuthClient
from trio_mcp.testing.authorization.exchange import OAuthProblem, Parameters, Request
from trio_mcp.testing.authorization.state import AuthorizationState

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def _refuse(description: str) -> OAuthProblem:
    challenge = {"www-authenticate": 'Basic realm="trio_mcp development"'}
    return OAuthProblem("invalid_client", description, 401, challenge)


async def authenticate_client(state: AuthorizationState, request: Request, form: Parameters) -> OAuthClient:
    """The client that makes a request; checkpoints if its metadata document has to be fetched.

    Raises OAuthProblem unless it authenticates by the method that it has registered, and by that alone.
    """
    header = request.headers.get("authorization")
    assertion, secret = form.one("client_assertion"), form.one("client_secret")
    if sum(given is not None for given in (header, assertion, secret)) > 1:
        raise OAuthProblem("invalid_request", "the client authenticates in more than one way")
    client_id = form.one("client_id")
    method = "none"
    if header is not None:
        method = "client_secret_basic"
        client_id, secret = _read_basic(header, client_id)
    elif secret is not None:
        method = "client_secret_post"
    elif assertion is not None:
        method = "private_key_jwt"
        client_id = _read_assertion_owner(form, assertion, client_id)
    if client_id is None:
        raise _refuse("client_id is missing")
    client = await find_client(state, client_id)
    if client is None:
        raise _refuse("the client is unknown")
    if client.auth_method != method:
        raise _refuse(f"the client has registered {client.auth_method}, and uses {method}")
    if assertion is not None:
        _check_assertion(state, client, assertion)
    elif method != "none" and not _is_secret(client.secret, secret):
        raise _refuse("the client's secret is wrong")
    return client


def _is_secret(expected: str | None, given: str | None) -> bool:
    if expected is None or given is None:
        return False
    return compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))


def _read_basic(header: str, stated: str | None) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    name, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise _refuse("the Authorization header holds no Basic credentials")
    client_id = unquote_plus(name)  # RFC 6749, section 2.3.1: both are encoded as in a form
    if stated not in (None, client_id):
        raise OAuthProblem("invalid_request", "client_id is not that of the Authorization header")
    return client_id, unquote_plus(secret)


def _read_assertion_owner(form: Parameters, assertion: str, stated: str | None) -> str:
    if form.one("client_assertion_type") != ASSERTION_TYPE:
        raise OAuthProblem("invalid_request", f"client_assertion_type must be {ASSERTION_TYPE}")
    try:
        subject = jose.peek(assertion)[1].get("sub")
    except jose.InvalidJwt as error:
        raise _refuse(str(error)) from None
    if not isinstance(subject, str) or stated not in (None, subject):
        raise _refuse("the assertion is not that of the client")
    return subject


def _check_assertion(state: AuthorizationState, client: OAuthClient, assertion: str) -> None:
    if client.keys is None:
        raise _refuse("the client has registered no key")
    try:
        _, claims = jose.verify(assertion, client.keys)
        check_assertion_claims(state, claims)
    except jose.InvalidJwt as error:
        raise _refuse(str(error)) from None
    if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
        raise _refuse("issuer and subject of the assertion must be the client")
    if not state.use_id(client.client_id, claims.get("jti")):
        raise _refuse("the assertion has no id (jti), or was used before")


def check_assertion_claims(state: AuthorizationState, claims: Mapping[str, Any]) -> None:
    """Check the audience and the times of an assertion (RFC 7523, section 3); raises jose.InvalidJwt."""
    jose.check_times(claims, state.now())
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    ours = {state.issuer, state.url("token")}
    if not isinstance(named, list) or not any(isinstance(one, str) and one in ours for one in named):
        raise jose.InvalidJwt("the assertion is for another authorization server")
