"""Proofs that the client holds a key (DPoP, RFC 9449), as the token endpoint checks them.

Owns the checks of section 4.3 and the nonces of section 8. Refuses to know tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.exchange import OAuthProblem, Request
from trio_mcp.testing.authorization.state import AuthorizationState

PROOF_SECONDS: Final = 300.0  # how old a proof may be
NONCE_SECONDS: Final = 600.0


def check_proof(state: AuthorizationState, request: Request, url: str) -> str | None:
    """The thumbprint of the key that a request proves, or None without a proof; raises OAuthProblem."""
    proof = request.headers.get("dpop")
    if proof is None:
        if state.settings.dpop == "required":
            raise OAuthProblem("invalid_dpop_proof", "a DPoP proof is required")
        return None
    if state.settings.dpop == "off":
        return None
    try:
        header, claims, key = _read_proof(proof)
    except jose.InvalidJwt as error:
        raise OAuthProblem("invalid_dpop_proof", str(error)) from None
    if header.get("typ") != "dpop+jwt":
        raise OAuthProblem("invalid_dpop_proof", "the type of a proof is dpop+jwt")
    if claims.get("htm") != request.method or _without_query(claims.get("htu")) != _without_query(url):
        raise OAuthProblem("invalid_dpop_proof", "the proof is for another request")
    issued = claims.get("iat")
    if not isinstance(issued, (int, float)) or abs(state.now() - issued) > PROOF_SECONDS:
        raise OAuthProblem("invalid_dpop_proof", "the proof is too old")
    _check_nonce(state, claims)
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


def _check_nonce(state: AuthorizationState, claims: Mapping[str, Any]) -> None:
    if not state.settings.dpop_nonce:
        return
    nonce = claims.get("nonce")
    issued = state.nonces.get(nonce) if isinstance(nonce, str) else None
    if issued is None or state.now() - issued > NONCE_SECONDS:
        raise OAuthProblem(
            "use_dpop_nonce", "the proof must hold the nonce of this server", headers=make_nonce(state)
        )


def make_nonce(state: AuthorizationState) -> dict[str, str]:
    """The header with a new nonce, for an answer; empty if proofs need none."""
    if not state.settings.dpop_nonce:
        return {}
    nonce = secrets.token_urlsafe(16)
    state.nonces.put(nonce, state.now())
    return {"dpop-nonce": nonce}
