"""Where the requests of authorization may go: no plain http, and no way into the network of the client.

A server that is not trusted names the URLs of its metadata and of its authorization server, so each is
checked, and the addresses of its host are the only ones that are connected to (MCP security best practices,
"Server-Side Request Forgery"). Owns these rules. Sends nothing.
"""

from __future__ import annotations

import enum
import ipaddress
import ssl
from typing import Final, TypeAlias

import attrs
import trio

from trio_mcp.errors import DiscoveryError
from trio_mcp.transports.http.address import Address, parse_address
from trio_mcp.wire.origin import is_loopback_host

_IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Reach(enum.IntEnum):
    """How far an address is from this machine; who is nearer may name what is farther, not the reverse."""

    INTERNET = 0
    PRIVATE = 1
    LOOPBACK = 2
    NEVER = 3
    """Link-local addresses, at which clouds keep credentials, and those that belong to no one machine."""


def find_reach(address: str) -> Reach:
    """The reach of an IP address; raises ValueError if it is none."""
    parsed = _unwrap(ipaddress.ip_address(address.partition("%")[0]))
    if parsed.is_loopback:
        return Reach.LOOPBACK
    if parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return Reach.NEVER
    return Reach.INTERNET if parsed.is_global else Reach.PRIVATE


def _unwrap(address: _IPAddress) -> _IPAddress:
    """The IPv4 address to which packets for an IPv6 address go in the end, if there is one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        return inner or address
    return address


def _literal_reach(host: str) -> Reach | None:
    """The reach of a host that is an address or this machine; None for any other name."""
    if is_loopback_host(host):
        return Reach.LOOPBACK
    try:
        return find_reach(host)
    except ValueError:
        return None


@attrs.frozen
class UrlPolicy:
    """Which URLs may be asked for one server; `reach` is the nearest that they may be.

    With `allow_private` every address of a machine is allowed, and plain http to those that are not on the
    internet. `ssl_context` says which certificates are trusted, instead of the usual ones. The origin of the
    server itself may be asked wherever it is.
    """

    origin: str = ""
    reach: Reach = Reach.INTERNET
    allow_private: bool = False
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)

    @classmethod
    def for_server(
        cls, url: str, *, allow_private: bool = False, ssl_context: ssl.SSLContext | None = None
    ) -> UrlPolicy:
        """The policy for what the server at `url`, an http:// or https:// URL, names.

        A server on this machine may name anything but link-local addresses, one with a private address what
        is not on this machine, and every other server only what is on the internet.
        """
        address = parse_address(url)
        reach = _literal_reach(address.host) or Reach.INTERNET
        near = Reach.INTERNET if reach is Reach.NEVER else reach
        return cls(address.origin, near, allow_private, ssl_context)

    def check(self, url: str, what: str) -> Address:
        """Read a URL, and check what can be checked without a name server. `what` names it in messages.

        Raises DiscoveryError if it may not be used.
        """
        try:
            address = parse_address(url)
        except ValueError:
            raise DiscoveryError(f"{what} {url!r} is no http:// or https:// URL") from None
        if address.has_credentials or "#" in url:
            raise DiscoveryError(f"{what} of {address.origin} holds credentials or a fragment")
        reach = _literal_reach(address.host)
        if reach is not None:
            self._require(reach, address, what)
        if address.scheme == "http" and not (reach is Reach.LOOPBACK or self.allow_private):
            raise DiscoveryError(
                f"{what} {url!r} must be https; plain http is for this machine, and with allow_private=True "
                f"for a private network"
            )
        return address

    async def resolve(self, address: Address, what: str) -> Address:
        """Pin `address` to those IP addresses of its host that may be asked; checkpoints.

        Raises DiscoveryError if there is none, and OSError if the host is not known.
        """
        found = await trio.socket.getaddrinfo(address.host, address.port, type=trio.socket.SOCK_STREAM)
        pinned = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        for one in pinned:
            self._require(find_reach(one), address, what)
        return attrs.evolve(address, pinned=pinned)

    def _require(self, reach: Reach, address: Address, what: str) -> None:
        if address.scheme == "http" and reach is Reach.INTERNET:
            raise DiscoveryError(f"{what} of {address.origin} must be https")
        if reach <= self.reach or address.origin == self.origin or self.allow_private:
            return
        raise DiscoveryError(
            f"{what} of {address.origin} leads into a network that {self.origin or 'its source'} must not "
            f"name; allow_private=True allows it"
        )
