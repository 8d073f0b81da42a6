"""Clients of the conformance fixture, of which every message must fit the published schema of its revision.

Without npm there are no schemas to validate with; see `tests/interop/published_checks.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias

import pytest

from tests.conformance.asker import Asker
from tests.conformance.server import make_server
from tests.conftest import LEGACY, MODERN, WIRES, Wire
from tests.interop.published_checks import HAS_NPM, Check, open_schemas
from tests.interop.published_names import Naming
from tests.interop.published_wire import Message, Side
from tests.support.mounted import MountedWire
from tests.support.raw_peer import open_raw
from trio_mcp import Client, Server
from trio_mcp.testing import WireRecorder

MOUNTED: Final = [
    MountedWire(transport, protocol) for transport in ("memory", "http") for protocol in (MODERN, LEGACY)
]


def name_wire(wire: Wire) -> str:
    return f"{'mounted-' if isinstance(wire, MountedWire) else ''}{wire.transport}-{wire.protocol}"


@pytest.fixture(params=[*WIRES, *MOUNTED], ids=name_wire)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Runs the test over every transport in both eras, and with the fixture mounted in another server."""
    wire: Wire = request.param
    return wire


OpenClient: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Client, WireRecorder]]]
OpenAsker: TypeAlias = Callable[[], AbstractAsyncContextManager[Asker]]


@pytest.fixture(scope="session")
def check() -> Iterator[Check]:
    if not HAS_NPM:
        yield lambda revision, named: []
        return
    with open_schemas() as check_schemas:
        yield check_schemas


def validate(check: Check, revision: str, messages: Sequence[Message], only: Side | None = None) -> None:
    naming = Naming(revision, messages, only)
    assert naming.problems + naming.find_nulls() + check(revision, naming.named) == []


@pytest.fixture
def open_recorded(wire: Wire, check: Check) -> OpenClient:
    """Opens a client of the fixture, or of a server that is given, over the wire of the test."""

    @asynccontextmanager
    async def open_recorded(
        server: Server | None = None, **options: Any
    ) -> AsyncIterator[tuple[Client, WireRecorder]]:
        recorder = wire.recorder(make_server() if server is None else server)
        async with wire.open(recorder, **options) as client:
            yield client, recorder
        validate(
            check,
            wire.protocol,
            [
                *(Message("client", message) for message in recorder.sent_messages()),
                *(Message("server", message) for message in recorder.received_messages()),
            ],
        )

    return open_recorded


@pytest.fixture
def open_asker(transport: str, check: Check) -> OpenAsker:
    """Opens a sender of modern requests over the transport of the test; some are meant to be wrong."""

    @asynccontextmanager
    async def open_asker() -> AsyncIterator[Asker]:
        async with open_raw(transport, make_server()) as peer:
            asker = Asker(peer)
            yield asker
        validate(check, MODERN, asker.messages, "server")

    return open_asker
