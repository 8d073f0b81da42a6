"""The address in a URL, and whether the environment puts a proxy before it.

Owns the reading of plain URLs and of the proxy variables. A URL that is not plain (credentials, names
beyond ASCII, dot segments) is read by httpx2. Opens no connection.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

import attrs

_PORTS: Final = {"http": 80, "https": 443}

_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_PLAIN_URL: Final = re.compile(
    rf"(?P<scheme>https?)://"
    rf"(?P<host>{_OCTET}(?:\.{_OCTET}){{3}}|(?:{_LABEL}\.)*[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/(?!\.)(?:[A-Za-z0-9_~!$&'()*+,;=:@%-]|/(?!\.)|(?<!/)\.)*)?"
    r"(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
"""URLs that every parser reads alike and leaves as they are, but for the case of the host."""


@attrs.frozen
class Address:
    """What a URL of a server says; the host is ASCII, and an IPv6 address has no brackets."""

    scheme: str
    host: str
    port: int
    target: str
    """The path and the query, as a request line has them."""
    has_credentials: bool = False
    pinned: tuple[str, ...] = ()
    """The IP addresses that are connected to, one after the other, in place of those of the host."""

    @property
    def netloc(self) -> str:
        """Host and port, as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def parse_address(url: str) -> Address:
    """Read a URL; raises ValueError unless it can be that of a server."""
    match = _PLAIN_URL.fullmatch(url)
    if match is None:
        return _parse_with_httpx2(url)
    scheme, host, port, path, query = match.group("scheme", "host", "port", "path", "query")
    target = (path or "/") + (query or "")
    return Address(scheme, host.lower(), _PORTS[scheme] if port is None else int(port), target)


def _parse_with_httpx2(url: str) -> Address:
    try:
        import httpx2
    except ImportError as error:
        raise ImportError(f"the URL {url!r} needs httpx2: pip install 'trio-mcp[http]'") from error
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None
    if parsed.scheme not in _PORTS or not parsed.host:
        raise ValueError(f"{url!r} is no http:// or https:// URL with a host")
    return Address(
        parsed.scheme,
        parsed.raw_host.decode("ascii"),
        parsed.port or _PORTS[parsed.scheme],
        parsed.raw_path.decode("ascii"),
        has_credentials=bool(parsed.userinfo),
    )


def may_have_proxy(address: Address) -> bool:
    """Whether the environment may assign a proxy to `address`; False only if it surely does not.

    On macOS and Windows the settings of the system count as well. What NO_PROXY excludes in
    less common ways than by name, suffix or address is for httpx2 to find out.
    """
    if sys.platform not in ("darwin", "win32") and not any(
        name.lower().endswith("_proxy") for name in os.environ
    ):
        return False
    from urllib.request import getproxies  # here, because it takes long and few need it

    proxies = getproxies()
    if not (proxies.get(address.scheme) or proxies.get("all")):
        return False
    excluded = [entry.strip().lower() for entry in proxies.get("no", "").split(",")]
    return not any(_excludes(entry, address.host) for entry in excluded)


def _excludes(entry: str, host: str) -> bool:
    if entry in ("*", host, f"[{host}]"):
        return True
    is_suffix = bool(entry.strip(".")) and not any(char in entry for char in "*:/[") and entry != "localhost"
    return is_suffix and host.endswith("." + entry.lstrip("."))
