"""Answering a server that asks: the client's handlers for elicitation and sampling.

Owns the words of an answer and the border at which a handler's failure becomes one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

from trio_mcp.errors import ProtocolError
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND


@attrs.frozen
class ElicitRequest:
    """What a server wants a person to fill in: `schema` is a flat JSON Schema object."""

    message: str
    schema: Mapping[str, Any]


@attrs.frozen
class ElicitAnswer:
    """What became of it; `content` are the values of an accepted form."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] | None = None


@attrs.frozen
class SampleRequest:
    """What a server wants a model to answer; `params` is all of it as it came (MCP sampling)."""

    messages: list[Any]
    max_tokens: int
    system_prompt: str | None
    params: Mapping[str, Any]


@attrs.frozen
class SampleAnswer:
    """What the model answered, as text, and which model it was."""

    text: str
    model: str
    stop_reason: str | None = "endTurn"


ElicitationHandler: TypeAlias = Callable[
    [ElicitRequest],
    Awaitable[ElicitAnswer | Mapping[str, Any] | None] | ElicitAnswer | Mapping[str, Any] | None,
]
"""Returns the values of the form (accepted), None (declined) or an ElicitAnswer; sync or async."""

SamplingHandler: TypeAlias = Callable[[SampleRequest], Awaitable[SampleAnswer | str] | SampleAnswer | str]
"""Returns the model's answer; sync or async."""


@attrs.frozen
class Answering:
    """The handlers of one client."""

    elicitation: ElicitationHandler | None = None
    sampling: SamplingHandler | None = None

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the client declares because of them."""
        declared: dict[str, Any] = {}
        if self.elicitation is not None:
            declared["elicitation"] = {}
        if self.sampling is not None:
            declared["sampling"] = {}
        return declared

    async def answer(self, method: str, params: Any) -> dict[str, Any]:
        """The result of a server's request; checkpoints as the handler does.

        Raises ProtocolError for a method that has no handler and for bad parameters.
        """
        if not isinstance(params, Mapping):
            raise ProtocolError(INVALID_PARAMS, f"{method} needs parameters")
        if method == "elicitation/create" and self.elicitation is not None:
            return await _elicit(self.elicitation, params)
        if method == "sampling/createMessage" and self.sampling is not None:
            return await _sample(self.sampling, params)
        raise ProtocolError(METHOD_NOT_FOUND, f"this client does not serve {method!r}")


async def _elicit(handler: ElicitationHandler, params: Mapping[str, Any]) -> dict[str, Any]:
    message, schema = params.get("message"), params.get("requestedSchema")
    if (
        params.get("mode", "form") != "form"
        or not isinstance(message, str)
        or not isinstance(schema, Mapping)
    ):
        raise ProtocolError(INVALID_PARAMS, "only forms with a message and a requestedSchema are served here")
    answer: Any = handler(ElicitRequest(message, schema))
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is None:
        return {"action": "decline"}
    if isinstance(answer, ElicitAnswer):
        content = {} if answer.content is None else {"content": dict(answer.content)}
        return {"action": answer.action, **content}
    if isinstance(answer, Mapping):
        return {"action": "accept", "content": dict(answer)}
    try:
        return {"action": "accept", "content": msgspec.to_builtins(answer)}
    except TypeError:
        raise ProtocolError(INTERNAL_ERROR, f"the elicitation handler returned {answer!r}") from None


async def _sample(handler: SamplingHandler, params: Mapping[str, Any]) -> dict[str, Any]:
    messages, max_tokens = params.get("messages"), params.get("maxTokens")
    if not isinstance(messages, list) or not isinstance(max_tokens, int):
        raise ProtocolError(INVALID_PARAMS, "sampling needs messages and maxTokens")
    answer: Any = handler(SampleRequest(messages, max_tokens, params.get("systemPrompt"), params))
    if inspect.isawaitable(answer):
        answer = await answer
    if isinstance(answer, str):
        answer = SampleAnswer(answer, "unknown")
    if not isinstance(answer, SampleAnswer):
        raise ProtocolError(INTERNAL_ERROR, f"the sampling handler returned {answer!r}")
    content = {"type": "text", "text": answer.text}
    stop = {} if answer.stop_reason is None else {"stopReason": answer.stop_reason}
    return {"role": "assistant", "content": content, "model": answer.model, **stop}
