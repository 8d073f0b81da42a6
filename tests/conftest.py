"""The transports and eras over which every behaviour is tested."""

from __future__ import annotations

import gc
import importlib.util
import signal
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings

from trio_mcp import Client, Server, ServerSettings, open_client
from trio_mcp.testing import HttpConnector, PipeConnector, StepClock, WebSocketConnector, WireRecorder

TRANSPORTS = ("memory", "stdio", "http", "websocket", "websocket-asgi", "sse")
"""stdio means real pipes with the framing of stdio; "websocket" is served by trio-websocket, "websocket-asgi"
by hypercorn; "sse" is the HTTP+SSE of 2024-11-05."""

MODERN, LEGACY = "2026-07-28", "2025-11-25"

# Types of other packages are tested where these are installed: the extra "test" brings them all.
_TYPES_OF = {
    "schema/test_library_types.py": ("numpy", "pandas"),
    "schema/test_local_names.py": ("pydantic",),
    "schema/test_metadata.py": ("pydantic",),
    "schema/test_pydantic.py": ("pydantic",),
    "server/test_pydantic_servers.py": ("pydantic", "numpy"),
    "docs/test_types.py": ("pydantic", "numpy", "pandas"),
}
collect_ignore = [
    name for name, packages in _TYPES_OF.items() if not all(map(importlib.util.find_spec, packages))
]

# How long an example takes tells of the machine.
settings.register_profile("tests", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Leave the collected tests out of garbage collections, each of which would walk through all of them."""
    gc.collect()
    gc.freeze()


@attrs.frozen
class Wire:
    """One transport and one era, with which the `wire` fixture runs a test."""

    transport: str
    protocol: str

    def target(self, server: Any) -> Any:
        """A target for `open_client` that reaches `server` over this transport."""
        match self.transport:
            case "memory":
                return server
            case "stdio":
                return PipeConnector(server)
            case "http":
                return HttpConnector(server)
            case "websocket":
                return WebSocketConnector(server)
            case "websocket-asgi":
                return HttpConnector(server, websocket=True)
            case "sse":
                return HttpConnector(server, sse=True)
        raise AssertionError(self.transport)

    def recorder(self, server: Server) -> WireRecorder:
        """The same target, with a record of all messages."""
        return WireRecorder(self.target(server))

    def open_running(self, running: Any, **options: Any) -> AbstractAsyncContextManager[Client]:
        """Connect to a server that is running already, or to one principal's view of it."""
        return open_client(self.target(running), protocol=self.protocol, **options)

    def open(self, server: Server | WireRecorder, **options: Any) -> AbstractAsyncContextManager[Client]:
        """Connect to a server over this transport, in this era."""
        target = server if isinstance(server, WireRecorder) else self.target(server)
        return open_client(target, protocol=self.protocol, **options)


@pytest.fixture(scope="session", autouse=True)
def noticed_signals() -> None:
    """Let processes that tests start notice signals, also if the tests run in the background or by nohup.

    A child ignores what its parent ignores.
    """
    defaults = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    for name, default in defaults.items():
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


@pytest.fixture(scope="session", autouse=True)
def counted_turns() -> Iterator[None]:
    """Let every server of the tests count instead of measuring time, so that speed decides no merging."""
    with pytest.MonkeyPatch.context() as patch:
        # Keyword defaults of an attrs class: servers and explicit `ServerSettings` take them alike.
        patch.setitem(ServerSettings.__init__.__kwdefaults__, "turn_clock", StepClock())
        yield


WIRES = [
    Wire(transport, protocol)
    for transport in TRANSPORTS
    for protocol in (MODERN, LEGACY)
    if (transport, protocol) != ("sse", MODERN)  # no modern revision has this transport
]


@pytest.fixture(
    params=WIRES,
    ids=lambda wire: f"{wire.transport}-{wire.protocol}",
)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Runs the test over every transport in both eras."""
    return request.param
