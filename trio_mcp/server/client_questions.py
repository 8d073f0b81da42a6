"""Asking the client: elicitation and sampling, in every era.

Owns the choice between a request to the client (legacy), a question on the task's record, and a
round of gathering (`input_rounds.py`). Of several answers to one question, the first counts.
Which connections a request goes to is decided in `legacy_task_wires.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import attrs
import msgspec
import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ConnectionLost, NotSupportedByEra, ProtocolError, RemoteProtocolError
from trio_mcp.schema.answers import read_answer_form
from trio_mcp.server.legacy_task_wires import LegacyTaskWires
from trio_mcp.server.task_run import RunState, TaskRun
from trio_mcp.session.connection import ServerConnection, read_answer
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.live_task import LiveTask
from trio_mcp.tasks.record import InputRequest
from trio_mcp.tasks.rendering import related_meta
from trio_mcp.wire.content import AudioContent, ImageContent, TextContent
from trio_mcp.wire.errors import MISSING_CLIENT_CAPABILITY

T = TypeVar("T")

ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
_CAPABILITIES: Final = {ELICIT: "elicitation", SAMPLE: "sampling"}

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
    request: ServerRequest, run: TaskRun | None, message: str, schema_type: Any, key: str | None
) -> Elicited[Any]:
    """See `Context.elicit`."""
    form = read_answer_form(schema_type)
    fields = form.schema["properties"].values()
    if not request.era.asks_lists and any(field.get("type") == "array" for field in fields):
        raise NotSupportedByEra(f"in protocol {request.era.version} a form cannot ask for a list")
    params = {"mode": "form", "message": message, "requestedSchema": form.schema}
    answer = _convert(await _ask(request, run, ELICIT, params, key), _ElicitAnswer)
    if answer.action != "accept":
        return Elicited(answer.action)
    return Elicited("accept", form.convert(answer.content))


async def sample(
    request: ServerRequest,
    run: TaskRun | None,
    messages: str | Sequence[SamplingMessage],
    options: Mapping[str, Any],
    key: str | None,
) -> Sampled:
    """See `Context.sample`."""
    if isinstance(messages, str):
        messages = [SamplingMessage("user", messages)]
    params = {"messages": [_message(message) for message in messages], **options}
    sampled: Sampled = _convert(await _ask(request, run, SAMPLE, params, key), Sampled)
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


async def _ask(
    request: ServerRequest, run: TaskRun | None, method: str, params: dict[str, Any], key: str | None
) -> Any:
    if method not in request.era.questions:
        raise NotSupportedByEra(f"protocol {request.era.version} has no {method}")
    capability = _CAPABILITIES[method]
    if capability not in request.meta.client_capabilities:
        raise ProtocolError(
            MISSING_CLIENT_CAPABILITY,
            f"the client has no {capability}",
            {"requiredCapabilities": {capability: {}}},
        )
    if run is not None and run.round is not None:
        await trio.lowlevel.checkpoint()
        return run.round.answer(key, method, params)
    if run is not None and run.state is not RunState.GATHERING and await _is_task(request, run):
        return await _ask_in_task(run, method, params, key)
    if request.era.modern:
        raise NotSupportedByEra(
            f"in protocol {request.era.version} a tool cannot ask its client within a direct call: make it a "
            "background task (task=True, for clients with the tasks extension), or ask before the task "
            "begins (TaskConfig(gather=...))"
        )
    return await request.connection.ask(method, params)


async def _is_task(request: ServerRequest, run: TaskRun) -> bool:
    """Whether the call is a task, or has become one just now because it needs to ask."""
    return request.task is not None or await run.promote()


async def _ask_in_task(run: TaskRun, method: str, params: dict[str, Any], name: str | None) -> Any:
    """Put a question on the task's record and wait for the first answer, whoever gives it."""
    live = run.live
    key = live.put_question(InputRequest(method, params), name)
    try:
        await run.supervisor.update(live)
        if run.wires is None:
            return await live.wait_answer(key)
        return await _relay(live, run.wires, key, method, {**params, "_meta": related_meta(live.id)})
    finally:
        live.drop_question(key)
        # Shielded for one put, so that no client that polls now sees a question that is over.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await run.supervisor.update(live)


async def _relay(
    live: LiveTask, wires: LegacyTaskWires, key: str, method: str, params: dict[str, Any]
) -> Any:
    """Send the question to every connection that may answer, also to those that come later."""
    async with open_unwrapping_nursery() as nursery:

        async def relay(connection: ServerConnection) -> None:
            # The answer is noted when it is read, because Trio wakes tasks in any order. If it is an
            # error, the task that asked raises it.
            with suppress(ConnectionLost, ProtocolError):
                await connection.ask(method, params, partial(live.answer, key))

        def send(connection: ServerConnection) -> None:
            nursery.start_soon(relay, connection)

        with wires.relaying(send):
            answer = await live.wait_answer(key)
            nursery.cancel_scope.cancel()
    return read_answer(answer)
