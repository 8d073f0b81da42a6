"""JSON Web Tokens and keys, by joserfc.

Owns all use of joserfc, and that every failure of it is one exception. Refuses to know OAuth.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeGuard, cast

import msgspec

try:
    from joserfc import jwk, jws, jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import Key as Key
    from joserfc.jwk import KeySet as KeySet
except ImportError as missing:
    raise ImportError(
        "the development authorization server needs joserfc: pip install 'trio-mcp[auth]'"
    ) from missing

ALGORITHMS: Final = ("ES256", "RS256", "PS256", "ES384", "ES512", "RS384", "RS512", "Ed25519")
"""The algorithms that are accepted: each has a public key, so nobody who verifies can sign."""

_KINDS: Final[Mapping[str, tuple[Any, Any]]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
}

_MAX_HEADER: Final = 4096  # bytes; joserfc's 512 are too few for the RSA key in a proof of DPoP


_FAILURES: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What joserfc raises for keys and tokens that are none: a peer may send anything."""


class InvalidJwt(ValueError):  # noqa: N818  # as `InvalidToken`
    """A token that cannot be accepted; the message says why and holds nothing of the token."""


class _Registry(jws.JWSRegistry):
    max_header_length = _MAX_HEADER

    def __init__(self, algorithms: Collection[str]) -> None:
        # A recipient ignores what it does not know in a header (RFC 7515, section 4).
        super().__init__(algorithms=list(algorithms), strict_check_header=False)


def generate_key(algorithm: str, kid: str | None = None) -> Key:
    """Make a private key for `algorithm`; raises ValueError for one that is not in `ALGORITHMS`."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, not {algorithm!r}")
    kind, size = _KINDS.get(algorithm, ("RSA", 2048))
    parameters: dict[str, Any] = {"use": "sig", "alg": algorithm}
    if kid is not None:
        parameters["kid"] = kid
    return cast(Key, jwk.generate_key(kind, size, cast(Any, parameters), auto_kid=kid is None))


def export_public(key: Key) -> bytes:
    """The public key as PEM."""
    assert not isinstance(key, jwk.OctKey), "it has no public half"
    return key.as_bytes(private=False)


def read_key(document: Mapping[str, Any]) -> Key:
    """Read a JSON Web Key (RFC 7517); raises InvalidJwt."""
    try:
        return jwk.import_key(dict(document))
    except _FAILURES as error:
        raise InvalidJwt(f"the key cannot be read ({type(error).__name__})") from None


def read_keys(document: Any) -> KeySet:
    """Read a JSON Web Key Set (RFC 7517, section 5); raises InvalidJwt."""
    try:
        return KeySet.import_key_set(document)
    except _FAILURES as error:
        raise InvalidJwt(f"the key set cannot be read ({type(error).__name__})") from None


def sign(
    claims: Mapping[str, Any],
    key: Key,
    algorithm: str,
    typ: str = "JWT",
    header: Mapping[str, Any] | None = None,
) -> str:
    """Sign `claims` with a private key; the key's id and `header` go into the header of the token."""
    full = {"typ": typ, "alg": algorithm, **({"kid": key.kid} if key.kid else {}), **(header or {})}
    registry = _Registry([algorithm])
    return jwt.encode(full, dict(claims), key, registry=registry, default_type=None)


def verify(
    token: str, keys: Key | KeySet, algorithms: Collection[str] = ALGORITHMS
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a signed token; raises InvalidJwt. No claim is checked."""
    try:
        decoded = jwt.decode(token, keys, registry=_Registry(algorithms))
    except _FAILURES as error:
        raise InvalidJwt(f"the token cannot be verified ({type(error).__name__})") from None
    return dict(decoded.header), dict(decoded.claims)


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a token that nobody has verified; raises InvalidJwt."""
    try:
        unverified = jws.extract_compact(token.encode("ascii"), registry=_Registry(ALGORITHMS))
        claims = msgspec.json.decode(unverified.payload)
    except _FAILURES:
        raise InvalidJwt("this is no JSON Web Token") from None
    if not isinstance(claims, dict):
        raise InvalidJwt("the claims of the token are no object")
    return dict(unverified.headers()), claims


def check_times(claims: Mapping[str, Any], now: float, leeway: float = 5.0) -> None:
    """Check `exp`, which is required, and `nbf` (RFC 7519, section 4.1); raises InvalidJwt."""
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if not _is_time(expires) or not _is_time(begins):
        raise InvalidJwt("the token does not say when it expires")
    if expires + leeway <= now:
        raise InvalidJwt("the token has expired")
    if begins - leeway > now:
        raise InvalidJwt("the token is not valid yet")


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
