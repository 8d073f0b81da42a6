"""joserfc, and what of cryptography its keys may raise.

Owns the imports, so that only this module has to say what is missing.
"""

from __future__ import annotations

try:
    from cryptography.exceptions import UnsupportedAlgorithm as UnsupportedKeyError
    from joserfc import jws
    from joserfc.errors import (
        BadSignatureError,
        ClaimError,
        ExpiredTokenError,
        JoseError,
        MissingClaimError,
        UnsupportedAlgorithmError,
    )
    from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, OctKey, OKPKey, RSAKey
    from joserfc.jwt import JWTClaimsRegistry
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "verifying JWTs needs joserfc: pip install 'trio-mcp[auth]'", name=error.name
    ) from error

__all__ = [
    "BadSignatureError",
    "ClaimError",
    "ECKey",
    "ExpiredTokenError",
    "JWKRegistry",
    "JWTClaimsRegistry",
    "JoseError",
    "Key",
    "KeySet",
    "MissingClaimError",
    "OKPKey",
    "OctKey",
    "RSAKey",
    "UnsupportedAlgorithmError",
    "UnsupportedKeyError",
    "jws",
]
