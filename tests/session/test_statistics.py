"""The state that a session and its connections show."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_mcp import Server, open_server
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.permit import Permit
from trio_mcp.session.principal import Principal
from trio_mcp.session.server_session import ServerSession, SessionStatistics
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import Notification, Request
from trio_mcp.wire.handshake import Handshake


async def test_a_session_counts_its_work():
    server, release = Server("statistics", version="1"), trio.Event()

    @server.tool
    async def wait() -> None:
        await release.wait()

    async with open_server(server) as running, trio.open_nursery() as nursery:
        connection = ServerConnection(Outbox(100), None)
        session = ServerSession(running.application, connection, nursery)
        assert session.statistics() == SessionStatistics(None, Handshake.AWAITED, running=0, unwritten=0)
        info = {"name": "client", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        session.accept(Request(1, "initialize", encode_value(params)), connection)
        session.accept(Notification("notifications/initialized"), connection)
        session.accept(Request(2, "tools/call", encode_value({"name": "wait"})), connection)
        now = session.statistics()
        assert (now.era, now.handshake, now.running) == ("2025-11-25", Handshake.READY, 1)
        assert repr(session) == f"<ServerSession 2025-11-25, ready, 1 running, {now.unwritten} unwritten>"
        release.set()
        await wait_all_tasks_blocked()
        assert session.statistics().running == 0
        nursery.cancel_scope.cancel()


async def test_a_connection_shows_whether_its_client_is_there():
    connection = ServerConnection(Outbox(100), Permit(Principal("somebody")))
    branch = connection.branch(Outbox(100))
    assert repr(connection) == "<ServerConnection home, client heard, 0 open questions>"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(branch.ask, "ping", {})
        await wait_all_tasks_blocked()
        assert repr(branch) == "<ServerConnection branch, client heard, 1 open questions>"
        nursery.cancel_scope.cancel()
    connection.note_heard(False)
    assert repr(connection) == "<ServerConnection home, client not heard, 0 open questions>"
    connection.lose()
    assert repr(branch) == "<ServerConnection branch, client lost, 0 open questions>"
