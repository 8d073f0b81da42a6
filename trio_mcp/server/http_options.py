"""The keyword arguments of `serve_http`, for type checkers: `Server.run("http")` takes them, too.

Owns their names and types; a test compares them with the signature. What they mean is said by `serve_http`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypedDict

from trio_mcp.transports.asgi.guard import Authenticate, Guard
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.hypercorn import TLS


class HttpOptions(TypedDict, total=False):
    """The options of a server over HTTP."""

    bind: str | Sequence[str]
    path: str
    tls: TLS | None
    settings: HttpSettings | None
    allowed_hosts: Collection[str] | None
    allowed_origins: Collection[str] | None
    cors_origins: Collection[str]
    authenticate: Authenticate | None
    auth: Guard | None
    sse: bool
    shutdown_grace: float
