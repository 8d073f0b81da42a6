"""Idempotency keys: what may be one, and how a server declares that it knows them.

Owns what client and server must agree on. Refuses to know what becomes of a call with a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trio_mcp.wire.messages import META_IDEMPOTENCY_KEY

MAX_KEY_CHARACTERS: Final = 255
"""As other services that take such keys allow: much more than a UUID needs."""


def find_problem(key: object) -> str | None:
    """What is wrong with a key, or None."""
    if not isinstance(key, str):
        return f"an idempotency key must be a string, not {type(key).__name__}"
    if not 0 < len(key) <= MAX_KEY_CHARACTERS:
        return f"an idempotency key must have 1 to {MAX_KEY_CHARACTERS} characters, not {len(key)}"
    if not (key.isascii() and key.isprintable() and " " not in key):
        return "an idempotency key must consist of visible ASCII characters"
    return None


def declares_keys(capabilities: Mapping[str, Any]) -> bool:
    """Whether a server with these capabilities knows keys."""
    experimental = capabilities.get("experimental")
    return isinstance(experimental, Mapping) and META_IDEMPOTENCY_KEY in experimental
