"""Asking a person: a form to fill in, or a page to open (MCP elicitation).

Owns what is sent for each, and the typed answer. How a question travels is decided in `question_route.py`.
"""

from __future__ import annotations

import secrets
from typing import Any, Final, Generic, Literal, TypeVar

import attrs
import msgspec
import trio

from trio_mcp.errors import NotSupportedByEra
from trio_mcp.schema.answers import read_answer_form
from trio_mcp.server.client_questions import convert_answer, has_capability
from trio_mcp.server.question_route import QuestionPlace, ask_client
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import Notification

T = TypeVar("T")

ELICIT: Final = "elicitation/create"


@attrs.frozen
class Elicited(Generic[T]):
    """The answer to an elicitation: accepted with a value in `data`, declined, or cancelled.

    `elicitation_id` names the page that the person was asked to open, for `Context.complete_elicitation`;
    it is None after a form, and in revisions that have no such name.
    """

    action: Literal["accept", "decline", "cancel"]
    data: T | None = None
    elicitation_id: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the user filled in the form, or agreed to open the page."""
        return self.action == "accept"


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
    # A client that declares no mode takes forms.
    names_modes = any(has_capability(request, "elicitation", mode) for mode in ("form", "url"))
    needs: dict[str, Any] = {"elicitation": {"form": {}} if names_modes else {}}
    params = {"mode": "form", "message": message, "requestedSchema": form.schema}
    answer = convert_answer(await ask_client(request, run, place, ELICIT, params, key, needs), _ElicitAnswer)
    if answer.action != "accept":
        return Elicited(answer.action)
    return Elicited("accept", form.convert(answer.content))


async def elicit_url(
    request: ServerRequest,
    run: TaskRun | None,
    place: QuestionPlace,
    message: str,
    url: str,
    elicitation_id: str | None,
    key: str | None,
) -> Elicited[None]:
    """See `Context.elicit_url`."""
    if "://" not in url:
        raise ValueError(f"a URL has a scheme and a host, unlike {url!r}")
    if not request.era.asks_widely:
        raise NotSupportedByEra(f"protocol {request.era.version} has no elicitation by URL")
    params = {"mode": "url", "message": message, "url": url}
    if request.era.identifies_urls:
        elicitation_id = elicitation_id or secrets.token_urlsafe(16)
        params["elicitationId"] = elicitation_id
    else:
        elicitation_id = None
    answer = convert_answer(
        await ask_client(request, run, place, ELICIT, params, key, {"elicitation": {"url": {}}}),
        _ElicitAnswer,
    )
    return Elicited(answer.action, None, elicitation_id)


async def complete_elicitation(request: ServerRequest, elicitation_id: str) -> None:
    """See `Context.complete_elicitation`."""
    if request.era.identifies_urls:
        params = encode_value({"elicitationId": elicitation_id})
        # The wire of a call over HTTP ends with its answer, which is that of a task as well.
        ended = request.task is not None or request.is_over
        connection = request.connection.home if ended else request.connection
        connection.outbox.put(Notification("notifications/elicitation/complete", params))
    await trio.lowlevel.checkpoint()
