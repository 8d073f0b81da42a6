"""Prompts and completions at the client: what is sent for them, and how the answers are read.

Owns the texts that arguments become. Refuses to know handlers and timeouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from trio_mcp.errors import RemoteProtocolError
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import UNENCODABLE
from trio_mcp.wire.messages import (
    CompleteParams,
    CompletionArgument,
    CompletionContext,
    GetPromptParams,
    PromptReference,
    ResourceTemplateReference,
    Result,
)
from trio_mcp.wire.prompts import CompleteResult, Completion, GetPromptResult, ListPromptsResult, Prompt
from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly

T = TypeVar("T", bound=Result)


def make_prompt_params(name: str, arguments: Mapping[str, Any] | None) -> GetPromptParams:
    """The parameters of a prompts/get; raises ValueError for arguments that are not JSON."""
    texts = {
        key: _as_text(f"argument {key!r} of prompt {name!r}", value)
        for key, value in (arguments or {}).items()
    }
    return GetPromptParams(name=name, arguments=texts or None)


def make_completion_params(
    ref: PromptReference | ResourceTemplateReference,
    argument: Mapping[str, str],
    context_arguments: Mapping[str, Any] | None,
) -> CompleteParams:
    """The parameters of a completion/complete; raises ValueError for an argument that is none."""
    if argument.keys() != {"name", "value"}:
        raise ValueError(f'an argument to complete is {{"name": ..., "value": ...}}, not {dict(argument)!r}')
    texts = {key: _as_text(f"argument {key!r}", value) for key, value in (context_arguments or {}).items()}
    return CompleteParams(
        ref=ref,
        argument=CompletionArgument(argument["name"], argument["value"]),
        context=CompletionContext(texts) if texts else None,
    )


def _as_text(what: str, value: Any) -> str:
    """A text as it is, the JSON text of every other value."""
    if isinstance(value, str):
        return value
    try:
        text = bytes(encode_json(value)).decode()
    except UNENCODABLE as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
    # A date, for example, is written as a text.
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text


def read_prompt_page(raw: msgspec.Raw) -> tuple[Sequence[Prompt], str | None]:
    """Read a page of prompts; raises RemoteProtocolError if it is malformed."""
    page = _read(raw, ListPromptsResult, "list of prompts")
    return page.prompts, page.next_cursor


def read_prompt(raw: msgspec.Raw) -> GetPromptResult:
    """Read the messages of a prompt; raises RemoteProtocolError if they are malformed."""
    return _read(raw, GetPromptResult, "prompt")


def read_completion(raw: msgspec.Raw) -> Completion:
    """Read a completion; raises RemoteProtocolError if it is malformed."""
    return _read(raw, CompleteResult, "completion").completion


def _read(raw: msgspec.Raw, result_type: type[T], what: str) -> T:
    try:
        result = msgspec.json.decode(raw, type=result_type)
    except (msgspec.MsgspecError, RecursionError):
        try:
            result = read_tolerantly(raw, result_type, f"the server's {what}")
        except UNREADABLE as error:
            raise RemoteProtocolError(f"the server sent a malformed {what}: {error}") from None
    if result.result_type not in (None, "complete"):
        raise RemoteProtocolError(f"the server answered with the unknown type {result.result_type!r}")
    return result
