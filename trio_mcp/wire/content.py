"""The content blocks of a tool's result (MCP server features, "Tool Result").

Owns their JSON shape. They are msgspec Structs because they are encoded and
decoded without conversion; field names are snake_case in Python, camelCase on the wire.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct, field


class Annotations(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Hints for the display of the content: audience, priority (0 to 1), last_modified (ISO 8601)."""

    audience: list[str] | None = None
    priority: float | None = None
    last_modified: str | None = None


class _Block(Struct, rename="camel", omit_defaults=True, kw_only=True, tag_field="type"):
    annotations: Annotations | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class TextContent(_Block, kw_only=True, tag="text"):
    """Plain text."""

    text: str


class ImageContent(_Block, kw_only=True, tag="image"):
    """An image: `data` is base64 text, `mime_type` for example "image/png"."""

    data: str
    mime_type: str


class AudioContent(_Block, kw_only=True, tag="audio"):
    """A sound: `data` is base64 text, `mime_type` for example "audio/wav"."""

    data: str
    mime_type: str


class Icon(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A picture for a user interface: `src` is an https or data URI."""

    src: str
    mime_type: str | None = None
    sizes: list[str] | None = None
    theme: str | None = None


class ResourceLink(_Block, kw_only=True, tag="resource_link"):
    """A pointer to a resource; `size` is in bytes."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    icons: list[Icon] | None = None


class ResourceContents(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The contents of a resource: either `text`, or `blob` as base64 text."""

    uri: str
    mime_type: str | None = None
    text: str | None = None
    blob: str | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class EmbeddedResource(_Block, kw_only=True, tag="resource"):
    """The contents of a resource, in place."""

    resource: ResourceContents


ContentBlock: TypeAlias = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource


def as_older_block(block: ContentBlock) -> ContentBlock:
    """The same content for clients that know neither sounds (2024-11-05) nor links (before 2025-06-18)."""
    if not isinstance(block, (AudioContent, ResourceLink)):
        return block
    if isinstance(block, AudioContent):
        sound = ResourceContents(uri="attachment:audio", mime_type=block.mime_type, blob=block.data)
        return EmbeddedResource(resource=sound, annotations=block.annotations, meta=block.meta)
    described = "" if block.description is None else f" ({block.description})"
    text = f"{block.title or block.name}{described}: {block.uri}"
    return TextContent(text=text, annotations=block.annotations, meta=block.meta)
