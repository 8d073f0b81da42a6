"""WebSocket: messages, bursts of messages, and how connections end."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import call
from tests.transports.websocket.websocket_peers import (
    LIMIT,
    Url,
    ask,
    make_server,
    make_service,
    memory_pair,
    open_peer,
    receive_until_closed,
    receive_updates,
    serving,
    serving_peer,
)
from trio_mcp import (
    ConnectionLost,
    Lossless,
    open_client,
    open_server,
    serve_websocket,
)
from trio_mcp.client.settings import ClientSettings
from trio_mcp.testing import WebSocketConnector, assert_progress
from trio_mcp.transports.websocket.client import open_websocket_transport
from trio_mcp.wire.errors import PARSE_ERROR
from trio_mcp.wire.frames import Malformed, Notification, ProgressRun, Request, Response
from trio_mcp.wire.websocket import decode_texts

# Messages


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_the_progress_of_a_call_arrives_in_order(protocol):
    server, _ = make_server(progress=Lossless())
    updates: list[Any] = []
    settings = ClientSettings(progress=Lossless(buffer=10_000))
    with trio.fail_after(HANG_SECONDS):
        async with open_client(
            WebSocketConnector(server),
            protocol=protocol,
            settings=settings,
            progress_handler=lambda *update: updates.append(update),
        ) as client:
            assert client.protocol_version == protocol
            result = await client.call_tool("burst", {"count": 5000})
            assert result.data == 5000
    assert [update[0] for update in updates] == list(range(1, 5001))
    assert_progress(updates, count=5000, first=1, last=5000, total=5000)


async def test_a_burst_leaves_in_one_write_and_arrives_in_few_reads():
    connected = memory_pair(trio.testing.memory_stream_pair())
    sent = [(float(number), None, None, None) for number in range(1000)]
    with trio.fail_after(HANG_SECONDS):
        async with connected() as (client, server, counter):
            await server.send_frames([ProgressRun(1, sent), Response(1, msgspec.Raw(b"{}"))])
            assert len(counter.writes) == 1
            received: list[Any] = []
            portions = 0
            while not received or not isinstance(received[-1], Response):
                received += await client.receive_frames()
                portions += 1
    assert [update for frame in received[:-1] for update in frame.updates] == sent
    assert portions <= 4


async def test_pings_during_a_burst_are_answered_and_corrupt_nothing():
    connected = memory_pair(trio.testing.memory_stream_pair())
    sent = [(float(number), None, None, None) for number in range(300)]
    with trio.fail_after(HANG_SECONDS):
        async with connected() as (client, server, _), trio.open_nursery() as nursery:
            raw = client._connection

            @nursery.start_soon
            async def ping() -> None:
                for _ in range(50):
                    await raw.ping()

            @nursery.start_soon
            async def send() -> None:
                for start in range(0, 300, 100):
                    await server.send_frames([ProgressRun(1, sent[start : start + 100])])

            nursery.start_soon(lambda: receive_until_closed(server))
            updates, _ = await receive_updates(client, 300)
            assert updates == sent
            await trio.testing.wait_all_tasks_blocked()
            assert not raw._pings
            nursery.cancel_scope.cancel()


async def send_forever(transport: Any) -> None:
    while True:
        await transport.send_frames([ProgressRun(1, [(float(n), None, None, None) for n in range(50)])])


async def test_the_close_of_a_peer_during_a_burst_is_answered(autojump_clock):
    connected = memory_pair(trio.testing.memory_stream_pair())
    with trio.fail_after(10):
        async with connected() as (client, server, _), trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await send_forever(server)

            await client.receive_frames()
            start = trio.current_time()
            await client.aclose()
            assert trio.current_time() == start, "the peer's goodbye was lost"
            with pytest.raises(trio.EndOfChannel):
                await receive_until_closed(server)


async def test_a_cancelled_send_loses_nothing_that_trio_websocket_sends():
    connected = memory_pair(trio.testing.memory_stream_pair())
    with trio.fail_after(HANG_SECONDS):
        async with connected() as (client, server, _):
            with trio.CancelScope() as scope:
                scope.cancel()
                await server.send_frames([Notification("a"), Notification("b")])
            await server.send_frames([Notification("c")])
            received = []
            while not received or received[-1] != Notification("c"):
                received += await client.receive_frames()
            await server.aclose()
            with pytest.raises(trio.EndOfChannel):
                await client.receive_frames()


def test_messages_are_decoded_in_order():
    progress = (
        '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":%d}}'
    )
    request = '{"jsonrpc":"2.0","id":1,\n"method":"ping"}'
    messages = [progress % 1, progress % 2, b"\x00", request, "", " ", progress % 3, '{"a"\n', "nonsense"]
    first, binary, ping, empty, blank, last, split, nonsense = decode_texts(messages)
    assert isinstance(first, ProgressRun)
    assert len(first.updates) == 2
    assert ping == Request(1, "ping")
    assert isinstance(last, ProgressRun)
    for malformed in (binary, empty, blank, split, nonsense):
        assert isinstance(malformed, Malformed)
        assert malformed.code == PARSE_ERROR


@pytest.mark.parametrize("message", [b"\x00binary", "nonsense", "", "{}\n{}"])
async def test_a_malformed_message_is_answered_and_the_connection_lives_on(message):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url, open_peer(url) as connection:
            answer = await ask(connection, message)
            assert answer["error"]["code"] == PARSE_ERROR
            answer = await ask(connection, call(7, "echo", text="still here"))
            assert answer["id"] == 7
            assert "result" in answer


async def test_one_connection_serves_both_eras():
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url, open_peer(url) as connection:
            params = {
                "protocolVersion": LEGACY,
                "capabilities": {},
                "clientInfo": {"name": "x", "version": "1"},
            }
            message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
            assert (await ask(connection, message))["result"]["protocolVersion"] == LEGACY
            assert "result" in await ask(connection, call(2, "echo", text="modern"))
            assert "result" in await ask(connection, call(3, "echo", modern=False, text="legacy"))


# Ends


async def test_a_disconnect_cancels_the_handler():
    server, seen = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url:
            async with open_peer(url) as connection:
                await connection.send_message(msgspec.json.encode(call(1, "wait")).decode())
                await seen["started"].wait()
            await seen["cancelled"].wait()


async def test_a_peer_that_vanishes_cancels_the_handler():
    server, seen = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url, trio.open_nursery() as nursery:
            connection = await trio_websocket.connect_websocket_url(nursery, url)
            await connection.send_message(msgspec.json.encode(call(1, "wait")).decode())
            await seen["started"].wait()
            await connection._stream.aclose()
            await seen["cancelled"].wait()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, trio.EndOfChannel),
        (1001, trio.EndOfChannel),
        (None, trio.EndOfChannel),
        (1008, trio.BrokenResourceError),
        (1011, trio.BrokenResourceError),
        (4000, trio.BrokenResourceError),
        ("abort", trio.BrokenResourceError),
    ],
)
async def test_close_codes_become_exceptions(code, expected):
    async def talk(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.send_message('{"jsonrpc":"2.0","method":"last"}')
        if code == "abort":
            await connection._stream.aclose()
        else:
            await connection.aclose(code, None if code is None else "because")

    with trio.fail_after(HANG_SECONDS):
        async with (
            serving_peer(talk) as url,
            open_websocket_transport(url, max_frame_bytes=LIMIT) as transport,
        ):
            assert await transport.receive_frames() == [Notification("last")]
            for _ in range(2):
                with pytest.raises(expected) as caught:
                    await transport.receive_frames()
            if isinstance(code, int) and expected is trio.BrokenResourceError:
                assert str(caught.value) == f"the connection was closed with code {code}: because"
            with pytest.raises(trio.BrokenResourceError):
                await transport.send_frames([Notification("late")])


async def test_a_client_in_mid_call_learns_that_the_server_closed():
    server, seen = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve_websocket, server)

            @outer.start_soon
            async def use() -> None:
                async with open_client(Url(url)) as client:
                    with pytest.raises(ConnectionLost, match="the server closed the connection"):
                        await client.call_tool("wait")

            await seen["started"].wait()
            nursery.cancel_scope.cancel()


async def test_a_cancelled_server_closes_with_code_1001():
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve_websocket, server)
            with trio.CancelScope(shield=True):  # the client is not cancelled with the server
                async with open_peer(url) as connection:
                    await ask(connection, call(1, "echo", text="x"))
                    nursery.cancel_scope.cancel()
                    with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                        await connection.get_message()
    assert closed.value.reason.code == 1001


async def test_a_closed_transport_refuses_both_directions():
    connected = memory_pair(trio.testing.memory_stream_pair())
    with trio.fail_after(HANG_SECONDS):
        async with connected() as (client, server, _):
            await client.aclose()
            await client.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await client.send_frames([Notification("x")])
            with pytest.raises(trio.ClosedResourceError):
                await client.receive_frames()
            with pytest.raises(trio.EndOfChannel):
                await server.receive_frames()


async def test_closing_wakes_the_receiver():
    connected = memory_pair(trio.testing.memory_stream_pair())
    with trio.fail_after(HANG_SECONDS):
        async with connected() as (client, _, _), trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.receive_frames()

            await trio.testing.wait_all_tasks_blocked()
            await client.aclose()


async def test_a_second_user_of_a_direction_is_refused():
    connected = memory_pair(trio.testing.lockstep_stream_pair())
    with trio.fail_after(HANG_SECONDS):
        async with connected() as (client, _, _), trio.open_nursery() as nursery:
            nursery.start_soon(client.receive_frames)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await client.receive_frames()
            nursery.cancel_scope.cancel()


async def test_closing_while_cancelled_closes_the_stream():
    ours, theirs = trio.testing.memory_stream_pair()
    connected = memory_pair((ours, theirs))
    with trio.fail_after(HANG_SECONDS):
        async with connected() as (client, _, _):
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await ours.send_all(b"x")


@pytest.mark.parametrize("tell", ["peer", "us"])
async def test_a_message_over_the_cap_closes_with_1009(tell):
    server, seen = make_server(max_frame_bytes=LIMIT)
    with trio.fail_after(HANG_SECONDS):
        if tell == "peer":
            async with serving(server) as url, open_peer(url) as connection:
                await connection.send_message(msgspec.json.encode(call(1, "wait")).decode())
                with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                    await ask(connection, "x" * 20 * LIMIT)
                assert closed.value.reason.code == 1009
                await seen["cancelled"].wait()
        else:
            async with (
                serving_peer(lambda connection: connection.send_message("x" * 20 * LIMIT)) as url,
                open_websocket_transport(url, max_frame_bytes=LIMIT) as transport,
            ):
                with pytest.raises(trio.BrokenResourceError, match=f"1009: Exceeded .* {LIMIT} bytes"):
                    await transport.receive_frames()


async def test_text_that_is_not_utf8_breaks_the_connection():
    async def talk(connection: trio_websocket.WebSocketConnection) -> None:
        await connection._stream.send_all(b"\x81\x01\xff")
        await trio.sleep_forever()

    with trio.fail_after(HANG_SECONDS):
        async with (
            serving_peer(talk) as url,
            open_websocket_transport(url, max_frame_bytes=LIMIT) as transport,
        ):
            with pytest.raises(trio.BrokenResourceError, match="1007"):
                await transport.receive_frames()


# Many connections


async def test_many_connections_are_served_at_once():
    server, _ = make_server(progress=Lossless())
    counts: list[int] = []

    async def use(url: str) -> None:
        updates: list[Any] = []
        async with open_client(Url(url), progress_handler=lambda *update: updates.append(update)) as client:
            await client.call_tool("burst", {"count": 20})
        assert_progress(updates, last=20)
        counts.append(len(updates))

    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url:
            await use(url)
            await trio.testing.wait_all_tasks_blocked(0.01)
            before, tasks = open_files(), trio.lowlevel.current_statistics().tasks_living
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(use, url)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert open_files() == before
            assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert counts == [20] * 101


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_without_trio_websocket_the_extra_is_named():
    code = """
import sys, trio, trio_mcp, trio_mcp.testing
sys.modules["trio_websocket"] = None
try:
    trio.run(trio_mcp.serve_websocket, trio_mcp.Server("s"))
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "WebSocket needs trio-websocket: pip install 'trio-mcp[websocket]'\n"


async def test_the_crash_of_one_connection_touches_no_other(caplog):
    server, _ = make_server()
    crash = trio.Event()

    class Crashing:
        async def serve(self, transport: Any) -> None:
            await crash.wait()
            raise RuntimeError("this one only")

    with trio.fail_after(HANG_SECONDS):
        async with open_server(server) as running, trio.open_nursery() as nursery:
            connections = 0

            async def serve(transport: Any, headers: Any) -> None:
                nonlocal connections
                connections += 1
                await (Crashing().serve(transport) if connections == 1 else running.serve(transport))

            (url,) = await nursery.start(make_service(serve).listen, "127.0.0.1", 0)
            first = open_websocket_transport(url, max_frame_bytes=LIMIT)
            async with first as transport, open_client(Url(url)) as client:
                crash.set()
                with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                    await transport.receive_frames()
                await client.call_tool("echo", {"text": "still here"})
            nursery.cancel_scope.cancel()
    assert "a WebSocket connection crashed" in caplog.text


async def test_one_running_server_on_two_sockets_shares_its_tasks():
    server, _ = make_server()

    @server.tool(task=True)
    async def job() -> str:
        return "done"

    with trio.fail_after(HANG_SECONDS):
        async with open_server(server) as running, serving(running) as one, serving(running) as other:
            async with open_client(Url(one)) as client:
                handle = await client.call_tool("job", task=True)
                await handle.result()
            async with open_client(Url(other)) as client:
                assert (await client.fetch_task(handle.id)).status == "completed"
