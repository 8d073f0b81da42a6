"""Resources as they travel: how they are listed, and their contents (MCP server features, "Resources").

Owns the results of the resource methods. Their parameters are in `messages`, which every server imports;
this module is imported by those that have resources, and by clients that ask for them.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from trio_mcp.wire.content import Annotations, Icon, ResourceContents
from trio_mcp.wire.messages import CacheableResult


class _Listing(Struct, rename="camel", omit_defaults=True, kw_only=True):
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    annotations: Annotations | None = None
    icons: list[Icon] | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class Resource(_Listing, kw_only=True):
    """A resource as resources/list shows it; `size` is in bytes, before any encoding."""

    uri: str
    size: int | None = None


class ResourceTemplate(_Listing, kw_only=True):
    """Resources whose URIs follow a template (RFC 6570), as resources/templates/list shows them."""

    uri_template: str


class ListResourcesResult(CacheableResult, kw_only=True):
    """One page of resources; without `next_cursor` it is the last."""

    resources: list[Resource]
    next_cursor: str | None = None


class ListResourceTemplatesResult(CacheableResult, kw_only=True):
    """One page of templates; without `next_cursor` it is the last."""

    resource_templates: list[ResourceTemplate]
    next_cursor: str | None = None


class ReadResourceResult(CacheableResult, kw_only=True):
    """What a resource holds: one or several contents, each with its own URI."""

    contents: list[ResourceContents]
