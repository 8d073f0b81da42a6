"""Answering for a model (MCP sampling).

Owns what a handler gets, and the result that is made of what it returns.
Refuses to know how questions arrive.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, get_args

import attrs
import msgspec

from trio_mcp.errors import ProtocolError
from trio_mcp.wire.content import TextContent
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
from trio_mcp.wire.sampling import SamplingContent, ToolUseContent, find_message_flaw

_KINDS: Final = get_args(SamplingContent)


@attrs.frozen
class SampleRequest:
    """Messages that a server wants a model to answer; `params` are all parameters (MCP sampling)."""

    messages: list[Any]
    max_tokens: int
    system_prompt: str | None
    params: Mapping[str, Any]

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools that the model may use, as they travel; empty if there are none."""
        tools = self.params.get("tools")
        return tools if isinstance(tools, list) else []

    @property
    def tool_choice(self) -> str:
        """Whether the model may ("auto"), must ("required") or must not ("none") use a tool."""
        choice = self.params.get("toolChoice")
        return str(choice.get("mode", "auto")) if isinstance(choice, Mapping) else "auto"


@attrs.frozen
class SampleAnswer:
    """The text that a model answered, and the name of the model.

    `content` are blocks behind the text, such as a `ToolUseContent` for each tool that the model wants.
    Without a `stop_reason` of your own it is "toolUse" if there are such, and "endTurn" otherwise.
    """

    text: str
    model: str
    stop_reason: str | None = "endTurn"
    content: Sequence[SamplingContent] = ()


SamplingHandler: TypeAlias = Callable[[SampleRequest], Awaitable[SampleAnswer | str] | SampleAnswer | str]
"""Returns the model's answer; sync or async."""


async def answer_sampling(
    handler: SamplingHandler, params: Mapping[str, Any], *, takes_tools: bool
) -> dict[str, Any]:
    """The result for messages; checkpoints if `handler` does. Raises ProtocolError for bad parameters."""
    messages, max_tokens = params.get("messages"), params.get("maxTokens")
    if not isinstance(messages, list) or not isinstance(max_tokens, int):
        raise ProtocolError(INVALID_PARAMS, "sampling needs messages and maxTokens")
    if not takes_tools and ("tools" in params or "toolChoice" in params):
        raise ProtocolError(INVALID_PARAMS, "this client has not declared that its model uses tools")
    flaw = find_message_flaw(messages)
    if flaw is not None:
        raise ProtocolError(INVALID_PARAMS, flaw)
    answer: Any = handler(SampleRequest(messages, max_tokens, params.get("systemPrompt"), params))
    if inspect.isawaitable(answer):
        answer = await answer
    if isinstance(answer, str):
        answer = SampleAnswer(answer, "unknown")
    if not isinstance(answer, SampleAnswer) or not all(isinstance(block, _KINDS) for block in answer.content):
        raise ProtocolError(INTERNAL_ERROR, f"the sampling handler returned {answer!r}")
    return _encode(answer)


def _encode(answer: SampleAnswer) -> dict[str, Any]:
    blocks = [msgspec.to_builtins(block) for block in answer.content]
    if answer.text or not blocks:
        blocks.insert(0, msgspec.to_builtins(TextContent(text=answer.text)))
    stop_reason = answer.stop_reason
    if stop_reason == "endTurn" and any(isinstance(block, ToolUseContent) for block in answer.content):
        stop_reason = "toolUse"
    stop = {} if stop_reason is None else {"stopReason": stop_reason}
    content = blocks[0] if len(blocks) == 1 else blocks
    return {"role": "assistant", "content": content, "model": answer.model, **stop}
