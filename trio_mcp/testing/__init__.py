"""Helpers for testing servers and clients: pipes and sockets, a wire recorder, transports with faults.

Owns the list of public names. Nothing here is imported by the package itself.
"""

from trio_mcp.testing.checks import assert_progress
from trio_mcp.testing.connectors import HttpConnector, PipeConnector, WebSocketConnector, pipe_streams
from trio_mcp.testing.faults import (
    DroppingTransport,
    LockstepTransport,
    SlowTransport,
    StalledTransport,
    closing_at_byte,
)
from trio_mcp.testing.recorder import WireRecorder
from trio_mcp.transports.memory import memory_pair

__all__ = [
    "DroppingTransport",
    "HttpConnector",
    "LockstepTransport",
    "PipeConnector",
    "SlowTransport",
    "StalledTransport",
    "WebSocketConnector",
    "WireRecorder",
    "assert_progress",
    "closing_at_byte",
    "memory_pair",
    "pipe_streams",
]
