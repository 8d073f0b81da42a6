"""The keys that verify signatures: reading them, and choosing those that may have made one.

Owns which algorithms exist and which keys are good enough for them. Refuses to know where keys come from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from trio_mcp.authorization.jose_library import (
    ECKey,
    JoseError,
    JWKRegistry,
    Key,
    KeySet,
    OctKey,
    OKPKey,
    RSAKey,
    UnsupportedKeyError,
    jws,
)

ASYMMETRIC: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519", "Ed448"),
)
"""What is accepted by default: only the issuer can sign by these."""

SYMMETRIC: Final = frozenset({"HS256", "HS384", "HS512"})
"""Accepted only with a secret that both sides share: who verifies by these can also sign."""

MAX_KEYS: Final = 100
"""Keys of one set: issuers publish fewer than ten."""

MAX_TRIED: Final = 8
"""Keys that are tried for a token that names none, so that its check costs less than a millisecond."""

_MIN_RSA_BITS: Final = 2048
"""RFC 7518, 3.3 and 3.5."""

_MIN_SECRET_BYTES: Final = 32
"""RFC 7518, 3.2: as long as the output of the hash, which is 32 for the shortest."""

_IS_PRIVATE: Final = "it is a private key, which only its issuer may have"
_PEM_TYPES: Final = ("RSA", "EC", "OKP")
_UNREADABLE: Final = (JoseError, ValueError, TypeError, KeyError, OverflowError, UnsupportedKeyError)

VerificationKeys: TypeAlias = str | bytes | Mapping[str, Any] | Key | KeySet | Iterable[Any]
"""Public keys: as PEM, as a JWK or a JWK Set (RFC 7517), as those of joserfc, or several of these."""

logger = logging.getLogger("trio_mcp.authorization")


class UnusableKeyError(ValueError):
    """A key cannot verify signatures; the message holds nothing of the key."""


@attrs.frozen(eq=False)
class VerificationKey:
    """One key; `kid` is its name, if it has one."""

    kid: str | None
    _key: Key = attrs.field(repr=False)

    @property
    def is_secret(self) -> bool:
        """Whether the key is a secret that signs as well."""
        return isinstance(self._key, OctKey)

    def fits(self, algorithm: str) -> bool:
        """Whether a signature by `algorithm` may be one of this key."""
        try:
            jws.JWSRegistry.algorithms[algorithm].check_key(self._key)
        except JoseError:
            return False
        return True

    def has_signed(self, signature: jws.CompactSignature, registry: jws.JWSRegistry) -> bool:
        """Whether the signature is one of this key."""
        try:
            return jws.validate_compact(signature, self._key, registry=registry)
        except (JoseError, ValueError):
            return False


def choose_keys(
    keys: Sequence[VerificationKey], kid: str | None, algorithm: str
) -> tuple[VerificationKey, ...]:
    """Those of `keys` that may have signed what names `kid`, at most `MAX_TRIED`.

    If none has that name, those without a name: some issuers give names in tokens only.
    """
    fitting = [key for key in keys if key.fits(algorithm)]
    if kid is not None:
        named = [key for key in fitting if key.kid == kid]
        fitting = named or [key for key in fitting if key.kid is None]
    return tuple(fitting[:MAX_TRIED])


def read_key_set(document: Any) -> tuple[VerificationKey, ...]:
    """The keys of a JWK Set that can verify; the others are left out (RFC 7517, 5).

    Raises ValueError if it is no JWK Set, or if it has more than `MAX_KEYS` keys.
    """
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("it is no JWK Set")
    if len(members) > MAX_KEYS:
        raise ValueError(f"it has {len(members)} keys, which are more than {MAX_KEYS}")
    keys = []
    for number, member in enumerate(members, start=1):
        try:
            key = _read_jwk(member)
            if key.is_secret:
                raise UnusableKeyError("it is a secret, which nobody publishes")
        except UnusableKeyError as error:
            logger.info("key %d of %d cannot verify tokens: %s", number, len(members), error)
        else:
            keys.append(key)
    return tuple(keys)


def import_keys(keys: VerificationKeys) -> tuple[VerificationKey, ...]:
    """Read keys that a program has; raises ValueError or TypeError unless all of them can verify."""
    try:
        imported = tuple(_import(keys))
    except UnusableKeyError as error:
        raise ValueError(f"a key cannot verify tokens: {error}") from None
    if not imported:
        raise ValueError("there are no keys")
    if len(imported) > MAX_KEYS:
        raise ValueError(f"there are {len(imported)} keys, which are more than {MAX_KEYS}")
    return imported


def _import(keys: Any) -> Iterable[VerificationKey]:
    if isinstance(keys, (str, bytes)):
        yield _check(_read_pem(keys))
    elif isinstance(keys, Mapping):
        members = keys.get("keys")
        for member in members if isinstance(members, list) else [keys]:
            yield _read_jwk(dict(member) if isinstance(member, Mapping) else member)
    elif isinstance(keys, (RSAKey, ECKey, OKPKey, OctKey)):
        yield _check(keys)
    elif isinstance(keys, Iterable):  # also a KeySet
        for key in keys:
            yield from _import(key)
    else:
        raise TypeError(f"a key cannot be of type {type(keys).__name__}")


def _read_pem(pem: str | bytes) -> Key:
    raw = pem.encode() if isinstance(pem, str) else pem
    if b"-----BEGIN " not in raw:
        raise UnusableKeyError("it is no PEM; a shared secret is given as a JWK")
    for key_type in _PEM_TYPES:
        try:
            return JWKRegistry.import_key(raw.strip(), key_type)
        except JoseError:
            continue  # a key of another type
        except _UNREADABLE:
            break
    raise UnusableKeyError("its PEM cannot be read as a public key")


def _read_jwk(jwk: Any) -> VerificationKey:
    if not isinstance(jwk, dict):
        raise UnusableKeyError("it is no JSON object")
    if "d" in jwk:
        raise UnusableKeyError(_IS_PRIVATE)
    if jwk.get("kty") == "RSA":
        _check_size(jwk.get("n"))
    try:
        key = JWKRegistry.import_key(jwk)
    except _UNREADABLE as error:
        raise UnusableKeyError(f"it cannot be read ({type(error).__name__})") from None
    return _check(key)


def _check_size(modulus: Any) -> None:
    """Refuse a short RSA key before the library warns of it; each character has six bits."""
    if isinstance(modulus, str) and len(modulus) * 6 < _MIN_RSA_BITS:
        raise UnusableKeyError(f"it is shorter than {_MIN_RSA_BITS} bits")


def _check(key: Key) -> VerificationKey:
    if isinstance(key, OctKey):
        if len(key.raw_value) < _MIN_SECRET_BYTES:
            raise UnusableKeyError(f"it is a secret of less than {_MIN_SECRET_BYTES} bytes")
    elif key.is_private:
        raise UnusableKeyError(_IS_PRIVATE)
    elif isinstance(key, RSAKey) and key.raw_value.key_size < _MIN_RSA_BITS:
        raise UnusableKeyError(f"it is shorter than {_MIN_RSA_BITS} bits")
    try:
        key.check_use("sig")
        key.check_key_op("verify")
    except JoseError:
        raise UnusableKeyError("it is not for signatures") from None
    return VerificationKey(key.kid, key)
