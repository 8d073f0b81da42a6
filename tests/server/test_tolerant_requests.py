"""Requests that say null for what they leave out, and requests that cannot be decoded."""

from __future__ import annotations

import pytest
import trio

from tests.conftest import TRANSPORTS
from tests.support.raw_peer import MODERN_META, open_raw
from trio_mcp import Context, Server, ServerSettings, TaskSettings


def make_server() -> Server:
    server = Server("tolerant", version="1")

    @server.tool
    async def report(ctx: Context) -> str:
        await ctx.report_progress(1)
        return "done"

    @server.tool
    async def wait() -> None:
        await trio.sleep_forever()

    return server


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("null", ["arguments", "task", "inputResponses", "requestState"])
async def test_a_null_member_of_a_modern_call_is_absent(transport, null):
    meta = {**MODERN_META, "progressToken": None}
    params = {"name": "report", "_meta": meta, null: None}
    async with open_raw(transport, make_server()) as peer:
        answer = await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert answer["result"]["content"][0]["text"] == "done"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_null_members_of_a_legacy_session_are_absent(transport):
    params = {"protocolVersion": "2025-11-25", "capabilities": None, "clientInfo": None, "_meta": None}
    async with open_raw(transport, make_server()) as peer:
        answer = await peer.ask({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        assert answer["result"]["protocolVersion"] == "2025-11-25"
        call = {"name": "report", "arguments": None, "_meta": None}
        answer = await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
        assert answer["result"]["content"][0]["text"] == "done"


@pytest.mark.parametrize("transport", ["memory", "stdio", "websocket", "websocket-asgi"])
async def test_a_cancellation_whose_id_differs_in_its_json_type_is_matched(transport):
    async with open_raw(transport, make_server()) as peer:
        params = {"name": "wait", "_meta": MODERN_META}
        await peer.send(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "1"}},
        )
        # The id can be used again only if the request is over.
        while True:
            params = {"name": "report", "_meta": MODERN_META}
            answer = await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
            if "result" in answer:
                break
            assert "already in use" in answer["error"]["message"]


@pytest.mark.parametrize("settings", [ServerSettings, TaskSettings])
def test_a_setting_that_no_float_holds_is_refused(settings):
    name = "drain_timeout" if settings is ServerSettings else "ttl"
    for value in (10**400, 10**5000, float("inf")):
        with pytest.raises(ValueError, match=name):
            settings(**{name: value})
