"""Listening over HTTP: what becomes of it if a stream breaks, or if the server ends the session."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.transports.http.http_peer import LEGACY, MODERN, Call, LegacyServer, answer_modern, serving
from trio_mcp import ConnectionLost, ResourceUpdated, open_client
from trio_mcp.client import listening

PLACE = "config://app"
UPDATED = {"method": "notifications/resources/updated", "params": {"uri": PLACE}}


def addressed(call: Call, method: str, **params: Any) -> dict[str, Any]:
    meta = {"io.modelcontextprotocol/subscriptionId": call.message["id"]}
    return {"method": f"notifications/{method}", "params": {"_meta": meta, **params}}


async def test_a_modern_stream_that_breaks_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", (0.01,))
    may_break, may_tell = trio.Event(), trio.Event()
    listens: list[Call] = []

    async def answer(call: Call) -> None:
        if await answer_modern(call):
            return
        listens.append(call)
        await call.stream()
        honoured = {"resourceSubscriptions": [PLACE]}
        await call.event(addressed(call, "subscriptions/acknowledged", notifications=honoured))
        if len(listens) == 1:
            await may_break.wait()
            await call.end()
            return
        await may_tell.wait()
        await call.event(addressed(call, "resources/updated", uri=f"{PLACE}/part"))
        await call.event({"id": call.message["id"], "result": {"resultType": "complete"}})
        await call.end()

    async with (
        serving(answer) as app,
        open_client(app.url, protocol=MODERN) as client,
        client.subscribe(PLACE) as changes,
    ):
        may_break.set()
        assert await changes.receive() == ResourceUpdated(PLACE), "it may have changed meanwhile"
        may_tell.set()
        assert [change async for change in changes] == [ResourceUpdated(f"{PLACE}/part")]
    assert len(listens) == 2


async def test_leaving_the_block_closes_the_stream() -> None:
    left = trio.Event()

    async def answer(call: Call) -> None:
        if await answer_modern(call):
            return
        await call.stream()
        honoured = {"toolsListChanged": True}
        await call.event(addressed(call, "subscriptions/acknowledged", notifications=honoured))
        await call.wait_disconnect()
        left.set()

    async with serving(answer) as app, open_client(app.url, protocol=MODERN) as client:
        async with client.listen(tools=True):
            pass
        await left.wait()


async def test_a_legacy_subscription_is_renewed_in_a_new_session() -> None:
    subscribed: list[str] = []
    may_end = trio.Event()

    async def answer(call: Call) -> None:
        if call.method == "resources/subscribe":
            subscribed.append(call.headers["mcp-session-id"])
        await call.result({})

    async def listen(call: Call) -> None:
        if call.headers["mcp-session-id"] != server.sessions[-1]:
            await call.reply(404)
            return
        await call.stream()
        await call.event(None, event_id="1", retry=1)
        if len(server.sessions) == 1:
            await may_end.wait()
            await call.end()
        else:
            await call.event(UPDATED)
            await call.wait_disconnect()

    server = LegacyServer(answer, listen=listen)
    async with (
        serving(server) as app,
        open_client(app.url, protocol=LEGACY) as client,
        client.subscribe(PLACE) as changes,
    ):
        server.sessions.append("after the start of the server")
        may_end.set()
        assert await changes.receive() == ResourceUpdated(PLACE)
        while len(subscribed) < 2:
            await changes.receive()  # one from the stream, and one for what may have been missed
    assert subscribed == ["session-1", "session-3"]


async def test_a_legacy_server_without_a_stream_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Some tell of a change with the answer to a call, which is heard all the same."""

    async def answer(call: Call) -> None:
        if call.method == "ping":
            await call.stream()
            await call.event(UPDATED)
            await call.event({"id": call.message["id"], "result": {}})
            await call.end()
        else:
            await call.result({})

    async with (
        serving(LegacyServer(answer)) as app,
        open_client(app.url, protocol=LEGACY) as client,
        client.subscribe(PLACE) as changes,
    ):
        await client.ping()
        assert await changes.receive() == ResourceUpdated(PLACE)
    warning = f"the server may not tell of any change: {app.url} has no stream for its own messages"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [warning]


async def test_a_legacy_stream_that_is_gone_for_good_is_told() -> None:
    is_gone = False
    may_end = trio.Event()

    async def listen(call: Call) -> None:
        nonlocal is_gone
        if is_gone:
            await call.reply(405)
            return
        is_gone = True
        await call.stream()
        await call.event(None, event_id="1", retry=1)
        await may_end.wait()
        await call.end()

    async def answer(call: Call) -> None:
        await call.result({})

    async with (
        serving(LegacyServer(answer, listen=listen)) as app,
        open_client(app.url, protocol=LEGACY) as client,
        client.subscribe(PLACE) as changes,
    ):
        may_end.set()
        with pytest.raises(ConnectionLost, match="has ended the stream of its own messages"):
            await changes.receive()
        await client.ping()
