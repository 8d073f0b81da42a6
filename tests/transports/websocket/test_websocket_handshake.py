"""WebSocket handshakes: which are accepted, how others are refused, and TLS."""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket
import trustme

from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import call
from tests.transports.hypercorn.test_departures import make_contexts
from tests.transports.websocket.websocket_peers import (
    LIMIT,
    Url,
    ask,
    make_server,
    make_service,
    open_peer,
    serving,
    serving_bytes,
    serving_peer,
)
from trio_mcp import (
    ConnectionLost,
    Lossless,
    open_client,
    open_server,
    serve_websocket,
)
from trio_mcp.testing import assert_progress
from trio_mcp.transports.websocket.client import open_websocket_transport
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.transports.websocket.keeping import keep_connection
from trio_mcp.transports.websocket.server import WebSocketService
from trio_mcp.wire.frames import Malformed
from trio_mcp.wire.origin import Doorkeeper

# The handshake


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["mcp"], "mcp"), (["soap", "mcp"], "mcp"), (["soap"], None), ([], None)]
)
async def test_the_subprotocol_is_chosen(offered, chosen):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with (
            serving(server) as url,
            open_peer(url, subprotocols=offered) as connection,
        ):
            assert connection.subprotocol == chosen
            assert "result" in await ask(connection, call(1, "echo", text="x"))


@pytest.mark.parametrize("options", [{}, {"subprotocol": "mcp"}])
async def test_a_client_accepts_a_server_with_or_without_a_subprotocol(options):
    with trio.fail_after(HANG_SECONDS):
        async with (
            serving_peer(lambda connection: connection.send_message("{}"), **options) as url,
            open_websocket_transport(url, max_frame_bytes=LIMIT) as transport,
        ):
            (frame,) = await transport.receive_frames()
            assert isinstance(frame, Malformed)


@pytest.mark.parametrize(
    ("headers", "options", "status", "words"),
    [
        ({"Origin": "http://evil.example"}, {}, 403, "'http://evil.example' is not allowed here"),
        ({"Origin": "null"}, {}, 403, "'null' is not allowed here"),
        ({}, {"allowed_hosts": {"mcp.example"}}, 403, "the host '127.0.0.1:"),
        ({}, {"allowed_hosts": set()}, 403, "the host '127.0.0.1:"),
        ({"Origin": "http://localhost"}, {"allowed_origins": {"https://mcp.example"}}, 403, "the origin"),
    ],
)
async def test_a_handshake_is_refused(headers, options, status, words):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server, **options) as url:
            with pytest.raises(ConnectionLost) as caught:
                async with open_client(Url(url, headers=headers)):
                    pytest.fail("it was let in")
    assert str(caught.value).startswith(f"{url} refused the WebSocket handshake with HTTP {status}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ({"Origin": "http://localhost:3000"}, {}),
        ({"Origin": "http://evil.example"}, {"allowed_origins": {"*"}}),
        ({"Origin": "https://mcp.example"}, {"allowed_origins": {"https://mcp.example"}}),
        ({}, {"allowed_hosts": {"127.0.0.1:*"}}),
        ({"Authorization": "Bearer secret"}, {}),
    ],
)
async def test_a_handshake_is_accepted(headers, options):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server, **options) as url, open_client(Url(url, headers=headers)) as client:
            await client.call_tool("echo", {"text": "x"})


async def test_other_paths_are_refused():
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server, path="/mcp") as url:
            assert url.endswith("/mcp")
            async with open_client(Url(f"{url}?key=1")) as client:
                await client.call_tool("echo", {"text": "x"})
            with pytest.raises(ConnectionLost, match="HTTP 404: nothing is served at '/mcp/other'"):
                async with open_client(Url(f"{url}/other")):
                    pytest.fail("it was let in")


@pytest.mark.parametrize(
    ("cap", "words"),
    [("max_connections", "all 1 connections are"), ("max_connections_per_peer", "all 1 connections of one")],
)
async def test_connections_over_the_cap_are_refused(cap, words):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with open_server(server) as running, serving(running, **{cap: 1}) as url:
            async with open_client(Url(url)) as client:
                with pytest.raises(ConnectionLost, match=f"HTTP 503: {words}"):
                    async with open_client(Url(url)):
                        pytest.fail("it was let in")
                await client.call_tool("echo", {"text": "x"})
            async with open_client(Url(url)) as client:
                await client.call_tool("echo", {"text": "x"})
            assert running.refusals == {"websocket 503": 1}


@pytest.mark.parametrize(
    "options", [{"ping_interval": 0}, {"max_connections": 0}, {"allowed_hosts": ["http://x"]}]
)
async def test_bad_options_are_refused(options):
    with trio.fail_after(HANG_SECONDS), pytest.raises(ValueError, match=r"larger than 0|is none of"):
        await serve_websocket(make_server()[0], **options)


async def test_a_string_instead_of_a_list_is_refused():
    with trio.fail_after(HANG_SECONDS), pytest.raises(TypeError, match="not one string"):
        await serve_websocket(make_server()[0], allowed_hosts="localhost")


async def test_a_port_in_use_raises():
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url:
            with pytest.raises(OSError, match="in use"):
                await serve_websocket(server, port=int(url.rpartition(":")[2]))


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"nonsense\r\n\r\n", b"\x16\x03\x01\x00", b""],
)
async def test_a_malformed_handshake_ends_only_its_connection(request_bytes):
    server, _ = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with serving(server) as url:
            async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as raw:
                await raw.send_all(request_bytes)
                await raw.send_eof()
                while await raw.receive_some():
                    pass
            async with open_client(Url(url)) as client:
                await client.call_tool("echo", {"text": "x"})


async def test_a_client_that_never_finishes_the_handshake_is_dropped(autojump_clock):
    server, _ = make_server()
    async with open_server(server) as running:
        service = make_service(running.serve)
        ours, theirs = trio.testing.memory_stream_pair()
        await ours.send_all(b"GET / HTTP/1.1\r\n")
        start = trio.current_time()
        await service._handle(theirs)
        assert trio.current_time() - start == pytest.approx(10)


# Clients and faulty servers


async def test_an_invalid_host_name_raises_connection_lost():
    with pytest.raises(ConnectionLost, match=r"cannot connect to ws://a\.\.b: "):
        async with open_client(Url("ws://a..b")):
            pytest.fail("it connected")


async def test_a_server_that_does_not_listen_raises_connection_lost():
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectionLost, match=f"cannot connect to {url}: "):
            async with open_client(Url(url)):
                pytest.fail("it connected")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "HTTP 401"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nwhy", "HTTP 500: why"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "did not speak WebSocket"),
        (b"SSH-2.0-x\r\n", "hung up during the WebSocket handshake"),
        (b"", "hung up during the WebSocket handshake"),
    ],
)
async def test_a_server_that_does_not_speak_websocket_raises(answer, words):
    with trio.fail_after(HANG_SECONDS):
        async with serving_bytes(answer) as url:
            with pytest.raises(ConnectionLost) as caught:
                async with open_client(Url(url)):
                    pytest.fail("it connected")
    assert url in str(caught.value)
    assert words in str(caught.value)


async def test_a_handshake_that_is_never_answered_times_out(monkeypatch):
    monkeypatch.setattr("trio_mcp.transports.websocket.client.CONNECT_SECONDS", 0.05)

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
            with pytest.raises(ConnectionLost, match=f"{url} did not answer within"):
                async with open_websocket_transport(url, max_frame_bytes=LIMIT):
                    pytest.fail("it connected")
            await listener.aclose()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://localhost", {}),
        ("ws://", {}),
        ("ws://user:secret@localhost", {}),
        ("ws://localhost", {"ssl_context": ssl.create_default_context()}),
        ("ws://localhost", {"headers": {"X": "a\r\nEvil: b"}}),
        ("ws://localhost", {"headers": {"X y": "a"}}),
    ],
)
async def test_bad_urls_and_headers_are_refused(url, options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # each has its own message
        async with open_websocket_transport(url, max_frame_bytes=LIMIT, **options):
            pytest.fail("it connected")
    assert "secret" not in str(caught.value)


async def test_wss_carries_long_messages():
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    server, _ = make_server(progress=Lossless())
    updates: list[Any] = []
    with trio.fail_after(HANG_SECONDS):
        async with serving(server, ssl_context=server_context) as url:
            assert url.startswith("wss://")
            async with open_client(Url(url, ssl_context=client_context)) as client:
                await client.call_tool(
                    "burst", {"count": 2000}, progress_handler=lambda *update: updates.append(update)
                )
                text = "x" * 1_000_000  # more than one write
                assert (await client.call_tool("echo", {"text": text})).data == text
            with pytest.raises(ConnectionLost, match=f"cannot secure the connection to {url}: .*CERTIFICATE"):
                async with open_client(Url(url)):
                    pytest.fail("it trusted a stranger")
    assert_progress(updates, last=2000)


async def test_a_start_that_is_cancelled_as_the_handshake_ends_does_not_wait_for_the_reader(autojump_clock):
    stream = CorkingStream(trio.testing.memory_stream_pair()[0])
    reading = trio.CancelScope(deadline=trio.current_time() + 60)
    started = trio.current_time()
    with trio.CancelScope() as opening:

        async def connect(nursery: trio.Nursery) -> str:
            nursery.start_soon(trio.sleep_forever)  # the reader
            opening.cancel()
            return "connected"

        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # start is what is tested
            await nursery.start(keep_connection, connect, stream, reading)
    assert trio.current_time() == started


async def test_a_server_that_closes_at_the_probe_is_connected_to_again_in_the_legacy_way():
    asked: list[str] = []

    async def talk(connection: Any) -> None:
        try:
            while True:
                message = msgspec.json.decode(await connection.get_message())
                asked.append(message["method"])
                if message["method"] == "server/discover":
                    return
                if message["method"] == "initialize":
                    info = {"name": "old", "version": "1"}
                    agreed = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info}
                    answer = {"jsonrpc": "2.0", "id": message["id"], "result": agreed}
                    await connection.send_message(msgspec.json.encode(answer).decode())
        except trio_websocket.ConnectionClosed:
            pass

    with trio.fail_after(HANG_SECONDS):
        async with serving_peer(talk) as url:
            async with open_client(url) as client:
                assert client.protocol_version == "2025-11-25"
            asked_by_auto = asked[:2]
            with pytest.raises(ConnectionLost):
                async with open_client(url, protocol="2026-07-28"):
                    raise AssertionError("never reached")
    assert asked_by_auto == ["server/discover", "initialize"]
    assert asked[-1] == "server/discover"


# What comes before the handshake is over


async def receive_to_end(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass


async def wait_empty(service: WebSocketService) -> None:
    while service._sockets:  # noqa: ASYNC110  # the service has no event for it
        await trio.sleep(0.01)


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("early", [b"x", b"\x81\x80\0\0\0\0", b"y" * 100_000], ids=["byte", "frame", "much"])
@pytest.mark.parametrize("refused", [False, True])
async def test_what_comes_with_a_handshake_leaves_nothing_behind(early, is_secure, refused, caplog):
    server, _ = make_server()
    serving_context, trusting = make_contexts()
    head = (
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    ) + ("origin: http://evil.example\r\n" if refused else "")
    with trio.fail_after(HANG_SECONDS):
        async with open_server(server) as running, trio.open_nursery() as nursery:
            service = WebSocketService(
                lambda transport, headers, peer: running.serve(transport, headers=headers, peer=peer),
                LIMIT,
                Doorkeeper.for_bind("127.0.0.1", None, None),
            )
            context = serving_context if is_secure else None
            (url,) = await nursery.start(service.listen, "127.0.0.1", 0, context)
            for _ in range(10):
                stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
                if is_secure:
                    stream = trio.SSLStream(
                        stream, trusting, server_hostname="127.0.0.1", https_compatible=True
                    )
                async with stream:
                    await stream.send_all(head.encode() + b"\r\n" + early)
                    with suppress(trio.BrokenResourceError):  # the bytes that nobody reads end it
                        assert b" 403 " in await stream.receive_some() or not refused
                        if refused:  # otherwise it is read as the beginning of a frame
                            await receive_to_end(stream)
            await wait_empty(service)
            assert not service._admitted
            nursery.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
