"""Resources as a client lists and reads them (MCP server features, "Resources").

Owns the reading of the server's answers: what is readable of a flawed one is kept.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs
import msgspec
import trio
from msgspec import UnsetType

from trio_mcp.client.link import Link
from trio_mcp.client.progress_request import ProgressRequest
from trio_mcp.errors import RemoteProtocolError
from trio_mcp.handlers.sink import ProgressHandler, ProgressSink
from trio_mcp.wire.content import ResourceContents
from trio_mcp.wire.messages import ReadResourceParams
from trio_mcp.wire.resources import (
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
)
from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly

T = TypeVar("T")


@attrs.frozen
class ReadResult:
    """What `Client.read_resource` has read.

    `contents` are one or several, each with a `text` or a `blob` in base64. `meta` is the result's `_meta`.
    """

    contents: Sequence[ResourceContents]
    meta: Mapping[str, Any]

    @property
    def text(self) -> str:
        """All texts, joined by newlines."""
        return "\n".join(item.text for item in self.contents if item.text is not None)

    @property
    def data(self) -> str | bytes | None:
        """The text or the decoded bytes of a single content; None if there are several."""
        if len(self.contents) != 1:
            return None
        (item,) = self.contents
        return item.text if item.blob is None else base64.b64decode(item.blob)


async def list_resources(link: Link, *, refresh: bool) -> list[Resource]:
    """See `Client.list_resources`."""

    def read_page(raw: msgspec.Raw) -> tuple[Sequence[Resource], str | None]:
        page = _decode(raw, ListResourcesResult, "the server's list of resources")
        return page.resources, page.next_cursor

    return await link.list_pages("resources/list", "resources", read_page, refresh=refresh)


async def list_templates(link: Link, *, refresh: bool) -> list[ResourceTemplate]:
    """See `Client.list_resource_templates`."""

    def read_page(raw: msgspec.Raw) -> tuple[Sequence[ResourceTemplate], str | None]:
        page = _decode(raw, ListResourceTemplatesResult, "the server's list of resource templates")
        return page.resource_templates, page.next_cursor

    return await link.list_pages("resources/templates/list", "resource templates", read_page, refresh=refresh)


async def read_resource(
    link: Link,
    uri: str,
    handler: ProgressHandler | ProgressSink | None,
    idle_timeout: float | None,
    max_timeout: float | None,
    *,
    refresh: bool,
) -> ReadResult:
    """See `Client.read_resource`."""
    what, method = f"resource {uri!r}", "resources/read"
    params = ReadResourceParams(uri=uri)
    request = ProgressRequest(link, method, params, what, handler, idle_timeout, max_timeout)
    raw = None if refresh else link.cache.find(method, uri)
    if raw is None:
        changes = link.cache.count_changes(method)
        raw = await request.run()
        # What depends on the answers to questions is of this one request.
        if isinstance(params.input_responses, UnsetType) and isinstance(params.request_state, UnsetType):
            link.cache.keep(method, uri, raw, changes)
    else:
        await trio.lowlevel.checkpoint()
    result = _decode(raw, ReadResourceResult, what)
    if result.result_type not in (None, "complete"):
        raise RemoteProtocolError(f"the server sent a result of the unknown type {result.result_type!r}")
    for item in result.contents:
        _check_blob(item)
    return ReadResult(result.contents, result.meta or {})


def _check_blob(item: ResourceContents) -> None:
    if item.blob is None:
        return
    try:
        base64.b64decode(item.blob, validate=True)
    except ValueError as error:
        raise RemoteProtocolError(f"the blob of {item.uri!r} is no base64: {error}") from None


def _decode(raw: msgspec.Raw, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:
        found: T = read_tolerantly(raw, kind, what)
        return found
    except UNREADABLE as error:
        raise RemoteProtocolError(f"{what} is malformed: {error}") from None
