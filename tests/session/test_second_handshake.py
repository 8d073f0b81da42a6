"""A second `initialize` on one wire begins a new session."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import TRANSPORTS
from tests.support.raw_peer import call, open_raw
from trio_mcp import Context, Server

ONE_WIRE = [transport for transport in TRANSPORTS if transport != "http"]


def make_server(events: list[str]) -> Server:
    server = Server("again")

    @server.tool
    async def hang(ctx: Context, label: str) -> None:
        events.append(f"{label} began")
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            events.append(f"{label} ended")
            raise

    @server.tool
    async def count(ctx: Context) -> int:
        ctx.session_state["count"] = ctx.session_state.get("count", 0) + 1
        await ctx.debug("counted")
        return ctx.session_state["count"]

    @server.tool
    async def wait_events(number: int) -> list[str]:
        while len(events) < number:  # noqa: ASYNC110  # a list has no event
            await trio.lowlevel.checkpoint()
        return events

    return server


def number_of(answer: Any) -> Any:
    return answer["result"]["structuredContent"]["result"]


@pytest.mark.parametrize("transport", ONE_WIRE)
async def test_a_second_initialize_begins_a_session_with_a_state_of_its_own(transport: str) -> None:
    async with open_raw(transport, make_server([])) as peer:
        await peer.initialize("2025-06-18")
        level = {"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}}
        await peer.ask(level)
        assert (await peer.ask(call(2, "count", modern=False)))["method"] == "notifications/message"
        assert number_of(await peer.receive()) == 1
        answer = await peer.initialize("2025-11-25")
        assert answer["result"]["protocolVersion"] == "2025-11-25"
        answer = await peer.ask(call(2, "count", modern=False))
        assert number_of(answer) == 1, "no log message, and no state of the first session"


@pytest.mark.parametrize("transport", ONE_WIRE)
async def test_calls_of_the_first_session_are_withdrawn_and_modern_ones_go_on(transport: str) -> None:
    events: list[str] = []
    async with open_raw(transport, make_server(events)) as peer:
        await peer.initialize("2025-11-25")
        await peer.send(
            call("init", "hang", modern=False, label="old"), call("modern", "hang", label="modern")
        )
        await peer.ask(call("wait", "wait_events", number=2))
        answer = await peer.initialize("2025-11-25")  # with the id of the old call
        assert "result" in answer
        assert number_of(await peer.ask(call(1, "wait_events", modern=False, number=3)))[2:] == ["old ended"]


async def test_over_http_a_session_begins_with_a_request_that_names_none() -> None:
    async with open_raw("http", make_server([])) as peer:
        await peer.initialize("2025-11-25")
        answer = await peer.initialize("2025-11-25")  # with the header Mcp-Session-Id
        assert answer["error"]["code"] == -32600
