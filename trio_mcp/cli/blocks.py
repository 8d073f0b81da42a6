"""Content blocks of results and messages as text for a command line.

Owns the words for blocks that are no text.
"""

from __future__ import annotations

from trio_mcp.wire.content import AudioContent, ContentBlock, ImageContent, ResourceLink, TextContent


def as_text(block: ContentBlock) -> str:
    """The text of a block, or a few words for what is none."""
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ResourceLink):
        return block.uri
    if isinstance(block, (ImageContent, AudioContent)):
        return f"[{block.mime_type}, {len(block.data) * 3 // 4:,} bytes]"
    return block.resource.text if block.resource.text is not None else f"[{block.resource.uri}]"
