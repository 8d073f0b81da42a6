"""The transports over which laws on single messages are tested, whatever the era."""

from __future__ import annotations

import pytest

from tests.conftest import TRANSPORTS


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """The name of a transport."""
    return request.param


@pytest.fixture(params=[transport for transport in TRANSPORTS if transport != "http"])
def connection(request: pytest.FixtureRequest) -> str:
    """The name of a transport on which all messages share one connection (HTTP: see test_asgi.py)."""
    return request.param
