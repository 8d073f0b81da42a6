"""The answers to requests for a list: a page of it, and how long the client may keep it.

Owns what all lists have in common. Knows nothing of what is listed.
"""

from __future__ import annotations

from typing import TypeVar

from trio_mcp.server.registry import Registry
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.settings import ServerSettings
from trio_mcp.wire.messages import CacheableResult, ListParams

D = TypeVar("D")


def read_page(
    request: ServerRequest, registry: Registry[D], settings: ServerSettings
) -> tuple[list[D], str | None]:
    """The page that the client asks for, and the cursor of the next; raises ProtocolError."""
    assert isinstance(request.params, ListParams)
    return registry.read_page(request.params.cursor, settings.page_size)


def mark_list(request: ServerRequest, result: CacheableResult, settings: ServerSettings) -> CacheableResult:
    """`result` with the server's hint for caches, in eras that have them."""
    if settings.list_cache is not None and request.era.modern:
        settings.list_cache.mark(result)
    return result
