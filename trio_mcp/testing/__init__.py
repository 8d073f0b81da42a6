"""Helpers for testing servers and clients: pipes and sockets, a wire recorder, transports with faults.

Owns the list of its public names. No other folder of the package imports it.
Read `connectors.py` first. The authorization server for development is in `authorization/`, and is imported
when it is first asked for: it needs joserfc.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trio_mcp.testing.assertions import assert_progress
from trio_mcp.testing.connectors import HttpConnector, PipeConnector, WebSocketConnector, pipe_streams
from trio_mcp.testing.faults import (
    DroppingTransport,
    LockstepTransport,
    SlowTransport,
    StalledTransport,
    closing_at_byte,
)
from trio_mcp.testing.recorder import WireRecorder
from trio_mcp.testing.step_clock import StepClock
from trio_mcp.transports.memory import memory_pair

if TYPE_CHECKING:
    from trio_mcp.testing.authorization import DevAuthorizationServer, open_authorization_server

__all__ = [
    "DevAuthorizationServer",
    "DroppingTransport",
    "HttpConnector",
    "LockstepTransport",
    "PipeConnector",
    "SlowTransport",
    "StalledTransport",
    "StepClock",
    "WebSocketConnector",
    "WireRecorder",
    "assert_progress",
    "closing_at_byte",
    "memory_pair",
    "open_authorization_server",
    "pipe_streams",
]

if not TYPE_CHECKING:  # for a type checker, a module with this function has every name

    def __getattr__(name: str) -> Any:
        """Import the authorization server when it is first asked for."""
        if name not in ("DevAuthorizationServer", "open_authorization_server"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module("trio_mcp.testing.authorization"), name)
