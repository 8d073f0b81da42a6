"""ASGI applications served by hypercorn's protocols, inside the caller's nursery.

Owns listening, accepted connections and shutdown. Refuses to know MCP.
Read `serve.py` first; `connection.py` holds all that reaches into hypercorn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_mcp.transports.hypercorn.serve import TLS, serve_asgi

__all__ = ["TLS", "serve_asgi"]

if not TYPE_CHECKING:  # for a type checker, a module with this function has every name

    def __getattr__(name: str) -> Any:
        """Import what serves when it is first asked for: only who serves needs hypercorn."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module("trio_mcp.transports.hypercorn.serve"), name)
