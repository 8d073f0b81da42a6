"""One HTTP request to an endpoint that was let in, and the server that the endpoint serves.

Owns the data that every step of an answer needs. Decides nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, TypeAlias

import attrs
import trio

from trio_mcp.session.permit import Permit
from trio_mcp.session.server_session import Application
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.types import Receive, Scope

Answer: TypeAlias = Coroutine[Any, Any, None]
"""The rest of a call's work once it is routed; it does not hold the call."""


@attrs.frozen
class Serving:
    """The server of an endpoint: its application, a nursery for sessions, and its count of refusals."""

    application: Application
    nursery: trio.Nursery
    refusals: Counter[str]


@attrs.frozen
class HttpCall:
    """One HTTP request; header names are lower-case, `permit` is None if nobody asks who the client is."""

    scope: Scope = attrs.field(repr=False)  # which holds secrets, as the headers do
    receive: Receive
    reply: Reply
    headers: Mapping[str, str] = attrs.field(repr=False)
    peer: str
    permit: Permit | None
    serving: Serving

    @property
    def owner(self) -> str | None:
        """The name of the principal, to which sessions belong; None without one."""
        return None if self.permit is None else self.permit.owner

    @property
    def ends_at(self) -> float:
        """When the permit ends, on Trio's clock; a stream that a GET has opened ends then."""
        return math.inf if self.permit is None else self.permit.ends_at
