"""Proof Key for Code Exchange: only who began an authorization can redeem its code (RFC 7636, S256).

Owns the pair. Knows no request.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

import attrs


def _make_verifier() -> str:
    return secrets.token_urlsafe(48)  # 64 characters; the fewest are 43


@attrs.frozen
class ProofKey:
    """The secret `verifier` of one authorization, and the `challenge` that is made of it."""

    verifier: str = attrs.field(factory=_make_verifier, repr=False)

    @property
    def challenge(self) -> str:
        """The SHA-256 of the verifier, in base64 for URLs and without padding."""
        digest = hashlib.sha256(self.verifier.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
