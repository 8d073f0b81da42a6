"""The answers to requests for a list: a page of it, and how long the client may keep it.

Owns what all lists have in common. Knows nothing of what is listed.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from trio_mcp.server.registry import Registry, Tagged
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.settings import ServerSettings
from trio_mcp.wire.messages import CacheableResult, ListParams


class Limited(Tagged, Protocol):
    """What may be listed for some clients only."""

    @property
    def scopes(self) -> frozenset[str]:
        """What a client must be allowed to use it."""


D = TypeVar("D", bound=Limited)


def read_page(
    request: ServerRequest, registry: Registry[D], settings: ServerSettings
) -> tuple[list[D], str | None]:
    """The page that the client asks for, of what it may use, and the cursor of the next.

    Raises ProtocolError.
    """
    assert isinstance(request.params, ListParams)
    cursor, permit = request.params.cursor, request.connection.permit
    if permit is None or permit.scopes is None:
        return registry.read_page(cursor, settings.page_size)
    return registry.read_page(
        cursor, settings.page_size, lambda definition: not permit.lacks(definition.scopes)
    )


def mark_list(
    request: ServerRequest, result: CacheableResult, settings: ServerSettings, registry: Registry[Any]
) -> CacheableResult:
    """`result` with the server's hint for caches, in eras that have them.

    A list that may look different to other clients is private.
    """
    if settings.list_cache is not None and request.era.modern:
        settings.list_cache.mark(result)
        if result.cache_scope == "public" and any(definition.scopes for definition in registry.all()):
            result.cache_scope = "private"
    return result
