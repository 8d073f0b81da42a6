"""The messages of a prompt: what a handler may return for them, and how it becomes messages.

Owns `Message`. What content is, and how it is encoded, is decided in `results.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import attrs
import msgspec

from trio_mcp.errors import ReturnError
from trio_mcp.server.results import BLOCKS, Audio, Image, to_block
from trio_mcp.wire.content import ContentBlock
from trio_mcp.wire.prompts import GetPromptResult, PromptMessage, Role

_CONTENT: Final = (str, *BLOCKS, Image, Audio)
_ROLES: Final = get_args(Role)


@attrs.frozen
class Message:
    """One message of a prompt, for a handler to return: its content, and who says it.

    `content` is text, a content block, an Image or an Audio; `role` is "user" or "assistant".
    """

    content: str | ContentBlock | Image | Audio = attrs.field(
        validator=attrs.validators.instance_of(_CONTENT)
    )
    role: Role = attrs.field(default="user", validator=attrs.validators.in_(_ROLES))


def reads_files(value: Any) -> bool:
    """Whether making messages of `value` reads files, which blocks."""
    contents = (item.content if isinstance(item, Message) else item for item in _items(value))
    return any(isinstance(item, (Image, Audio)) and isinstance(item.source, Path) for item in contents)


def make_messages(value: Any, description: str | None) -> GetPromptResult:
    """Build the result of a prompt that returned `value`; raises ReturnError for what is no message."""
    messages = [_make_message(item) for item in _items(value)]
    if isinstance(value, GetPromptResult):
        return msgspec.structs.replace(value, messages=messages)
    return GetPromptResult(messages=messages, description=description)


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, GetPromptResult):
        yield from value.messages
    elif isinstance(value, (list, tuple)):
        yield from value
    else:
        yield value


def _make_message(item: Any) -> PromptMessage:
    if isinstance(item, PromptMessage):
        return item
    if isinstance(item, Message):
        return PromptMessage(role=item.role, content=to_block(item.content))
    if isinstance(item, _CONTENT):
        return PromptMessage(role="user", content=to_block(item))
    raise ReturnError(
        f"a prompt returns text, content, a Message, or a list of them, and not {type(item).__name__}"
    )
