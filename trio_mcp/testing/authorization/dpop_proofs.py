"""Proofs that the client holds a key (DPoP, RFC 9449), as the token endpoint and a resource check them.

Owns the checks of section 4.3 and the nonces of sections 8 and 9. Refuses to know tokens, but for their hash.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.exchange import OAuthProblem, Request
from trio_mcp.testing.authorization.state import AuthorizationState

PROOF_SECONDS: Final = 300.0  # how old a proof may be
NONCE_SECONDS: Final = 600.0


def check_token_proof(state: AuthorizationState, request: Request) -> str | None:
    """The thumbprint of the key that a request for tokens proves, or None; raises OAuthProblem."""
    proof = request.headers.get("dpop")
    if proof is None and state.settings.dpop == "required":
        raise OAuthProblem("invalid_dpop_proof", "a DPoP proof is required")
    if proof is None or state.settings.dpop == "off":
        return None
    return check_proof(
        state, proof, request.method, state.url("token"), needs_nonce=state.settings.dpop_nonce
    )


def check_proof(
    state: AuthorizationState,
    proof: str,
    method: str,
    url: str,
    *,
    needs_nonce: bool,
    token: str | None = None,
) -> str:
    """The thumbprint of the key that a proof proves for one request, to a resource with `token`.

    Raises OAuthProblem, with a nonce in its headers if the proof lacks it.
    """
    try:
        header, claims, key = _read_proof(proof)
    except jose.InvalidJwt as error:
        raise OAuthProblem("invalid_dpop_proof", str(error)) from None
    if header.get("typ") != "dpop+jwt":
        raise OAuthProblem("invalid_dpop_proof", "the type of a proof is dpop+jwt")
    if claims.get("htm") != method or _without_query(claims.get("htu")) != _without_query(url):
        raise OAuthProblem("invalid_dpop_proof", "the proof is for another request")
    issued = claims.get("iat")
    if not isinstance(issued, (int, float)) or abs(state.now() - issued) > PROOF_SECONDS:
        raise OAuthProblem("invalid_dpop_proof", "the proof is too old")
    if token is not None and claims.get("ath") != _hash(token):
        raise OAuthProblem("invalid_dpop_proof", "the proof is for another token")
    if needs_nonce:
        _check_nonce(state, claims.get("nonce"))
    thumbprint = str(key.thumbprint())
    if not state.use_id(f"dpop {thumbprint}", claims.get("jti")):
        raise OAuthProblem("invalid_dpop_proof", "the proof has no id, or was used before")
    return thumbprint


def _read_proof(proof: str) -> tuple[dict[str, Any], dict[str, Any], jose.Key]:
    document = jose.peek(proof)[0].get("jwk")
    if not isinstance(document, Mapping) or "d" in document or document.get("kty") == "oct":
        raise jose.InvalidJwt("the proof has no public key")
    key = jose.read_key(document)
    header, claims = jose.verify(proof, key)
    return header, claims, key


def _without_query(url: object) -> str | None:
    if not isinstance(url, str):
        return None
    try:
        split = urlsplit(url)
    except ValueError:
        return None
    return urlunsplit((split.scheme.lower(), split.netloc.lower(), split.path, "", ""))


def _hash(token: str) -> str:
    digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _check_nonce(state: AuthorizationState, nonce: object) -> None:
    issued = state.nonces.get(nonce) if isinstance(nonce, str) else None
    if issued is None or state.now() - issued > NONCE_SECONDS:
        raise OAuthProblem(
            "use_dpop_nonce", "the proof must hold the nonce of this server", headers=make_nonce(state)
        )


def make_nonce(state: AuthorizationState) -> dict[str, str]:
    """The header with a new nonce, for an answer."""
    nonce = secrets.token_urlsafe(16)
    state.nonces.put(nonce, state.now())
    return {"dpop-nonce": nonce}
