"""Helpers for testing servers and clients: pipes and sockets, a wire recorder, transports with faults.

Owns the list of its public names. No other folder of the package imports it.
Read `connectors.py` first.
"""

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

__all__ = [
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
    "pipe_streams",
]
