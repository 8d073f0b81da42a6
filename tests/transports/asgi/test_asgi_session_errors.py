"""Regression tests for faults that the official conformance suite found in the HTTP endpoint."""

import pytest

from tests.support.asgi_host import finish, open_host
from trio_mcp import Server, asgi_app


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [("no/such", {}, -32601), ("tools/call", {}, -32602), ("tools/call", {"name": "none"}, -32602)],
)
async def test_an_error_in_a_session_does_not_have_status_404(method, params, code):
    """404 says that the session has ended, and clients begin a new one (MCP transports 2025-11-25)."""
    async with open_host(asgi_app(Server("errors"))) as host:
        client = await host.initialize()
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await finish(client.post(request))
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (200, code, 1)
