"""What the instruments of a client are told."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.instruments.recorder import Recorder
from tests.instruments.test_server_hooks import make_server
from trio_mcp import CallTimeout, ProtocolError, ToolError, open_client, open_group, open_server
from trio_mcp.instruments import ObservedCall
from trio_mcp.testing import WireRecorder
from trio_mcp.wire.errors import DEADLINE_PASSED, INVALID_PARAMS


async def test_a_call_is_told_with_what_arrives_and_its_end(wire: Wire) -> None:
    recorder = Recorder()
    async with wire.open(make_server(), instruments=[recorder]) as client:
        await client.call_tool("count", {"to": 2}, progress_handler=lambda *update: None)
    assert recorder.of("call_started", "progress", "call_ended") == [
        ("call_started", "tools/call", "count"),
        ("progress", "ObservedCall", 1, 2, None),
        ("progress", "ObservedCall", 2, 2, None),
        ("progress", "ObservedCall", 2, 2, "done"),
        ("call_ended", "tools/call", "result"),
    ]
    (call,) = [call for call in recorder.calls if call.method == "tools/call"]
    kinds = {"websocket-asgi": "websocket"}
    transport = kinds.get(wire.transport, wire.transport)
    assert (call.side, call.protocol_version, call.transport) == ("client", wire.protocol, transport)
    assert call.session is recorder.sessions[0]
    assert recorder.of("session_opened", "session_ended") == [
        ("session_opened", transport, wire.protocol),
        ("session_ended", transport),
    ]


async def test_ids_and_targets_are_those_on_the_wire() -> None:
    recorder, wires = Recorder(), WireRecorder(make_server())
    async with open_client(wires, protocol=LEGACY, instruments=[recorder]) as client:
        await client.list_tools()
        await client.get_prompt("greet", {"name": "Ada"})
        await client.read_resource("photo://summer")
    told = [(call.id, call.method) for call in recorder.calls]
    assert told == [(sent["id"], sent["method"]) for sent in wires.sent_messages() if "id" in sent]
    assert [call.target for call in recorder.calls] == [None, None, "greet", "photo://summer"]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_each_way_to_end_has_an_outcome(protocol: str, autojump_clock: trio.testing.MockClock) -> None:
    recorder, server = Recorder(), make_server()

    @server.tool
    async def stay() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)

    async with open_client(server, protocol=protocol, instruments=[recorder]) as client:
        with pytest.raises(ToolError):
            await client.call_tool("fail", {"kind": "tool"})
        with pytest.raises(ProtocolError):
            await client.call_tool("unknown")
        async with client.start_call("wait"):
            await recorder.wait_call("wait")
        with pytest.raises(CallTimeout):
            await client.call_tool("stay", max_timeout=1)
        with pytest.raises(CallTimeout):
            await client.call_tool("wait", max_timeout=1)
        await client.call_tool("count", {"to": 1})
    calls = [call for call in recorder.calls if call.method == "tools/call"]
    outcomes = [call.outcome for call in calls]
    assert outcomes == ["tool_error", "error", "cancelled", "lost", "error", "result"]
    assert [call.error_code for call in calls if call.error_code] == [INVALID_PARAMS, DEADLINE_PASSED]
    assert isinstance(calls[1].error, ProtocolError)
    assert isinstance(calls[3].error, CallTimeout)


async def test_a_call_whose_connection_is_lost_ends() -> None:
    recorder = Recorder()
    async with open_server(make_server()) as running, trio.open_nursery() as nursery:

        async def call() -> None:
            async with open_client(running, instruments=[recorder]) as client:
                await client.call_tool("wait")

        nursery.start_soon(call)
        await recorder.wait_call("wait")
        nursery.cancel_scope.cancel()
    started, ended = len(recorder.of("call_started")), len(recorder.of("call_ended"))
    assert (started, ended) == (1, 1)
    assert recorder.told[-1][0] == "session_ended"


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_call_that_becomes_a_task_ends_with_the_answer_that_names_it(protocol: str) -> None:
    recorder, server = Recorder(), make_server()

    @server.tool(task=True)
    async def work() -> str:
        return "worked"

    async with open_client(server, protocol=protocol, instruments=[recorder]) as client:
        task = await client.call_tool("work", task=True)
        assert recorder.of("call_ended") == [("call_ended", "tools/call", "result")]
        await task.result()
    assert len(recorder.of("call_started")) == len(recorder.of("call_ended")) == 1


async def test_what_an_instrument_puts_into_meta_goes_with_the_request_and_no_further() -> None:
    class Marking:
        def call_started(self, call: ObservedCall) -> None:
            if call.method == "tools/call":
                call.meta["example.com/mark"] = call.id

    recorder, server = Recorder(), make_server()
    server.add_instrument(recorder)
    async with open_client(server, instruments=[Marking()]) as client:
        await client.call_tool("count", {"to": 1})
        await client.list_tools()
        await client.call_tool("count", {"to": 1})
    marks = [call.meta.get("example.com/mark") for call in recorder.calls]
    assert marks == [None, 2, None, 4]


async def test_all_servers_of_a_group_are_observed() -> None:
    recorder = Recorder()
    servers: dict[str, Any] = {"first": make_server(), "second": make_server()}
    async with open_group(servers, instruments=[recorder]) as group:
        await group.call_tool("second_count", {"to": 1})
    assert len(recorder.sessions) == 2
    assert recorder.of("call_ended") == [("call_ended", "tools/call", "result")]


async def test_what_is_no_instrument_is_refused() -> None:
    with pytest.raises(TypeError, match="none of the hooks"):
        async with open_client(make_server(), instruments=[object()]):
            pass
