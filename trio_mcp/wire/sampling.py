"""What a model is asked and answers, as it travels (MCP client features, "Sampling").

Owns the blocks that only sampling has, and the rule for the results of tools. It is imported by whoever asks
a model or answers for one, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, field

from trio_mcp.wire.content import AudioContent, ContentBlock, ImageContent, TextContent

ToolMode: TypeAlias = Literal["auto", "required", "none"]


class ToolUseContent(
    Struct, rename="camel", omit_defaults=True, kw_only=True, tag_field="type", tag="tool_use"
):
    """A model wants to use the tool `name`; the result of that repeats the `id`."""

    id: str
    name: str
    input: dict[str, Any]
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class ToolResultContent(
    Struct, rename="camel", omit_defaults=True, kw_only=True, tag_field="type", tag="tool_result"
):
    """What came of the use of a tool, whose id is `tool_use_id`."""

    tool_use_id: str
    content: list[ContentBlock]
    structured_content: Any | UnsetType = UNSET
    is_error: bool = False
    meta: dict[str, Any] | None = field(name="_meta", default=None)


SamplingContent: TypeAlias = TextContent | ImageContent | AudioContent | ToolUseContent | ToolResultContent


class ModelPreferences(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Which model a server would like: `hints` are names or parts of names, the best first.

    The priorities are from 0 to 1.
    """

    hints: list[dict[str, Any]] | None = None
    cost_priority: float | None = None
    speed_priority: float | None = None
    intelligence_priority: float | None = None

    @classmethod
    def for_models(cls, *names: str) -> ModelPreferences:
        """Preferences for models by their names alone."""
        return cls(hints=[{"name": name} for name in names])


def find_message_flaw(messages: Iterable[Any]) -> str | None:
    """What is wrong with the uses of tools in encoded `messages`, or None ("Message Content Constraints").

    A message with results of tools has nothing else, and has a result for each use in the message before.
    """
    open_uses: set[str] = set()
    for message in messages:
        if not isinstance(message, Mapping):
            return "a message is an object"
        content = message.get("content")
        blocks: Sequence[Any] = content if isinstance(content, list) else [content]
        kinds = {str(block.get("type")) for block in blocks if isinstance(block, Mapping)}
        if "tool_result" in kinds and (len(kinds) > 1 or message.get("role") != "user"):
            return "Tool results mixed with other content"
        results = {str(block.get("toolUseId")) for block in blocks if block_is(block, "tool_result")}
        if results != open_uses:
            return "Tool result missing in request" if open_uses - results else "Tool result without its use"
        open_uses = {str(block.get("id")) for block in blocks if block_is(block, "tool_use")}
    return "Tool result missing in request" if open_uses else None


def block_is(block: Any, kind: str) -> bool:
    """Whether an encoded block is of `kind`."""
    return isinstance(block, Mapping) and block.get("type") == kind
