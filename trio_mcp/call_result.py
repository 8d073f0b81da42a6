"""The result of a tool call.

Owns the result as the caller sees it, who is a client or another tool. The result as it travels is
in `trio_mcp.wire.messages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic

import attrs
import msgspec

from trio_mcp.errors import RemoteProtocolError, ToolError
from trio_mcp.wire.content import ContentBlock, TextContent
from trio_mcp.wire.messages import META_WRAPPED, CallToolResult
from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    D_co = TypeVar("D_co", default=Any, covariant=True)
else:
    from typing import TypeVar

    # The default, by which `CallResult` alone is `CallResult[Any]`, is only there for type checkers.
    D_co = TypeVar("D_co", covariant=True)

_COMPLETE: Final = frozenset({None, "complete"})


@attrs.frozen
class CallResult(Generic[D_co]):
    """The result of `call_tool`, of a client or of a Context.

    `content` is the list of content blocks, `structured_content` the JSON value
    that came with them or None. `data` is the value itself: what a tool returned under its
    own annotation, or else the text of a result that is a single text, or else None. It is
    converted to `result_type` if one was given, and for a type checker it then has that type:
    `call_tool(..., result_type=Photo)` returns a `CallResult[Photo]`. The data of an error, which is
    returned only without `raise_on_error`, is not converted.
    """

    content: Sequence[ContentBlock]
    structured_content: Any
    is_error: bool
    data: D_co
    meta: Mapping[str, Any]

    @property
    def text(self) -> str:
        """All text blocks, joined by newlines."""
        return "\n".join(block.text for block in self.content if isinstance(block, TextContent))


def read_result(raw: msgspec.Raw, result_type: Any) -> CallResult[Any]:
    """Decode a tool's result; raises RemoteProtocolError if it is malformed."""
    try:
        result = msgspec.json.decode(raw, type=CallToolResult)
    except (msgspec.MsgspecError, RecursionError):
        result = _read_flawed(raw)
    if result.result_type not in _COMPLETE:
        raise RemoteProtocolError(f"the server sent a result of the unknown type {result.result_type!r}")
    structured = (
        None if isinstance(result.structured_content, msgspec.UnsetType) else result.structured_content
    )
    meta = result.meta or {}
    data = _read_data(result.content, structured, meta)
    if result_type is not None and not result.is_error:
        try:
            data = msgspec.convert(data, result_type)
        except (msgspec.ValidationError, TypeError):
            data = _convert_data(data, result_type)
    return CallResult(result.content, structured, result.is_error, data, meta)


def _convert_data(data: Any, result_type: Any) -> Any:
    """Convert data that msgspec alone refused: because of its type, or of integers like `3.0`."""
    # Imported here, since hardly any client needs it.
    from trio_mcp.schema.result_types import convert_result

    try:
        return convert_result(data, result_type)
    except (ValueError, TypeError, RecursionError) as error:
        raise RemoteProtocolError(f"the tool's result is no {result_type!r}: {error}") from None


class _WithoutContent(CallToolResult, kw_only=True):
    """A result that says what it has to say without blocks, as several servers do."""

    content: list[ContentBlock] = msgspec.field(default_factory=list)


def _read_flawed(raw: msgspec.Raw) -> CallToolResult:
    """Read what is readable of a result: a block that is not known here does not hide the others."""
    try:
        result: CallToolResult = read_tolerantly(raw, _WithoutContent, "the tool's result")
        content = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("content")
    except UNREADABLE as error:
        raise RemoteProtocolError(f"the server sent a malformed tool result: {error}") from None
    is_empty = not result.content and result.structured_content is msgspec.UNSET and not result.is_error
    if is_empty and (content is None or bytes(content) != b"[]"):
        raise RemoteProtocolError("the server sent a malformed tool result: it has no readable content")
    return result


def finish_call(what: str, raw: msgspec.Raw, result_type: Any, *, raise_on_error: bool) -> CallResult[Any]:
    """Decode a tool's result; raises ToolError for one that is an error, if `raise_on_error`."""
    result = read_result(raw, result_type)
    if result.is_error and raise_on_error:
        raise ToolError(result.text or f"{what} failed", result)
    return result


def _read_data(content: Sequence[ContentBlock], structured: Any, meta: Mapping[str, Any]) -> Any:
    if isinstance(structured, dict) and "result" in structured and _is_wrapped(meta):
        return structured["result"]
    if structured is not None:
        return structured
    if len(content) == 1 and isinstance(content[0], TextContent):
        return content[0].text
    return None


def _is_wrapped(meta: Mapping[str, Any]) -> bool:
    """Whether a server, ours or FastMCP's, has put a value that is no object into one."""
    if meta.get(META_WRAPPED) is True:
        return True
    fastmcp = meta.get("fastmcp")
    return isinstance(fastmcp, dict) and fastmcp.get("wrap_result") is True
