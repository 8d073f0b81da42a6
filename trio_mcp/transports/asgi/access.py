"""Which requests are let in: the allow-lists of Host and Origin for each address of this host, and CORS.

Owns the lists, and the headers by which browsers are let in. Refuses to know what a request asks
for, and how a refusal looks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from trio_mcp.transports.asgi.types import Scope
from trio_mcp.wire.http import SESSION_HEADER
from trio_mcp.wire.origin import Doorkeeper

METHODS: Final = "POST, GET, DELETE"
"""The methods of an endpoint, as the headers of `Allow` and CORS list them."""

MAX_ADDRESSES: Final = 64
"""How many addresses of this host are remembered; there are more only if the ASGI host makes them up."""


class Access:
    """The allow-lists of one endpoint; None stands for the default of the address (`Doorkeeper.for_bind`)."""

    def __init__(
        self,
        hosts: Collection[str] | None,
        origins: Collection[str] | None,
        cors_origins: frozenset[str],
        *,
        is_guarded: bool = False,
    ) -> None:
        self._hosts = hosts
        self._origins = origins
        self._cors_origins = cors_origins
        self._exposed = f"{SESSION_HEADER}, www-authenticate" if is_guarded else SESSION_HEADER
        self._doorkeepers: dict[str, Doorkeeper] = {}  # at most MAX_ADDRESSES

    @property
    def has_cors(self) -> bool:
        """Whether web pages of any other origin are let in."""
        return bool(self._cors_origins)

    def refusal(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        """Why a request is not let in, or None if it is."""
        server = scope.get("server")
        host = str(server[0]) if server and server[1] is not None else ""
        keeper = self._doorkeepers.get(host)
        if keeper is None:
            if len(self._doorkeepers) >= MAX_ADDRESSES:
                self._doorkeepers.clear()
            keeper = Doorkeeper.for_bind(host, self._hosts, self._origins)
            self._doorkeepers[host] = keeper
        origin = headers.get("origin")
        return keeper.refusal(headers.get("host"), None if self._is_cors(origin) else origin)

    def cors_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers of a response by which a browser hands it to its page."""
        origin = headers.get("origin")
        if origin is None or not self._is_cors(origin):
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": self._exposed,
            "vary": "origin",
        }

    def preflight_headers(self, headers: Mapping[str, str], methods: str = METHODS) -> dict[str, str]:
        """The headers that answer a browser's OPTIONS request: everything it wants is allowed."""
        allowed = {"access-control-allow-methods": methods, "access-control-max-age": "600"}
        wanted = headers.get("access-control-request-headers")
        if wanted:
            allowed["access-control-allow-headers"] = wanted
        return allowed

    def _is_cors(self, origin: str | None) -> bool:
        return origin is not None and bool(self._cors_origins & {origin, "*"})
