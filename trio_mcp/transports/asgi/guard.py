"""Who may enter an endpoint: what it asks of each request before the body is read.

Owns the interface by which a guard lets requests in or denies them, and the guard that believes what the
program itself has found out. Refuses to know tokens and how they are verified.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, TypeAlias

import attrs
import msgspec

from trio_mcp.session.permit import Permit, make_permit
from trio_mcp.session.principal import Principal
from trio_mcp.transports.asgi.types import Scope
from trio_mcp.wire.errors import INSUFFICIENT_SCOPE, INTERNAL_ERROR, INVALID_REQUEST, REQUIRED_SCOPES
from trio_mcp.wire.frames import ErrorObject

Identity: TypeAlias = Principal | str | None

Authenticate: TypeAlias = Callable[[Mapping[str, Any]], Identity | Awaitable[Identity]]
"""Gives the principal of an ASGI scope, or its name, or None if nobody is authenticated; it may be async."""


@attrs.frozen
class Denial:
    """Why a request is not let in: the HTTP status, words for the client, and headers.

    `kind` is what it is counted as.
    """

    kind: str
    status: int
    reason: str
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def code(self) -> int:
        """The JSON-RPC code of the same."""
        return INTERNAL_ERROR if self.status >= 500 else INVALID_REQUEST


@attrs.frozen
class GuardedRequest:
    """What a guard sees of a request: header names are lower-case, `path` is the endpoint's below a mount."""

    scope: Scope = attrs.field(repr=False)  # which holds secrets, as the headers do
    headers: Mapping[str, str] = attrs.field(repr=False)
    path: str


def read_required_scopes(error: ErrorObject) -> list[str] | None:
    """The scopes that an error of JSON-RPC says its request needs; None if it says something else."""
    if error.code != INSUFFICIENT_SCOPE or isinstance(error.data, msgspec.UnsetType):
        return None
    try:
        return msgspec.json.decode(error.data, type=_Required).scopes
    except msgspec.MsgspecError:
        return None  # a handler has made it of its own


class _Required(msgspec.Struct):
    scopes: list[str] = msgspec.field(name=REQUIRED_SCOPES)


class Guard(Protocol):
    """Decides who may enter an endpoint, and what is said to others."""

    @property
    def secret_header(self) -> str | None:
        """The lower-case name of the header that nobody else is to see, or None."""

    async def admit(self, request: GuardedRequest) -> Permit | Denial | None:
        """Let a request in, or deny it; checkpoints if somebody has to be asked.

        None lets it in without any limit, and without a principal.
        """

    def demand(
        self, request: GuardedRequest, permit: Permit | None, scopes: Collection[str]
    ) -> Denial | None:
        """What is answered to a request whose permit lacks some of `scopes`, which it needs.

        None leaves it at an error of JSON-RPC.
        """

    def find_metadata(self, scope: Scope, paths: Collection[str]) -> str | None:
        """The one of the endpoint's `paths` whose metadata a request for another path wants, or None."""

    def describe(self, request: GuardedRequest) -> bytes | Denial:
        """The metadata of the endpoint, as JSON."""


class Believing:
    """The guard of an endpoint whose principals are found by `authenticate`; it denies nothing."""

    secret_header: str | None = None

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate

    async def admit(self, request: GuardedRequest) -> Permit | None:
        """Let every request in, as whoever the program says; checkpoints if `authenticate` does."""
        who = self._authenticate(request.scope)
        return make_permit(await who if inspect.isawaitable(who) else who)

    def demand(self, request: GuardedRequest, permit: Permit | None, scopes: Collection[str]) -> None:
        """Leave it at an error of JSON-RPC: how clients get other scopes is not known here."""

    def find_metadata(self, scope: Scope, paths: Collection[str]) -> None:
        """There are none."""

    def describe(self, request: GuardedRequest) -> Denial:
        """There are none."""
        return Denial("path", 404, "there are no metadata here")
