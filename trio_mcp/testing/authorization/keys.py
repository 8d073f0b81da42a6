"""The keys with which the authorization server signs.

Owns which key signs and which keys are published, and their rotation. Refuses to know what is signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_mcp.testing.authorization import jose


class SigningKeys:
    """The key that signs, and those before it that are still published."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._count = 1
        self._keys = [jose.generate_key(algorithm, "key-1")]  # the last one signs

    def __repr__(self) -> str:
        return f"<SigningKeys: {', '.join(self.ids)}>"

    @property
    def ids(self) -> list[str]:
        """The ids of the published keys, oldest first."""
        return [str(key.kid) for key in self._keys]

    @property
    def current(self) -> jose.Key:
        """The private key that signs."""
        return self._keys[-1]

    def rotate(self, *, keep: int = 1) -> str:
        """Sign with a new key from now on, and return its id; the last `keep` old ones stay published."""
        self._count += 1
        self._keys.append(jose.generate_key(self.algorithm, f"key-{self._count}"))
        del self._keys[: -1 - keep]
        return self.ids[-1]

    def document(self) -> Mapping[str, Any]:
        """The public keys (RFC 7517, section 5)."""
        return {"keys": [key.as_dict(private=False) for key in self._keys]}

    def sign(self, claims: Mapping[str, Any], typ: str = "JWT") -> str:
        """Sign `claims` with the current key."""
        return jose.sign(claims, self.current, self.algorithm, typ)

    def verify(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The header and the claims of a token of ours; raises InvalidJwt, also once its key has gone."""
        return jose.verify(token, jose.KeySet(list(self._keys)), [self.algorithm])
