"""Which requests from the network are let in: the allow-lists of Host and Origin.

Owns the comparison, which keeps web pages out of servers on this machine (DNS
rebinding; MCP Streamable HTTP, "Security Warning"). Knows no socket and no
handshake: its input is two header values, its output a reason to refuse.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import attrs

LOOPBACK_NAMES: Final = frozenset({"localhost:*", "127.0.0.1:*", "[::1]:*"})
"""The names of a loopback address in a Host or Origin header, with any port."""

_MAX_PORT: Final = 65_535
_DEFAULT_PORTS: Final = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
# A reg-name without percent-encoding (RFC 3986, 3.2.2), or an IP literal without a zone.
_AUTHORITY: Final = re.compile(
    r"(?:(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)|\[(?P<literal>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>0|[1-9][0-9]{0,4}))?"
)


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


@attrs.frozen
class _Authority:
    """A host, lower-case and in its shortest form, and a port: a number, "*" for any, or None for none."""

    name: str
    port: str | None


@attrs.frozen
class _Origin:
    """An origin of an allow-list; no scheme stands for any."""

    scheme: str | None
    authority: _Authority

    def admits(self, scheme: str, origin: _Authority) -> bool:
        if self.scheme not in (None, scheme):
            return False
        # A browser leaves out the port that is the default of the scheme.
        default = _DEFAULT_PORTS.get(scheme)
        return _admits(self.authority, origin) or (
            default is not None
            and self.authority.port != "*"
            and self.authority.name == origin.name
            and (self.authority.port or default) == (origin.port or default)
        )


def _admits(entry: _Authority, given: _Authority) -> bool:
    return entry.name == given.name and (entry.port == "*" or entry.port == given.port)


def _read_hosts(entries: Iterable[str] | None) -> frozenset[_Authority] | None:
    if entries is None:
        return None
    return frozenset(_read_entry(entry, entry) for entry in _check_list(entries))


def _read_origins(entries: Iterable[str] | None) -> frozenset[_Origin] | None:
    if entries is None:
        return None
    origins = set()
    for entry in _check_list(entries):
        scheme, mark, authority = entry.rpartition("://")
        if mark and not _SCHEME.fullmatch(scheme.lower()):
            raise _bad_entry(entry)
        origins.add(_Origin(scheme.lower() or None, _read_entry(authority, entry)))
    return frozenset(origins)


def _check_list(entries: Iterable[str]) -> Iterable[str]:
    if isinstance(entries, str):
        raise TypeError(f"an allow-list is a set of names, not one string: {entries!r}")
    return entries


def _read_entry(authority: str, entry: str) -> _Authority:
    if not authority.isascii():
        try:
            authority = authority.encode("idna").decode()  # as browsers send it
        except UnicodeError:
            raise _bad_entry(entry) from None
    read = _read_authority(authority.removesuffix(":*"))
    if read is None or (read.port is not None and authority.endswith(":*")):
        raise _bad_entry(entry)
    return _Authority(read.name, "*") if authority.endswith(":*") else read


def _bad_entry(entry: str) -> ValueError:
    return ValueError(f'{entry!r} is none of "name", "name:port" and "name:*" (IPv6 in brackets)')


@attrs.frozen
class Doorkeeper:
    """The allow-lists of one server; None allows all.

    An entry is "name" (without a port), "name:port" or "name:*" (any port or none),
    an IPv6 address in brackets; an entry of `origins` may have a scheme before it
    ("https://name"), and has any scheme otherwise. Case does not matter, nor how an IPv6
    address is abbreviated, nor whether an origin names the default port of its scheme. A
    name that is not ASCII is compared in its ASCII form (IDNA), which browsers send. Raises
    ValueError for an entry of another form, TypeError for a lone string.
    """

    hosts: frozenset[_Authority] | None = attrs.field(default=None, converter=_read_hosts)
    origins: frozenset[_Origin] | None = attrs.field(default=None, converter=_read_origins)

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
            named = _read_authority(host)
            if named is None or not any(_admits(entry, named) for entry in self.hosts):
                return f"the host {host!r} is not allowed here"
        if self.origins is not None and origin is not None:
            scheme, _, authority = origin.partition("://")
            named = _read_authority(authority)
            is_origin = named is not None and _SCHEME.fullmatch(scheme.lower())
            if not is_origin or not self._admits_origin(scheme.lower(), named):
                return f"the origin {origin!r} is not allowed here"
        return None

    def _admits_origin(self, scheme: str, named: _Authority | None) -> bool:
        if self.origins is None or named is None:
            return False
        return any(entry.admits(scheme, named) for entry in self.origins)


def _choose(given: Iterable[str] | None, default: frozenset[str] | None) -> Iterable[str] | None:
    if given is None or isinstance(given, str):  # `Doorkeeper` refuses a lone string
        return default if given is None else given
    entries = frozenset(given)
    return None if "*" in entries else entries


@lru_cache(64)  # clients send the same one each time
def _read_authority(authority: str) -> _Authority | None:
    """A host with or without a port, and nothing else; None if `authority` is anything else."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    name, literal, port = match["name"], match["literal"], match["port"]
    if port is not None and int(port) > _MAX_PORT:
        return None
    if literal is None:
        return _Authority(name.lower(), port)
    try:
        return _Authority(f"[{ipaddress.IPv6Address(literal)}]", port)
    except ValueError:
        return None
