"""What a tool cannot have in its era: the client reads why."""

from __future__ import annotations

import logging

import pytest

from tests.conftest import MODERN, Wire
from trio_mcp import Context, Server

server = Server("asks")


@server.tool
async def remember(ctx: Context) -> str:
    return str(ctx.session_state)


async def test_a_modern_call_says_why_it_has_no_session(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    if wire.protocol != MODERN:
        pytest.skip("legacy eras have sessions")
    with caplog.at_level(logging.WARNING, "trio_mcp"):
        async with wire.open(server) as client:
            result = await client.call_tool("remember", raise_on_error=False)
    assert result.is_error
    assert "has no sessions" in result.text
    (record,) = [record for record in caplog.records if "remember" in record.getMessage()]
    assert "has no sessions" in record.getMessage()
    assert record.exc_info is None
