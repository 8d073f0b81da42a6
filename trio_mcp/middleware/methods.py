"""Which requests a limit counts.

Owns the choice by method, and the error that refuses a request for now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Final, TypeAlias

from trio_mcp.errors import ProtocolError
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.server.request_middleware import RequestContext
from trio_mcp.wire.errors import OVERLOADED, RETRY_AFTER

FindKey: TypeAlias = Callable[[RequestFacts], Hashable]

HANDSHAKES: Final = frozenset({"initialize", "server/discover", "ping"})
"""Without these a client could not be told anything, and they cost next to nothing."""

WORKING: Final = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
"""Methods that run a handler of the program."""


def read_methods(methods: Collection[str] | None) -> frozenset[str] | None:
    """`methods` as a set; raises TypeError for a single text."""
    if isinstance(methods, str):
        raise TypeError(f"methods must be a collection of names, not the text {methods!r}")
    return None if methods is None else frozenset(methods)


def find_caller(ctx: RequestFacts) -> Hashable:
    """Whom the request of `ctx` counts for: its principal, or its client by address or connection."""
    return ctx.caller


def find_method(ctx: RequestFacts) -> str | None:
    """The method of a request; None for a run of a handler, which counts in any case."""
    return ctx.method if isinstance(ctx, RequestContext) else None


def refuse(reason: str, status: int, retry_after: float) -> ProtocolError:
    """The error for a request that may be sent again after `retry_after` seconds."""
    return ProtocolError(OVERLOADED, reason, {"status": status, RETRY_AFTER: round(retry_after, 3)})
