"""Asking the client: elicitation and sampling.

Owns what is asked, and what an answer becomes. How a question travels is in `question_route.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import attrs
import msgspec

from trio_mcp.errors import NotSupportedByEra, ProtocolError, RemoteProtocolError
from trio_mcp.schema.answers import read_answer_form
from trio_mcp.server.question_route import QuestionPlace, ask_client
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.content import AudioContent, ImageContent, TextContent

T = TypeVar("T")

ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"

SampledContent: TypeAlias = TextContent | ImageContent | AudioContent


@attrs.frozen
class Elicited(Generic[T]):
    """The answer to an elicitation: accepted with a value in `data`, declined, or cancelled."""

    action: Literal["accept", "decline", "cancel"]
    data: T | None = None

    @property
    def accepted(self) -> bool:
        """Whether the user filled in the form."""
        return self.action == "accept"


@attrs.frozen
class SamplingMessage:
    """One message of a conversation with a model; `content` is text or a content block."""

    role: Literal["user", "assistant"]
    content: str | SampledContent


class Sampled(msgspec.Struct, rename="camel", kw_only=True):
    """What a model answered (MCP sampling)."""

    role: Literal["user", "assistant"]
    content: SampledContent
    model: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """The text of the answer; empty if it is no text."""
        return self.content.text if isinstance(self.content, TextContent) else ""


class _ElicitAnswer(msgspec.Struct):
    action: Literal["accept", "decline", "cancel"]
    content: Any = None


async def elicit(
    request: ServerRequest,
    run: TaskRun | None,
    place: QuestionPlace,
    message: str,
    schema_type: Any,
    key: str | None,
) -> Elicited[Any]:
    """See `Context.elicit`."""
    form = read_answer_form(schema_type)
    fields = form.schema["properties"].values()
    if not request.era.asks_lists and any(field.get("type") == "array" for field in fields):
        raise NotSupportedByEra(f"in protocol {request.era.version} a form cannot ask for a list")
    params = {"mode": "form", "message": message, "requestedSchema": form.schema}
    answer = _convert(await ask_client(request, run, place, ELICIT, params, key), _ElicitAnswer)
    if answer.action != "accept":
        return Elicited(answer.action)
    return Elicited("accept", form.convert(answer.content))


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
    params = {"messages": [_message(message) for message in messages], **options}
    sampled: Sampled = _convert(await ask_client(request, run, place, SAMPLE, params, key), Sampled)
    return sampled


def _message(message: SamplingMessage) -> dict[str, Any]:
    content = TextContent(text=message.content) if isinstance(message.content, str) else message.content
    return {"role": message.role, "content": msgspec.to_builtins(content)}


def _convert(answer: Any, answer_type: type[Any]) -> Any:
    if isinstance(answer, ProtocolError):
        raise answer
    try:
        return msgspec.convert(answer, answer_type)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"the client gave a malformed answer: {error}") from None
