"""The seal of what a client carries from round to round: nobody can read it, alter it or make one.

Owns the cipher and the rotation of its keys. Knows nothing of what is sealed. It is imported when a call of
the modern era first asks its client, because the cipher takes long to import.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_PURPOSE: Final = b"trio_mcp requestState v1\0"
"""Goes into each key of the cipher, so that a secret that has other uses as well seals nothing else."""


class StateSeal:
    """Seals by the first of `keys`, and opens what any of them has sealed; without keys, by a random one."""

    def __init__(self, keys: Sequence[bytes | str] = ()) -> None:
        secret = [key.encode() if isinstance(key, str) else key for key in keys] or [secrets.token_bytes(32)]
        self._fernet = MultiFernet([Fernet(_derive(key)) for key in secret])

    def seal(self, content: bytes) -> str:
        """Encrypt and sign `content`; returns text of ASCII letters, digits, "-", "_" and "="."""
        return self._fernet.encrypt(content).decode()

    def open(self, sealed: str) -> bytes | None:
        """What was sealed; None if `sealed` was altered, or was not made by any of the keys."""
        try:
            # The cipher would skip characters that do not belong there.
            if base64.urlsafe_b64encode(base64.b64decode(sealed, b"-_", validate=True)) != sealed.encode():
                return None
            return self._fernet.decrypt(sealed)
        except (InvalidToken, binascii.Error, ValueError):
            return None


def _derive(key: bytes) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(_PURPOSE + key).digest())
