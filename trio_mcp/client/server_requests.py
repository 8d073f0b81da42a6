"""Answering the requests of a server: elicitation, sampling and ping.

Owns the form of each answer, one task for each request, and the boundary at which a handler's failure
becomes an error response. Refuses to know calls and tasks.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs
import msgspec
import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.errors import ProtocolError
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import encode_value, make_error
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND
from trio_mcp.wire.frames import (
    ErrorObject,
    ErrorResponse,
    OutFrame,
    Request,
    RequestId,
    Response,
    as_other_type,
)
from trio_mcp.wire.messages import EmptyResult
from trio_mcp.wire.progress_codec import META_RELATED_TASK

MAX_REQUESTS: Final = 64
"""How many requests of a server may be answered at once: each may be shown to a person."""


@attrs.frozen
class ElicitRequest:
    """A form that a server wants a person to fill in; `schema` is a flat JSON Schema object."""

    message: str
    schema: Mapping[str, Any]


@attrs.frozen
class ElicitAnswer:
    """The answer to an `ElicitRequest`; `content` are the values of an accepted form."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] | None = None


@attrs.frozen
class SampleRequest:
    """Messages that a server wants a model to answer; `params` are all parameters (MCP sampling)."""

    messages: list[Any]
    max_tokens: int
    system_prompt: str | None
    params: Mapping[str, Any]


@attrs.frozen
class SampleAnswer:
    """The text that a model answered, and the name of the model."""

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
        """The capabilities that the client declares because it has these handlers."""
        declared: dict[str, Any] = {}
        if self.elicitation is not None:
            declared["elicitation"] = {}
        if self.sampling is not None:
            declared["sampling"] = {}
        return declared

    def can_answer(self, method: str) -> bool:
        """Whether there is a handler for the requests of `method`."""
        handlers = {"elicitation/create": self.elicitation, "sampling/createMessage": self.sampling}
        return handlers.get(method) is not None

    async def answer(self, method: str, params: Any) -> dict[str, Any]:
        """Return the result of a server's request; checkpoints if the handler does.

        Raises ProtocolError for a method that has no handler and for bad parameters.
        """
        if not isinstance(params, Mapping):
            raise ProtocolError(INVALID_PARAMS, f"{method} needs parameters")
        if method == "elicitation/create" and self.elicitation is not None:
            return await _elicit(self.elicitation, params)
        if method == "sampling/createMessage" and self.sampling is not None:
            return await _sample(self.sampling, params)
        raise ProtocolError(METHOD_NOT_FOUND, f"this client does not serve {method!r}")


class ServerRequests:
    """The requests of one server that are being answered, each in a task of its own."""

    def __init__(self, answering: Answering, put: Callable[[OutFrame], None]) -> None:
        self._answering = answering
        self._put = put
        self._nursery: trio.Nursery | None = None  # while requests are taken
        self._scopes: dict[RequestId, trio.CancelScope] = {}

    def __len__(self) -> int:
        return len(self._scopes)

    def open(self, nursery: trio.Nursery) -> None:
        """Take requests from now on; `nursery` gets the tasks that answer them."""
        self._nursery = nursery

    def close(self) -> None:
        """Take no more requests, and cancel those that are being answered."""
        self._nursery = None
        for scope in self._scopes.values():
            scope.cancel()

    def accept(self, frame: Request) -> None:
        """Answer a request, or start the task that does; never waits."""
        if frame.method == "ping":
            self._put(Response(frame.id, encode_value(EmptyResult())))
        elif frame.id in self._scopes:
            self._refuse(frame, INVALID_REQUEST, f"request id {frame.id!r} is already in use")
        elif self._nursery is not None and len(self._scopes) < MAX_REQUESTS:
            # Registered here, not in the task, so that a cancellation that follows at once finds it.
            # Shielded, as the rest of the session: `close` cancels it when the client's block has ended.
            scope = self._scopes[frame.id] = trio.CancelScope(shield=True)
            self._nursery.start_soon(self._answer, frame, scope)
        else:
            self._refuse(frame, INTERNAL_ERROR, f"{len(self._scopes)} questions are open already")

    def cancel(self, ident: RequestId | None) -> bool:
        """Cancel the answering of a request; False if there is none with this id."""
        if ident is None:
            return False
        scope = self._scopes.get(ident) or self._scopes.get(as_other_type(ident))
        if scope is None:
            return False
        scope.cancel()
        return True

    async def _answer(self, frame: Request, scope: trio.CancelScope) -> None:
        answer: Response | ErrorResponse | None = None
        try:
            with scope:
                params = {} if isinstance(frame.params, msgspec.UnsetType) else _decode(frame.params)
                result = await self._answering.answer(frame.method, params)
                answer = Response(frame.id, encode_json(_related(params, result)))
        except ProtocolError as error:
            answer = ErrorResponse(make_error(error), frame.id)
        except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything; see contain_failure
            answer = ErrorResponse(ErrorObject(INTERNAL_ERROR, f"{frame.method} failed"), frame.id)
            contain_failure(error, f"the handler of {frame.method} failed")
        finally:
            self._scopes.pop(frame.id, None)
        if answer is not None:
            self._put(answer)

    def _refuse(self, frame: Request, code: int, message: str) -> None:
        self._put(ErrorResponse(ErrorObject(code, message), frame.id))


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


def _decode(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(INVALID_PARAMS, str(error)) from None


def _related(params: Any, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result, marked with the task that the question belongs to (2025-11-25)."""
    meta = params.get("_meta") if isinstance(params, Mapping) else None
    related = meta.get(META_RELATED_TASK) if isinstance(meta, Mapping) else None
    return result if related is None else {**result, "_meta": {META_RELATED_TASK: related}}
