"""What one HTTP request to an endpoint is, once it was let in, and what the endpoint serves.

Owns what has to be looked up for every step of an answer. Decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, TypeAlias

import attrs
import trio

from trio_mcp.session.server_session import Application
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.types import Receive, Scope

Answer: TypeAlias = Coroutine[Any, Any, None]
"""What is left to do of a call once it is routed; it needs nothing of the call."""


@attrs.frozen
class Serving:
    """What an endpoint serves, the nursery for what outlives a request, and the count of refusals."""

    application: Application
    nursery: trio.Nursery
    refusals: Counter[str]


@attrs.frozen
class HttpCall:
    """One HTTP request; header names are lower-case, `principal` is None if nobody is authenticated."""

    scope: Scope
    receive: Receive
    reply: Reply
    headers: Mapping[str, str]
    peer: str
    principal: str | None
    serving: Serving
