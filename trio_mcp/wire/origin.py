"""Who may enter: the Host and Origin of a request, against DNS rebinding.

Owns the comparison of names. Knows nothing of connections.
"""

from __future__ import annotations

from typing import Final

import attrs

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


def is_loopback_host(host: str) -> bool:
    """Whether a name or address, with or without brackets, is this machine's loopback."""
    return host.lower() in _LOOPBACK or host.startswith("127.")


@attrs.frozen
class Doorkeeper:
    hosts: frozenset[str] | None
    origins: frozenset[str] | None

    @classmethod
    def for_bind(cls, host: str) -> Doorkeeper:
        if not is_loopback_host(host):
            return cls(None, None)
        names = frozenset({"localhost:*", "127.0.0.1:*", "[::1]:*"})
        return cls(names, frozenset(f"{scheme}://{name}" for scheme in ("http", "https") for name in names))

    def refusal(self, host: str | None, origin: str | None) -> str | None:
        if self.hosts is not None and (host is None or not _admits(self.hosts, host)):
            return f"host {host!r} is not allowed here"
        if self.origins is not None and origin is not None and not _admits(self.origins, origin):
            return f"origin {origin!r} is not allowed here"
        return None


def _admits(allowed, value):
    value = value.lower()
    scheme, _, rest = value.rpartition("//")
    name = rest.rpartition(":")[0] if rest.rpartition(":")[2].isdigit() else rest
    base = f"{scheme}//{name}" if scheme else name
    return value in allowed or base in allowed or base + ":*" in allowed
