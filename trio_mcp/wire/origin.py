"""Which requests from the network are let in: the allow-lists of Host and Origin.

Owns the comparison, which keeps web pages out of servers on this machine (DNS
rebinding; MCP Streamable HTTP, "Security Warning"). Knows no socket and no
handshake: its input is two header values, its output a reason to refuse.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

import attrs

LOOPBACK_NAMES: Final = frozenset({"localhost:*", "127.0.0.1:*", "[::1]:*"})
"""The names of a loopback address in a Host or Origin header, with any port."""


def is_loopback_host(host: str) -> bool:
    """Whether `host`, a name or an address, in brackets or not, can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    # The address of an IPv4 peer on an IPv6 socket.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _read_hosts(entries: Iterable[str] | None) -> frozenset[str] | None:
    return _normalise(entries, with_schemes=False)


def _read_origins(entries: Iterable[str] | None) -> frozenset[str] | None:
    return _normalise(entries, with_schemes=True)


def _normalise(entries: Iterable[str] | None, *, with_schemes: bool) -> frozenset[str] | None:
    if entries is None:
        return None
    if isinstance(entries, str):
        raise TypeError(f"an allow-list is a set of names, not one string: {entries!r}")
    lowered = frozenset(entry.lower() for entry in entries)
    for entry in lowered:
        if _split(entry.rpartition("://")[2] if with_schemes else entry) is None:
            raise ValueError(f'{entry!r} is none of "name", "name:port" and "name:*" (IPv6 in brackets)')
    return lowered


@attrs.frozen
class Doorkeeper:
    """The allow-lists of one server; None allows all.

    An entry is "name" (without a port), "name:port" or "name:*" (any port or none),
    an IPv6 address in brackets; an entry of `origins` may have a scheme before it
    ("https://name"), and has any scheme otherwise. Case does not matter. Raises
    ValueError for an entry of another form, TypeError for a lone string.
    """

    hosts: frozenset[str] | None = attrs.field(default=None, converter=_read_hosts)
    origins: frozenset[str] | None = attrs.field(default=None, converter=_read_origins)

    @classmethod
    def for_bind(
        cls, host: str, hosts: Iterable[str] | None = None, origins: Iterable[str] | None = None
    ) -> Doorkeeper:
        """The doorkeeper of a server bound to `host`: only loopback names for a loopback address, else all.

        `hosts` and `origins` replace these defaults; a list with "*" in it allows all.
        """
        default: frozenset[str] | None = None
        if is_loopback_host(host):
            bound = f"[{host}]" if ":" in host and not host.startswith("[") else host
            default = LOOPBACK_NAMES | {f"{bound}:*"}
        return cls(_choose(hosts, default), _choose(origins, default))

    def refusal(self, host: str | None, origin: str | None) -> str | None:
        """Why a request with these header values is refused, or None if it is let in.

        A request without an Origin does not come from a web page; one without a Host is
        let in only if every host is.
        """
        if self.hosts is not None:
            if host is None:
                return "the request has no Host header"
            if not _is_listed(host.lower(), self.hosts):
                return f"the host {host!r} is not allowed here"
        if self.origins is not None and origin is not None:
            scheme, _, authority = origin.lower().rpartition("://")
            listed = {entry.removeprefix(f"{scheme}://") for entry in self.origins}
            if not scheme or not _is_listed(authority, listed):
                return f"the origin {origin!r} is not allowed here"
        return None


def _choose(given: Iterable[str] | None, default: frozenset[str] | None) -> Iterable[str] | None:
    if given is None or isinstance(given, str):  # `Doorkeeper` refuses a lone string
        return default if given is None else given
    entries = frozenset(given)
    return None if "*" in entries else entries


def _is_listed(authority: str, entries: Iterable[str]) -> bool:
    parts = _split(authority)
    if parts is None or parts[1] == "*":
        return False
    name, port = parts
    return authority in entries or f"{name}:*" in entries or (port is None and name in entries)


def _split(authority: str) -> tuple[str, str | None] | None:
    """The name and the port of an authority, or None if it is not well-formed."""
    name, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        name, colon, port = authority, "", ""
    if colon and port != "*" and not (port.isascii() and port.isdigit()):
        return None
    bracketed = name.startswith("[") and name.endswith("]")
    if not name or any(mark in name for mark in "/@?# \t") or (":" in name and not bracketed):
        return None
    return name, port if colon else None
