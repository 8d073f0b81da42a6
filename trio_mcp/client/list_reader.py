"""Reading a list of a server page by page (MCP pagination).

Owns the bound on the pages, and what becomes of a list whose pages are cached in part. Refuses to know what
is listed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

import msgspec
import trio

from trio_mcp.client.result_cache import ResultCache
from trio_mcp.errors import ProtocolError, RemoteProtocolError
from trio_mcp.wire.messages import ListParams, Params

logger = logging.getLogger("trio_mcp.client")

T = TypeVar("T")

PageReader: TypeAlias = Callable[[msgspec.Raw], tuple[Sequence[T], str | None]]
"""Returns the items of a page, and the cursor of the next."""


class ListReader(Generic[T]):
    """Reads one list; `what` is what messages call its items."""

    def __init__(
        self,
        request: Callable[[str, Params], Awaitable[msgspec.Raw]],
        cache: ResultCache,
        method: str,
        what: str,
        read_page: PageReader[T],
        max_pages: int,
    ) -> None:
        self._request = request
        self._cache = cache
        self._method = method
        self._what = what
        self._read_page = read_page
        self._max_pages = max_pages
        self._used_cache = False

    async def read(self, *, refresh: bool) -> list[T]:
        """Read all pages; with `refresh` none of them from the cache. Checkpoints.

        Raises ConnectionLost, ProtocolError and RemoteProtocolError.
        """
        try:
            return await self._read(refresh=refresh)
        except ProtocolError:
            if not self._used_cache:
                raise
        # The cursor of a cached page may be valid no more (MCP caching, "Interaction with Pagination").
        self._cache.forget(self._method)
        return await self._read(refresh=True)

    async def _read(self, *, refresh: bool) -> list[T]:
        """Read every page; an empty cursor ends the list, and so does one that was there before."""
        items: list[T] = []
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(self._max_pages):
            page, cursor = self._read_page(await self._fetch(cursor, refresh=refresh))
            items += page
            if not cursor:
                return items
            if cursor in seen:
                logger.warning(
                    "the server's list of %s repeats the cursor %.100r: it ends here", self._what, cursor
                )
                return items
            seen.add(cursor)
        raise RemoteProtocolError(f"the server's list of {self._what} has more than {self._max_pages} pages")

    async def _fetch(self, cursor: str | None, *, refresh: bool) -> msgspec.Raw:
        cached = None if refresh else self._cache.find(self._method, cursor)
        if cached is not None:
            self._used_cache = True
            await trio.lowlevel.checkpoint()
            return cached
        changes = self._cache.count_changes(self._method)
        raw = await self._request(self._method, ListParams(cursor=cursor))
        self._cache.keep(self._method, cursor, raw, changes)
        return raw
