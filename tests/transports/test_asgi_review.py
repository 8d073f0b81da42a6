"""The HTTP endpoint where clients, hosts and timing are at their worst."""

from __future__ import annotations

from typing import Any

from tests.asgi import Host, LegacyClient, finish, open_host
from tests.transports.test_asgi import make_server
from trio_mcp import asgi_app


def find_session(host: Host, client: LegacyClient) -> Any:
    return host._app._endpoint._sessions.find(client.session_id, None)


async def test_a_stream_whose_response_was_cancelled_is_carried_no_more():
    """Else its writer would wait for room for ever, and it would never be forgotten."""
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        answer = client.get()
        await answer.wait_body(b":\n\n")
        session = find_session(host, client)
        assert session._main.is_carried
        answer.scope.cancel()
        await finish(answer)
        assert not session._main.is_carried
        assert not session._home.is_heard
