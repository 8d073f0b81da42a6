"""The states of a legacy session over HTTP: the table, and a session that walks through it."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.asgi_host import finish, open_host
from tests.transports.asgi.test_asgi import make_server
from tests.transports.asgi.test_asgi_hostile import find_session
from trio_mcp import Context, HttpSettings, Server, asgi_app, open_server
from trio_mcp.errors import LocalProtocolError
from trio_mcp.transports.asgi.legacy_session import MOVES, LegacySession, SessionEvent, SessionState

INITIALIZING, OPEN, ENDING, ENDED = SessionState
EVENTS = get_args(SessionEvent)


async def make_session(state: SessionState) -> LegacySession:
    async with open_server(Server("states", version="1")) as running:
        session = LegacySession(running.application, HttpSettings(), None, "peer")
    session.state = state
    return session


@pytest.mark.parametrize(("state", "event"), list(product(SessionState, EVENTS)))
async def test_every_event_in_every_state_follows_the_table(state, event):
    session = await make_session(state)
    expected = {
        "accepted": {INITIALIZING: OPEN, ENDING: ENDING},
        "end": {INITIALIZING: ENDING, OPEN: ENDING, ENDING: ENDING, ENDED: ENDED},
        "finished": {INITIALIZING: ENDED, OPEN: ENDED, ENDING: ENDED},
    }[event]
    if state not in expected:
        assert (state, event) not in MOVES
        with pytest.raises(LocalProtocolError, match=f"{state.value} cannot"):
            session._move(event)
        assert session.state is state
    else:
        session._move(event)
        assert session.state is expected[state]


def test_every_state_can_be_reached_and_the_last_is_final():
    reached = {INITIALIZING}
    while new := {after for (before, _), after in MOVES.items() if before in reached} - reached:
        reached |= new
    assert reached == set(SessionState)
    assert {after for (before, _), after in MOVES.items() if before is ENDED} == {ENDED}


async def test_a_session_opens_with_its_handshake_and_ends_when_it_is_deleted():
    server, cleaning = make_server(), trio.Event()

    @server.tool
    async def lingers(ctx: Context) -> None:
        try:
            await ctx.report_progress(1)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await cleaning.wait()

    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        session = find_session(host, client)
        assert session.state is OPEN
        call = client.call("lingers", token=1)
        await call.wait_messages(1)
        assert repr(session) == "<LegacySession open, 1 streams, 1 responses>"
        assert client.session_id not in repr(session)
        assert (await client.delete()).status == 204
        assert session.state is ENDING
        assert find_session(host, client) is None
        await wait_all_tasks_blocked()
        assert session.state is ENDING  # until its handlers have cleaned up
        cleaning.set()
        await finish(call)
        await wait_all_tasks_blocked()
        assert session.state is ENDED


async def test_a_session_whose_handshake_is_refused_ends():
    async with open_host(asgi_app(make_server())) as host:
        sessions = host._app._endpoint._sessions
        refused = host.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}})
        await finish(refused)
        assert refused.json["error"]["code"] == -32602
        await wait_all_tasks_blocked()
        assert len(sessions) == 0


async def test_a_session_ends_with_its_server():
    async with open_host(asgi_app(make_server())) as host:
        session = find_session(host, await host.initialize())
    assert session.state is ENDED


async def test_an_endpoint_shows_its_state():
    app = asgi_app(make_server())
    assert repr(app._endpoint) == "<Endpoint /mcp not serving, 0 responses, 0 sessions>"
    async with open_host(app) as host:
        await host.initialize()
        call = host.call("hold", token=1)
        await call.wait_messages(1)
        assert repr(app._endpoint) == "<Endpoint /mcp serving, 1 responses, 1 sessions>"


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_an_event_without_data_is_sent_only_in_the_revision_that_has_it(version):
    """Clients of the older revisions take it for a message, on the stream of a GET as on that of a POST."""
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize(version)
        answer = client.get()
        await answer.wait_body(b":\n\n")
        assert (b"data: \n" in answer.body) == (version == "2025-11-25")
        answer.scope.cancel()
