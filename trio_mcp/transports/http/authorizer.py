"""What gives the requests to one server their credentials: the interface, and a token that never changes.

Owns what a flow is told of a refusal. Refuses to know OAuth, and how a request is sent.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

import attrs
import msgspec
import trio

REFUSALS: Final = frozenset({401, 403})
"""The statuses that say that a request was not let in, and so not carried out (MCP, "Error Handling")."""

MOST_REFUSALS: Final = 8
"""How often one request may be refused: an expired token, one that is not let in, and a few scopes."""

_SENDABLE: Final = re.compile(r"[\x21-\x7e]+")


class _Named(msgspec.Struct):
    name: str | None = None
    uri: str | None = None


class _Operation(msgspec.Struct):
    method: str = ""
    params: _Named | None = None


@attrs.frozen
class Refusal:
    """A request that was not let in; `headers` are those of the answer, with lower-case names.

    `presented` are the headers that the authorizer gave the request, and `attempt` says how often it was
    refused before.
    """

    status: int
    headers: Mapping[str, str]
    presented: Mapping[str, str] = attrs.field(repr=False)
    method: str
    url: str
    attempt: int = 0
    body: bytes = attrs.field(default=b"", repr=False)

    def operation(self) -> str:
        """What was to be done, for example "tools/call add": the same for equal calls."""
        try:
            asked = msgspec.json.decode(self.body, type=_Operation)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self.method
        params = asked.params or _Named()
        return f"{asked.method} {params.name or params.uri or ''}".strip()


@runtime_checkable
class Authorizer(Protocol):
    """Gives the requests to one server their credentials."""

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        """The headers for a request, with lower-case names; nothing without a token.

        Checkpoints only if it has to wait, and never for a person. Raises AuthorizationError.
        """

    async def answer(self, refusal: Refusal) -> bool:
        """Get a token that the server may accept; True if the request is to be sent again with new headers.

        Checkpoints; may wait for a person. Raises AuthorizationError if there is no such token.
        """


@runtime_checkable
class AnswerTaker(Protocol):
    """An authorizer that takes something from every answer, such as the nonce of the next proof."""

    def note_answer(self, url: str, headers: Mapping[str, str]) -> None:
        """Look at the headers, with lower-case names, of an answer that is no refusal; never waits."""


@runtime_checkable
class Authorization(Protocol):
    """A way to get tokens, for whichever server it is used with."""

    def for_server(self, url: str, ssl_context: ssl.SSLContext | None) -> Authorizer:
        """The authorizer for the server at `url`; the same one for all clients of that server."""


class StaticToken:
    """An authorizer with one token, which is sent with every request."""

    def __init__(self, token: str) -> None:
        if not _SENDABLE.fullmatch(token):
            raise ValueError("the token is empty, or has characters that no header can hold")
        self._headers = {"authorization": f"Bearer {token}"}

    def __repr__(self) -> str:
        return "<StaticToken>"

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        """The token; does not checkpoint."""
        return self._headers

    async def answer(self, refusal: Refusal) -> bool:
        """There is no other token; checkpoints."""
        await trio.lowlevel.checkpoint()
        return False


def find_authorizer(auth: Any, url: str, ssl_context: ssl.SSLContext | None = None) -> Authorizer | None:
    """The authorizer that `auth=` of a client means for the server at `url`; None if it is not one of ours.

    A text is a bearer token. Raises ValueError if it cannot be one.
    """
    if isinstance(auth, str):
        return StaticToken(auth)
    if isinstance(auth, Authorization):
        return auth.for_server(url, ssl_context)
    return auth if isinstance(auth, Authorizer) else None
