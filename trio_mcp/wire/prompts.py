"""Prompts and completions, as JSON objects.

Owns the results of prompts/list, prompts/get and completion/complete, and what they are made of. The
parameters of these methods are in `messages`, because every server decodes requests. Nothing imports
this module before a prompt is used.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field

from trio_mcp.wire.content import ContentBlock, Icon
from trio_mcp.wire.messages import CacheableResult, Result

MAX_VALUES: Final = 100
"""The most values in one completion (MCP completion, "Completion Results")."""

Role: TypeAlias = Literal["user", "assistant"]


class PromptArgument(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """An argument of a prompt, as prompts/list shows it; its value is a text (MCP prompts)."""

    name: str
    title: str | None = None
    description: str | None = None
    required: bool | None = None


class Prompt(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A prompt as prompts/list shows it (MCP prompts)."""

    name: str
    title: str | None = None
    description: str | None = None
    arguments: list[PromptArgument] | None = None
    icons: list[Icon] | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class ListPromptsResult(CacheableResult, kw_only=True):
    """One page of prompts; without `next_cursor` it is the last."""

    prompts: list[Prompt]
    next_cursor: str | None = None


class PromptMessage(Struct, rename="camel", kw_only=True):
    """One message of a prompt: who says it, and one content block (MCP prompts, "PromptMessage")."""

    role: Role
    content: ContentBlock


class GetPromptResult(Result, kw_only=True):
    """The messages of a prompt, and what it is for (MCP prompts, "Getting a Prompt")."""

    messages: list[PromptMessage]
    description: str | None = None


class Completion(Struct, rename="camel", omit_defaults=True):
    """Values that an argument could have, the best first (MCP completion).

    `total` is how many there are, if that is known, and `has_more` whether there are others than
    these. At most 100 travel.
    """

    values: list[str]
    total: int | None = None
    has_more: bool | None = None


class CompleteResult(Result, kw_only=True):
    """The result of completion/complete."""

    completion: Completion
