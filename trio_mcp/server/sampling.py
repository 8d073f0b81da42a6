"""Asking a model of the client for an answer (MCP sampling).

Owns what is sent, and the form of the answer. How a question travels is decided in `question_route.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs
import msgspec

from trio_mcp.errors import NotSupportedByEra
from trio_mcp.server.client_questions import convert_answer
from trio_mcp.server.question_route import QuestionPlace, ask_client
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.content import TextContent
from trio_mcp.wire.messages import Tool
from trio_mcp.wire.sampling import (
    ModelPreferences,
    SamplingContent,
    ToolMode,
    ToolUseContent,
    find_message_flaw,
)

SAMPLE: Final = "sampling/createMessage"

Preferences: TypeAlias = ModelPreferences | str | Sequence[str]


@attrs.frozen
class SamplingMessage:
    """One message of a conversation with a model; `content` is text, a content block, or a list of them."""

    role: Literal["user", "assistant"]
    content: str | SamplingContent | Sequence[str | SamplingContent]


class Sampled(msgspec.Struct, rename="camel", kw_only=True):
    """What a model answered (MCP sampling); `content` is one block, or a list of them."""

    role: Literal["user", "assistant"]
    content: SamplingContent | list[SamplingContent]
    model: str
    stop_reason: str | None = None

    @property
    def blocks(self) -> list[SamplingContent]:
        """The content as a list."""
        return self.content if isinstance(self.content, list) else [self.content]

    @property
    def text(self) -> str:
        """The text of the answer; empty if it has none."""
        return "".join(block.text for block in self.blocks if isinstance(block, TextContent))

    @property
    def tool_uses(self) -> list[ToolUseContent]:
        """The tools that the model wants to use; each needs a `ToolResultContent` in the next message."""
        return [block for block in self.blocks if isinstance(block, ToolUseContent)]

    @property
    def message(self) -> SamplingMessage:
        """The answer as a message of the conversation that goes on."""
        return SamplingMessage(self.role, self.blocks)


def read_options(
    tools: Sequence[Tool | Mapping[str, Any]] | None,
    tool_choice: ToolMode | None,
    model_preferences: Preferences | None,
    include_context: str | None,
    **others: Any,
) -> dict[str, Any]:
    """The optional parameters as they travel; raises TypeError for what is no model's name or preference."""
    preferences = model_preferences
    if isinstance(preferences, str):
        preferences = ModelPreferences.for_models(preferences)
    elif preferences is not None and not isinstance(preferences, ModelPreferences):
        preferences = ModelPreferences.for_models(*preferences)
    options = {
        **others,
        "modelPreferences": None if preferences is None else msgspec.to_builtins(preferences),
        "includeContext": include_context,
        "tools": None if tools is None else [_describe_tool(tool) for tool in tools],
        "toolChoice": None if tool_choice is None else {"mode": tool_choice},
    }
    return {name: value for name, value in options.items() if value is not None}


def _describe_tool(tool: Tool | Mapping[str, Any]) -> Any:
    if isinstance(tool, Tool):
        return msgspec.to_builtins(tool)
    return dict(tool)


async def sample(
    request: ServerRequest,
    run: TaskRun | None,
    place: QuestionPlace,
    messages: str | Sequence[SamplingMessage],
    options: Mapping[str, Any],
    key: str | None,
) -> Sampled:
    """See `Context.sample`."""
    if isinstance(messages, str):
        messages = [SamplingMessage("user", messages)]
    encoded = [_encode(message) for message in messages]
    flaw = find_message_flaw(encoded)
    if flaw is not None:
        raise ValueError(f"these messages cannot be sent: {flaw}")
    needs = _find_needs(request, encoded, options)
    params = {"messages": encoded, **options}
    answer = await ask_client(request, run, place, SAMPLE, params, key, needs)
    sampled: Sampled = convert_answer(answer, Sampled)
    return sampled


def _find_needs(
    request: ServerRequest, messages: Sequence[Any], options: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What the client must have declared; raises NotSupportedByEra for what its revision does not have."""
    uses_tools = "tools" in options or "toolChoice" in options
    is_wide = uses_tools or any(isinstance(message["content"], list) for message in messages)
    if is_wide and not request.era.asks_widely:
        raise NotSupportedByEra(f"in protocol {request.era.version} a message to a model is one block")
    parts: dict[str, Any] = {"tools": {}} if uses_tools else {}
    # Older revisions know no such part of the capability.
    if options.get("includeContext", "none") != "none" and request.era.asks_widely:
        parts["context"] = {}
    return {"sampling": parts}


def _encode(message: SamplingMessage) -> dict[str, Any]:
    content = message.content
    if isinstance(content, (list, tuple)):
        blocks = [_encode_block(block) for block in content]
        # Revisions before 2025-11-25 take one block only.
        return {"role": message.role, "content": blocks[0] if len(blocks) == 1 else blocks}
    return {"role": message.role, "content": _encode_block(content)}


def _encode_block(block: Any) -> Any:
    return msgspec.to_builtins(TextContent(text=block) if isinstance(block, str) else block)
