"""A private key of the client, by which it signs assertions and proofs; by the library joserfc.

Owns reading and making keys, the choice of an algorithm, and the import of joserfc. Refuses to know what is
signed, and shows no private part.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

import attrs
import msgspec

try:
    from joserfc import jws
    from joserfc.errors import JoseError, SecurityWarning
    from joserfc.jwk import ECKey, OKPKey, RSAKey
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "private_key_jwt and DPoP need joserfc: pip install 'trio-mcp[auth]'", name=error.name
    ) from error

KeyMaterial: TypeAlias = str | bytes | Mapping[str, Any]
"""A private key as PEM, or as a JWK (RFC 7517)."""

_Key: TypeAlias = ECKey | RSAKey | OKPKey

_READERS: Final[Mapping[str, Callable[[Any], _Key]]] = {
    "EC": ECKey.import_key,
    "RSA": RSAKey.import_key,
    "OKP": OKPKey.import_key,
}
_ALGORITHMS: Final = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("Ed25519", "EdDSA"),
    "RSA": ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512"),
}
"""What each kind of key can sign with, the usual one first; nothing symmetric."""

_MADE: Final = {
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "Ed25519": "Ed25519",
    "EdDSA": "Ed25519",
}

_encode: Final = msgspec.json.Encoder().encode


@attrs.frozen(eq=False)
class SigningKey:
    """A private key and the algorithms that it is for; made by `read_key` and `make_key`."""

    algorithms: tuple[str, ...]
    key_id: str | None
    _key: _Key = attrs.field(repr=False)

    @property
    def public_jwk(self) -> dict[str, Any]:
        """The public part as a JWK."""
        return dict(self._key.as_dict(private=False))

    def thumbprint(self) -> str:
        """The SHA-256 thumbprint of the public part (RFC 7638), by which tokens are bound to the key."""
        return self._key.thumbprint()

    def dump(self) -> dict[str, Any]:
        """The private key as a JWK, as a storage keeps it; `read_key` reads it."""
        return {**self._key.as_dict(private=True), "alg": self.algorithms[0]}

    def choose_algorithm(self, accepted: Collection[str] | None) -> str:
        """The first algorithm that is `accepted`, or the usual one if that is not known.

        Raises ValueError if none is.
        """
        for algorithm in self.algorithms:
            if accepted is None or algorithm in accepted:
                return algorithm
        raise ValueError(
            f"this key signs with {' or '.join(self.algorithms)}, of which the server accepts none"
        )

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any], algorithm: str | None = None) -> str:
        """A JWT with these claims; `header` has what is neither "alg" nor the key's id."""
        algorithm = algorithm or self.algorithms[0]
        full = {**header, "alg": algorithm}
        if self.key_id is not None and "jwk" not in full:
            full["kid"] = self.key_id
        with warnings.catch_warnings():
            if algorithm == "EdDSA":  # the name that most servers know, though RFC 9864 has another now
                warnings.simplefilter("ignore", SecurityWarning)
            return jws.serialize_compact(full, _encode(claims), self._key, [algorithm])


def make_key(algorithm: str = "ES256") -> SigningKey:
    """A new key for `algorithm`, on an elliptic curve; raises ValueError for any other."""
    curve = _MADE.get(algorithm)
    if curve is None:
        raise ValueError(f"keys are made for {', '.join(_MADE)}, not for {algorithm!r}")
    key = OKPKey.generate_key("Ed25519") if curve == "Ed25519" else _generate_ec(curve)
    return SigningKey((algorithm,), None, key)


def _generate_ec(curve: str) -> ECKey:
    return ECKey.generate_key(curve)


def read_key(material: KeyMaterial, algorithm: str | None = None, key_id: str | None = None) -> SigningKey:
    """Read a private key: an unencrypted PEM, or a JWK, whose "alg" and "kid" count if nothing is given.

    Raises ValueError if it is no private key that can sign with `algorithm`; the message holds nothing of it.
    """
    if isinstance(material, Mapping):
        kinds = [str(material.get("kty"))]
        algorithm = algorithm or material.get("alg")
        key_id = key_id or material.get("kid")
        # "alg" would keep the key from signing with another that it is given for.
        value: Any = {name: part for name, part in material.items() if name != "alg"}
    else:
        kinds, value = list(_READERS), material
    key = next((found for kind in kinds if (found := _import(kind, value)) is not None), None)
    if key is None:
        raise ValueError(
            "the private key cannot be read: it is neither an unencrypted PEM nor a JWK of EC, RSA or OKP"
        )
    if not key.is_private:
        raise ValueError("the key has no private part")
    known = _ALGORITHMS.get("RSA" if isinstance(key, RSAKey) else key.curve_name, ())
    if algorithm is not None:
        if algorithm not in known:
            raise ValueError(f"a key of this kind cannot sign with {algorithm!r}")
        known = (algorithm,)
    if not known:
        raise ValueError("a key of this curve cannot sign")
    return SigningKey(known, key_id, key)


def _import(kind: str, value: Any) -> _Key | None:
    if kind not in _READERS:
        return None
    try:
        return _READERS[kind](value)
    except (JoseError, ValueError, TypeError):
        return None
