"""The URLs of a protected server, and the document that says who issues tokens for it (RFC 9728).

Owns where the document is, and what stands in it. Refuses to know tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import attrs
import msgspec

from trio_mcp.transports.asgi.guard import GuardedRequest
from trio_mcp.transports.asgi.types import Scope
from trio_mcp.wire.authorization import (
    PROTECTED_RESOURCE,
    ProtectedResourceMetadata,
    canonical_resource,
    protected_resource_urls,
)

_SCHEMES: Final = {"ws": "http", "wss": "https"}
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def _read_resource(resource: str | None) -> str | None:
    """`resource` in its canonical form; raises ValueError if it is no URL of a server."""
    if resource is not None and "#" in resource:
        raise ValueError(f"resource must not have a fragment, as {resource!r} has (RFC 8707, 2)")
    return None if resource is None else canonical_resource(resource)


@attrs.frozen
class ResourceDescription:
    """What a server says of itself to whoever looks for a token.

    `resource` is the URL by which clients and issuers know it; None stands for the one that a request was
    sent to, as its Host header names it.
    """

    resource: str | None = attrs.field(converter=_read_resource)
    authorization_servers: Sequence[str]
    scopes_supported: Sequence[str] | None
    resource_name: str | None

    def find_resource(self, request: GuardedRequest) -> str | None:
        """The URL of the endpoint, None if the request does not say which host it asks."""
        if self.resource is not None:
            return self.resource
        origin = _find_origin(request)
        return None if origin is None else canonical_resource(origin + _public_path(request))

    def find_metadata_url(self, request: GuardedRequest) -> str | None:
        """Where the document is; None if the request does not say which host it asks."""
        if self.resource is not None:
            return protected_resource_urls(self.resource)[0]
        origin = _find_origin(request)
        if origin is None:
            return None
        # Below a mount the application is not asked for the paths of the host itself.
        root = _quote(request.scope.get("root_path", ""))
        below = _public_path(request).removeprefix(root)
        return origin + root + PROTECTED_RESOURCE + ("" if below == "/" else below)

    def find_path(self, scope: Scope, paths: Collection[str]) -> str | None:
        """The one of the endpoint's `paths` whose document is at the path of `scope`, or None."""
        root, path = scope.get("root_path", ""), scope["path"]
        for asked in (path, path.removeprefix(root)):
            if not asked.startswith(PROTECTED_RESOURCE):
                continue
            rest = asked.removeprefix(PROTECTED_RESOURCE).rstrip("/")
            found = next((one for one in paths if one.rstrip("/") == rest), None)
            if found is not None:
                return found
            # The document of the root stands for the endpoint, too, and so does that of the configured URL.
            if self.resource is not None and asked == _path_of(protected_resource_urls(self.resource)[0]):
                return next(iter(paths))
            if not rest:
                return "" if root else next(iter(paths))  # below a mount, that is an endpoint itself
        return None

    def encode(self, request: GuardedRequest) -> bytes | None:
        """The document, as JSON; None if the request does not say which host it asks."""
        resource = self.find_resource(request)
        if resource is None:
            return None
        metadata = ProtectedResourceMetadata(
            resource=resource,
            authorization_servers=list(self.authorization_servers) or None,
            scopes_supported=None if self.scopes_supported is None else list(self.scopes_supported),
            bearer_methods_supported=["header"],
            resource_name=self.resource_name,
        )
        return msgspec.json.encode(metadata)


def _find_origin(request: GuardedRequest) -> str | None:
    """The scheme and host that a client has asked; None if the header is missing or names none."""
    scheme, host = request.scope.get("scheme") or "http", request.headers.get("host", "")
    if not _AUTHORITY.fullmatch(host):
        return None
    try:
        return canonical_resource(f"{_SCHEMES.get(scheme, scheme)}://{host}")
    except ValueError:
        return None


def _public_path(request: GuardedRequest) -> str:
    """The path of the endpoint as its clients see it: below a mount, or that of the mount itself."""
    root, path = request.scope.get("root_path", ""), request.scope["path"]
    rest = path.removeprefix(root) if root else path
    return _quote(root if root and rest in ("", "/") else root + request.path)


def _quote(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=")  # what a segment of a path may have (RFC 3986, 3.3)


def _path_of(url: str) -> str:
    """The path of a URL as an ASGI scope has it, decoded."""
    return unquote(urlsplit(url).path)
