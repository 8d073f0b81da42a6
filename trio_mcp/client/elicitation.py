"""Answering for a person: forms and pages that a server asks for (MCP elicitation).

Owns what a handler gets, and the result that is made of what it returns.
Refuses to know how questions arrive.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs
import msgspec

from trio_mcp.errors import ProtocolError
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS


@attrs.frozen
class ElicitRequest:
    """A form that a server wants a person to fill in; `schema` is a flat JSON Schema object."""

    message: str
    schema: Mapping[str, Any]

    @property
    def defaults(self) -> dict[str, Any]:
        """The values that the form proposes, by the names of its fields."""
        properties = self.schema.get("properties")
        if not isinstance(properties, Mapping):
            return {}
        return {
            name: field["default"]
            for name, field in properties.items()
            if isinstance(field, Mapping) and "default" in field
        }


@attrs.frozen
class ElicitUrlRequest:
    """A page that a server wants a person to open.

    A client shows the whole `url`, and opens it only if the person agrees (MCP elicitation, "Safe URL
    Handling"). `elicitation_id` is None in revisions other than 2025-11-25.
    """

    message: str
    url: str
    elicitation_id: str | None = None

    @property
    def host(self) -> str:
        """The host of the page, to be shown; empty if the URL has none."""
        try:
            return urlsplit(self.url).hostname or ""
        except ValueError:
            return ""


@attrs.frozen
class ElicitAnswer:
    """The answer to a form or a page; `content` are the values of an accepted form."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] | None = None


ElicitationHandler: TypeAlias = Callable[
    [ElicitRequest],
    Awaitable[ElicitAnswer | Mapping[str, Any] | None] | ElicitAnswer | Mapping[str, Any] | None,
]
"""Returns the values of the form (accepted), None (declined) or an ElicitAnswer; sync or async."""

ElicitUrlHandler: TypeAlias = Callable[
    [ElicitUrlRequest], Awaitable[ElicitAnswer | bool | None] | ElicitAnswer | bool | None
]
"""Returns whether the person agreed to open the page, or an ElicitAnswer; sync or async."""


async def answer_form(handler: ElicitationHandler, params: Mapping[str, Any]) -> dict[str, Any]:
    """The result for a form; fields that `handler` leaves out get their defaults. Checkpoints if it does.

    Raises ProtocolError for bad parameters.
    """
    message, schema = params.get("message"), params.get("requestedSchema")
    if not isinstance(message, str) or not isinstance(schema, Mapping):
        raise ProtocolError(INVALID_PARAMS, "a form has a message and a requestedSchema")
    request = ElicitRequest(message, schema)
    answer: Any = handler(request)
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is None:
        return {"action": "decline"}
    if not isinstance(answer, ElicitAnswer):
        try:
            answer = ElicitAnswer("accept", msgspec.to_builtins(answer))
        except TypeError:
            raise ProtocolError(INTERNAL_ERROR, f"the elicitation handler returned {answer!r}") from None
    if answer.action != "accept":
        return {"action": answer.action}
    content = {} if answer.content is None else answer.content
    if not isinstance(content, Mapping):
        raise ProtocolError(INTERNAL_ERROR, f"the elicitation handler returned {answer.content!r}")
    return {"action": "accept", "content": {**request.defaults, **content}}


async def answer_url(handler: ElicitUrlHandler, params: Mapping[str, Any]) -> dict[str, Any]:
    """The result for a page; checkpoints if `handler` does. Raises ProtocolError for bad parameters."""
    message, url, ident = params.get("message"), params.get("url"), params.get("elicitationId")
    if not isinstance(message, str) or not isinstance(url, str):
        raise ProtocolError(INVALID_PARAMS, "a page to open has a message and a url")
    answer: Any = handler(ElicitUrlRequest(message, url, ident if isinstance(ident, str) else None))
    if inspect.isawaitable(answer):
        answer = await answer
    if isinstance(answer, ElicitAnswer):
        return {"action": answer.action}
    if answer is not None and not isinstance(answer, bool):
        raise ProtocolError(INTERNAL_ERROR, f"the elicitation handler returned {answer!r}")
    return {"action": "accept" if answer else "decline"}
