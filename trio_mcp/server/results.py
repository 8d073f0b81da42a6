"""What a tool may return beyond plain values, and how values become content.

Owns ToolResult, Image and Audio, and the choice between content blocks and structured content
(MCP tools, "Tool Result"). How a value becomes JSON is decided in `trio_mcp.schema`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from trio_mcp.errors import ReturnError
from trio_mcp.schema.returns import Returns
from trio_mcp.wire.content import (
    AudioContent,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)
from trio_mcp.wire.messages import META_WRAPPED, CallToolResult

FREE: Final = Returns(None, False, Any)
"""Any JSON value, for a ToolResult, which has no schema."""

BLOCKS: Final = (TextContent, ImageContent, AudioContent, ResourceLink, EmbeddedResource)

_MIME_TYPES: Final = {
    "jpg": "image/jpeg",
    "svg": "image/svg+xml",
    "mp3": "audio/mpeg",
}


def _mime_type(kind: str, extension: str) -> str:
    return _MIME_TYPES.get(extension.lower(), f"{kind}/{extension.lower()}")


def _read_bytes(source: bytes | Path) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _find_source(source: Any, data: Any, path: Any) -> bytes | Path:
    """The one of them that was given; raises TypeError if there are several, none, or something else."""
    (given, *more) = [value for value in (source, data, path) if value is not None] or [None]
    if not more and path is None and isinstance(given, bytes):
        return given
    if more or data is not None or not isinstance(given, (str, os.PathLike)):
        raise TypeError("pass bytes or a path: one of source, data (bytes) and path")
    return Path(given)


def _suffix(source: bytes | Path) -> str:
    return source.suffix.lstrip(".") if isinstance(source, Path) else ""


@attrs.frozen(init=False)
class Image:
    """A picture to return: bytes or a path, and its format, for example "png".

    `Image(b"...", "png")`, `Image("chart.png")`, and as elsewhere `Image(data=..., format=...)` and
    `Image(path=...)`. The suffix of a path names the format. Raises TypeError for what is neither.
    """

    source: bytes | Path
    format: str

    def __init__(
        self,
        source: bytes | str | os.PathLike[str] | None = None,
        format: str | None = None,  # noqa: A002  # the name that it has elsewhere
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        found = _find_source(source, data, path)
        self.__attrs_init__(found, _suffix(found) if format is None else format)

    def to_content(self) -> ImageContent:
        """Read and encode it; blocks on the file. Raises OSError if it cannot be read."""
        data = base64.b64encode(_read_bytes(self.source)).decode()
        return ImageContent(data=data, mime_type=_mime_type("image", self.format or "png"))


@attrs.frozen(init=False)
class Audio:
    """A sound to return: bytes or a path, and its format, for example "wav"; made as an `Image` is."""

    source: bytes | Path
    format: str

    def __init__(
        self,
        source: bytes | str | os.PathLike[str] | None = None,
        format: str | None = None,  # noqa: A002  # the name that it has elsewhere
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        found = _find_source(source, data, path)
        self.__attrs_init__(found, _suffix(found) if format is None else format)

    def to_content(self) -> AudioContent:
        """Read and encode it; blocks on the file. Raises OSError if it cannot be read."""
        data = base64.b64encode(_read_bytes(self.source)).decode()
        return AudioContent(data=data, mime_type=_mime_type("audio", self.format or "wav"))


@attrs.frozen(kw_only=True)
class ToolResult:
    """A complete result, for tools that make the content themselves.

    `content` takes text, content blocks, Image and Audio; `structured_content` a
    JSON object. `is_error` marks a failure that the client should see.
    """

    content: list[Any] = attrs.field(factory=list)
    structured_content: dict[str, Any] | None = None
    is_error: bool = False
    meta: dict[str, Any] | None = None


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

CONTENT_TYPES: Final = (*BLOCKS, Image, Audio, ToolResult)


def to_block(value: Any) -> ContentBlock:
    """Turn text, a content block, an Image or an Audio into a content block."""
    if isinstance(value, BLOCKS):
        return value
    if isinstance(value, (Image, Audio)):
        return value.to_content()
    if isinstance(value, str):
        return TextContent(text=value)
    raise ReturnError(f"content must be text or content blocks, not {value!r}")


def reads_files(value: Any, returns: Returns) -> bool:
    """Whether making a result of `value` reads files, which blocks."""
    if type(value) is str:
        return False
    items = value.content if isinstance(value, ToolResult) else find_content(value, returns)
    return any(isinstance(item, (Image, Audio)) and isinstance(item.source, Path) for item in items)


def find_content(value: Any, returns: Returns) -> Iterator[Any]:
    """The content in `value`, in order: itself, or that in its lists and dicts if the annotation is open."""
    if isinstance(value, CONTENT_TYPES):
        yield value
    elif returns.is_open:
        yield from _find_inside(value, set())


def _find_inside(value: Any, seen: set[int]) -> Iterator[Any]:
    if not isinstance(value, (list, tuple, dict)) or id(value) in seen:
        return
    seen.add(id(value))
    for item in value.values() if isinstance(value, dict) else value:
        if type(item) in _SCALARS:
            continue
        if isinstance(item, CONTENT_TYPES):
            yield item
        else:
            yield from _find_inside(item, seen)


def make_result(value: Any, returns: Returns) -> CallToolResult:
    """Build the result of a tool that returned `value`.

    Raises ReturnError if `value` does not fit the annotation or JSON.
    """
    if type(value) is str and returns.schema is None:
        return CallToolResult(content=[TextContent(text=returns.to_builtins(value))])
    if isinstance(value, ToolResult):
        structured = msgspec.UNSET
        if value.structured_content is None and returns.schema is not None and not value.is_error:
            raise ReturnError("a ToolResult of a tool with an output schema needs structured_content")
        if value.structured_content is not None:
            # An error need not be what the schema describes.
            checked = FREE if value.is_error or returns.find_problem is None else returns
            structured = checked.to_builtins(value.structured_content)
            if not isinstance(structured, dict):
                raise ReturnError(f"structured_content must be a JSON object, not {structured!r}")
        return CallToolResult(
            content=[to_block(item) for item in value.content],
            structured_content=structured,
            is_error=value.is_error,
            meta=value.meta,
        )
    if isinstance(value, CONTENT_TYPES):
        return CallToolResult(content=[to_block(value)])
    if any(find_content(value, returns)):
        try:
            return _make_mixed_result(value, returns)
        except RecursionError:
            raise ReturnError("result: it contains itself, or is nested too deeply") from None
    return _make_plain_result(value, returns)


def _make_mixed_result(value: Any, returns: Returns) -> CallToolResult:
    """A container with content in it: the content becomes blocks, all else text and structured content."""
    if not isinstance(value, dict) and returns.schema is None:
        return CallToolResult(content=list(_make_blocks(value)))
    result = _make_plain_result(_without_content(value), returns)
    if isinstance(value, dict):
        blocks = [*result.content, *map(to_block, find_content(value, returns))]
    else:
        blocks = list(_make_blocks(value))
    return msgspec.structs.replace(result, content=blocks)


def _make_blocks(items: Sequence[Any]) -> Iterator[ContentBlock]:
    for item in items:
        if isinstance(item, (str, *CONTENT_TYPES)):
            yield to_block(item)
        else:
            yield from make_result(item, FREE).content


def _without_content(value: Any) -> Any:
    """A copy of the containers in `value`, with None in the place of each content."""
    if isinstance(value, CONTENT_TYPES):
        return None
    if isinstance(value, dict):
        return {key: _without_content(item) for key, item in value.items()}
    return [_without_content(item) for item in value] if isinstance(value, (list, tuple)) else value


def _make_plain_result(value: Any, returns: Returns) -> CallToolResult:
    structured = returns.to_builtins(value)
    if returns.wrapped:
        return CallToolResult(
            content=[TextContent(text=_as_text(structured))],
            structured_content={"result": structured},
            meta={META_WRAPPED: True},
        )
    if structured is None:
        return CallToolResult(content=[])
    return CallToolResult(
        content=[TextContent(text=_as_text(structured))],
        structured_content=structured if isinstance(structured, dict) else msgspec.UNSET,
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
