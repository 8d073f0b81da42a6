"""Access tokens that no endpoint would hand out, for tests of whoever verifies them.

Owns the forgeries. Refuses to know endpoints.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.keys import SigningKeys


def make_claims(
    now: float,
    *,
    issuer: str,
    subject: str,
    client_id: str,
    audience: str | Collection[str],
    scopes: Collection[str],
    expires_in: float,
    valid_in: float,
) -> dict[str, Any]:
    """The claims of an access token; times are in seconds from now, and may be negative."""
    return {
        "iss": issuer,
        "sub": subject,
        "aud": audience if isinstance(audience, str) else list(audience),
        "client_id": client_id,
        "iat": int(now + min(0.0, expires_in, valid_in)),
        "nbf": int(now + valid_in),
        "exp": int(now + expires_in),
        "jti": secrets.token_urlsafe(12),
        **({"scope": " ".join(sorted(scopes))} if scopes else {}),
    }


def mint(
    keys: SigningKeys,
    claims: Mapping[str, Any],
    *,
    algorithm: str | None = None,
    typ: str = "at+jwt",
    header: Mapping[str, Any] | None = None,
    key: jose.Key | None = None,
) -> str:
    """Sign claims as `SigningKeys` does, or in a way that nobody must accept.

    The algorithm "none" leaves the signature out, and "HS256" signs with the public key as if it were a
    shared secret. `key` signs in place of the published one, under the published one's id.
    """
    full = {"typ": typ, "alg": algorithm or keys.algorithm, "kid": keys.current.kid, **(header or {})}
    if algorithm == "none":
        return f"{_encode(full)}.{_encode(claims)}."
    if algorithm == "HS256":
        signed = f"{_encode(full)}.{_encode(claims)}"
        signature = hmac.digest(jose.export_public(keys.current), signed.encode("ascii"), sha256)
        return f"{signed}.{_encode_bytes(signature)}"
    return jose.sign(
        claims, key or keys.current, full["alg"], typ, header={"kid": full["kid"], **(header or {})}
    )


def tamper(token: str, changes: Mapping[str, Any]) -> str:
    """Change claims of a signed token and leave its signature as it is."""
    header, payload, signature = token.split(".")
    claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{header}.{_encode({**claims, **changes})}.{signature}"


def _encode(value: Mapping[str, Any]) -> str:
    return _encode_bytes(msgspec.json.encode(value))


def _encode_bytes(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
