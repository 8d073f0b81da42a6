"""An ASGI application on hypercorn inside our own nursery, and its protection from its peers."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial

import h2.config
import h2.connection
import h2.events
import httpx2
import hypercorn
import pytest
import trio
import trio.testing
import trio_websocket
import trustme
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.tcp_server import TCPServer

from tests.support.limits import HANG_SECONDS
from trio_mcp.transports.asgi.websocket import MORE
from trio_mcp.transports.hypercorn.serve import TLS, serve_asgi

CHUNK = b"x" * 65536


async def no_lifespan(scope, receive, send):
    raise NotImplementedError(scope["type"])


def application(**paths):
    """Return an application that has one coroutine function for each first word of a path."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await no_lifespan(scope, receive, send)
        await paths[scope["path"].strip("/") or "root"](scope, receive, send)

    return app


async def start(send, *headers, status=200):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def body(send, data=b"", *, more=False):
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def hello(scope, receive, send):
    await start(send)
    await body(send, b"hello over " + scope["http_version"].encode())


async def echo(scope, receive, send):
    received = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        received += message["body"]
        if not message["more_body"]:
            break
    await start(send)
    await body(send, received)


@asynccontextmanager
async def serving(app, **options):
    options = {"bind": "127.0.0.1:0", "shutdown_grace": 0.2, **options}
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(partial(serve_asgi, app, **options))
            nursery.cancel_scope.cancel()


def port_of(address):
    return int(address.rpartition(":")[2])


async def connect(address):
    return await trio.open_tcp_stream("127.0.0.1", port_of(address))


async def read_to_end(stream):
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


async def read_until(stream, end):
    received = b""
    while end not in received:
        data = await stream.receive_some()
        assert data, f"ended after {received!r}"
        received += data
    return received


def request(path, *lines):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


class H2Peer:
    """An HTTP/2 client by prior knowledge that sends nothing by itself."""

    def __init__(self, stream):
        self.stream = stream
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.events = []

    async def flush(self):
        await self.stream.send_all(self.connection.data_to_send())

    async def ask(self, path, *, method="GET", end=True):
        stream_id = self.connection.get_next_available_stream_id()
        headers = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "localhost")]
        self.connection.send_headers(stream_id, headers, end_stream=end)
        await self.flush()
        return stream_id

    async def wait_event(self, kind, stream_id):
        while True:
            for event in self.events:
                if isinstance(event, kind) and event.stream_id == stream_id:
                    self.events.remove(event)
                    return event
            data = await self.stream.receive_some()
            assert data, "the connection ended"
            self.events += self.connection.receive_data(data)
            await self.flush()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(directory / "cert.pem", append=True)
    return TLS(certfile=directory / "cert.pem", keyfile=directory / "key.pem")


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# Listening


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_the_real_address_is_returned(host):
    async with serving(application(root=hello), bind=f"{host}:0") as addresses:
        (address,) = addresses
        assert address.startswith(f"http://{host}:")
        assert port_of(address) != 0
        async with httpx2.AsyncClient(timeout=HANG_SECONDS) as client:
            response = await client.get(address)
        assert (response.status_code, response.text) == (200, "hello over 1.1")


async def test_several_sockets_can_be_served_one_of_them_in_the_file_system(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(application(root=hello), bind=["127.0.0.1:0", f"unix:{path}"]) as addresses:
        assert addresses[1] == f"unix:{path}"
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(request("/", "Connection: close"))
            assert b"hello over 1.1" in await read_to_end(stream)
        with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="another server listens")):
            async with serving(application(root=hello), bind=f"unix:{path}"):
                pass
    assert not path.exists()


@pytest.mark.parametrize("bind", ["nowhere", "127.0.0.1:http", "127.0.0.1:65536"])
async def test_a_bad_bind_is_named(bind):
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match=f"cannot listen on '{bind}'")):
        async with serving(application(root=hello), bind=bind):
            pass


async def test_a_port_in_use_raises():
    async with serving(application(root=hello)) as (address,):
        taken = address.removeprefix("http://")
        with pytest.RaisesGroup(OSError):
            async with serving(application(root=hello), bind=["127.0.0.1:0", taken]):
                pass


async def test_two_servers_run_in_one_process():
    async def other(scope, receive, send):
        await start(send)
        await body(send, b"other")

    async with serving(application(root=hello)) as (one,), httpx2.AsyncClient(timeout=HANG_SECONDS) as client:
        async with serving(application(root=other)) as (two,):
            assert (await client.get(two)).text == "other"
            assert (await client.get(one)).text == "hello over 1.1"
        assert (await client.get(one)).text == "hello over 1.1"


async def test_five_hundred_connections_are_served_at_once():
    served = []
    async with serving(application(root=hello)) as (address,), trio.open_nursery() as nursery:

        async def ask():
            async with await connect(address) as stream:
                await stream.send_all(request("/", "Connection: close"))
                assert b"hello over 1.1" in await read_to_end(stream)
                served.append(1)

        for _ in range(500):
            nursery.start_soon(ask)
    assert len(served) == 500


# Protocols


@pytest.mark.parametrize(("http2", "version"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
async def test_tls_serves_both_http_versions(tls, trusting, http2, version):
    async with (
        serving(application(root=hello), tls=tls) as (address,),
        httpx2.AsyncClient(timeout=HANG_SECONDS, verify=trusting, http2=http2) as client,
    ):
        assert address.startswith("https://127.0.0.1:")
        response = await client.get(address)
        assert (response.http_version, response.status_code) == (version, 200)


async def test_a_ready_ssl_context_is_used(tls, trusting):
    async with (
        serving(application(root=hello), tls=tls.make_context()) as (address,),
        httpx2.AsyncClient(timeout=HANG_SECONDS, verify=trusting) as client,
    ):
        assert (await client.get(address)).status_code == 200


async def test_a_client_without_a_required_certificate_is_refused(authority, tls, trusting, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    strict = TLS(certfile=tls.certfile, keyfile=tls.keyfile, ca=tmp_path / "ca.pem")
    async with serving(application(root=hello), tls=strict) as (address,):
        async with httpx2.AsyncClient(timeout=HANG_SECONDS, verify=trusting) as client:
            with pytest.raises(httpx2.TransportError):
                await client.get(address)
        authority.issue_cert("client").configure_cert(trusting)
        async with httpx2.AsyncClient(timeout=HANG_SECONDS, verify=trusting) as client:
            assert (await client.get(address)).status_code == 200


async def test_a_client_without_tls_ends_only_its_connection(tls, trusting):
    async with serving(application(root=hello), tls=tls) as (address,):
        async with await connect(address) as stream:
            await stream.send_all(request("/"))
            await read_to_end(stream)
        async with httpx2.AsyncClient(timeout=HANG_SECONDS, verify=trusting) as client:
            assert (await client.get(address)).status_code == 200


async def test_http2_by_prior_knowledge_is_served():
    async with serving(application(root=hello)) as (address,), await connect(address) as stream:
        peer = H2Peer(stream)
        data = await peer.wait_event(h2.events.DataReceived, await peer.ask("/"))
        assert data.data == b"hello over 2"


async def test_an_http2_connection_has_no_limit_of_requests():
    # By default hypercorn ends a connection after 1000 requests, with the streams that still run.
    async with serving(application(root=hello)) as (address,), await connect(address) as stream:
        peer = H2Peer(stream)
        for _ in range(1100):
            await peer.wait_event(h2.events.StreamEnded, await peer.ask("/"))
            peer.events.clear()


async def test_websocket_messages_are_exchanged():
    async def talk(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": "mcp"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    async with serving(application(talk=talk), ping_interval=0.01) as (address,):
        url = address.replace("http", "ws") + "/talk"
        async with trio_websocket.open_websocket_url(url, subprotocols=["mcp"]) as websocket:
            await websocket.send_message("hello")
            assert await websocket.get_message() == "HELLO"
            assert websocket.subprotocol == "mcp"


async def open_raw_websocket(address):
    """Return the socket beneath a WebSocket of which only the handshake has been read."""
    stream = await connect(address)
    await stream.send_all(
        b"GET /talk HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # no byte after it is read
        head += await stream.receive_some(1)
    return stream


async def test_a_message_that_others_follow_leaves_with_the_last_of_them():
    rest = trio.Event()

    async def talk(scope, receive, send):
        assert MORE in scope["extensions"]
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "one", MORE: True})
        await rest.wait()
        await send({"type": "websocket.send", "bytes": b"two", MORE: True})
        await send({"type": "websocket.send", "text": "three"})
        await receive()

    async with (
        serving(application(talk=talk), ping_interval=None) as (address,),
        await open_raw_websocket(address) as stream,
    ):
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(BlockingIOError):
            stream.socket._sock.recv(1, socket.MSG_DONTWAIT)
        rest.set()
        assert await stream.receive_some() == b"\x81\x03one\x82\x03two\x81\x05three"


async def test_messages_that_others_follow_are_sent_above_a_size():
    async def talk(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(3):
            await send({"type": "websocket.send", "text": "x" * 60_000, MORE: True})
        await trio.sleep_forever()

    async with (
        serving(application(talk=talk), ping_interval=None) as (address,),
        await open_raw_websocket(address) as stream,
    ):
        received = b""
        while received.count(b"x") < 120_000:
            received += await stream.receive_some()
        assert received.count(b"x") == 120_000, "the third waits for its company"


async def test_a_message_that_waits_for_others_leaves_before_the_end():
    async def talk(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "alone", MORE: True})

    async with (
        serving(application(talk=talk), ping_interval=None) as (address,),
        await open_raw_websocket(address) as stream,
    ):
        received = await read_to_end(stream)
        assert received.startswith(b"\x81\x05alone\x88")


async def test_nothing_is_printed():
    code = """if True:
        import trio, httpx2
        from trio_mcp.transports.hypercorn.serve import serve_asgi

        async def app(scope, receive, send):
            if scope["type"] == "http" and scope["path"] == "/good":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body"})
            else:
                raise ValueError("a bad path")

        async def main():
            async with trio.open_nursery() as nursery:
                [address] = await nursery.start(lambda **k: serve_asgi(app, bind="127.0.0.1:0", **k))
                async with httpx2.AsyncClient(timeout=120) as client:
                    assert (await client.get(address + "/good")).status_code == 200
                    assert (await client.get(address + "/bad")).status_code == 500
                nursery.cancel_scope.cancel()

        trio.run(main)
    """
    run = partial(trio.run_process, [sys.executable, "-c", code], capture_stdout=True, capture_stderr=True)
    with trio.fail_after(HANG_SECONDS):
        done = await run(stdin=subprocess.DEVNULL)
    assert done.stdout == b""
    assert b"a bad path" in done.stderr


# Lifespan


async def test_requests_share_the_state_of_the_lifespan():
    events = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await start(send)
            await body(send, scope["state"]["greeting"])
            return
        events.append((await receive())["type"])
        scope["state"]["greeting"] = b"good day"
        await send({"type": "lifespan.startup.complete"})
        events.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    async with serving(app) as (address,), httpx2.AsyncClient(timeout=HANG_SECONDS) as client:
        assert (await client.get(address)).text == "good day"
        assert events == ["lifespan.startup"]
    assert events == ["lifespan.startup", "lifespan.shutdown"]


async def test_an_application_that_refuses_to_start_raises():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            with pytest.raises(RuntimeError, match=r"^the application refused to start: no database$"):
                await nursery.start(partial(serve_asgi, app, bind="127.0.0.1:0"))


@pytest.mark.parametrize("end", ["return", "raise", "raise after startup was received"])
async def test_an_application_without_lifespan_is_served(end, caplog):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await hello(scope, receive, send)
        elif end != "return":
            if end != "raise":
                await receive()
            raise ValueError("what is this?")

    async with serving(app) as (address,), httpx2.AsyncClient(timeout=HANG_SECONDS) as client:
        assert (await client.get(address)).status_code == 200
    assert ("served without lifespan" in caplog.text) == (end == "raise after startup was received")


async def test_a_lifespan_that_does_not_end_delays_the_shutdown_only_for_its_grace(monkeypatch):
    monkeypatch.setattr("trio_mcp.transports.hypercorn.serve.LIFESPAN_GRACE", 0.1)

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()

    async with serving(app):
        pass


# Failures


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(3), ExceptionGroup("two", [OSError()])])
async def test_a_crash_becomes_a_response_and_ends_nothing_else(error, caplog):
    release = trio.Event()

    async def bad(scope, receive, send):
        raise error

    async def slow(scope, receive, send):
        await start(send)
        await body(send, b"one", more=True)
        await release.wait()
        await body(send, b"two")

    async with (
        serving(application(bad=bad, slow=slow)) as (address,),
        httpx2.AsyncClient(timeout=HANG_SECONDS) as client,
        client.stream("GET", address + "/slow") as response,
    ):
        assert (await client.get(address + "/bad")).status_code == 500
        release.set()
        assert b"".join([part async for part in response.aiter_bytes()]) == b"onetwo"
    assert "The application failed: /bad" in caplog.text


async def failing_half_way(scope, receive, send):
    await start(send)
    await body(send, b"half", more=True)
    raise ValueError("oops")


async def test_an_unfinished_response_is_an_error_for_the_client():
    app = application(half=failing_half_way)
    async with serving(app) as (address,), httpx2.AsyncClient(timeout=HANG_SECONDS) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(address + "/half")


async def test_an_unfinished_response_resets_its_http2_stream():
    app = application(half=failing_half_way, root=hello)
    async with serving(app) as (address,), await connect(address) as stream:
        peer = H2Peer(stream)
        reset = await peer.wait_event(h2.events.StreamReset, await peer.ask("/half"))
        assert reset.error_code == h2.errors.ErrorCodes.INTERNAL_ERROR
        await peer.wait_event(h2.events.StreamEnded, await peer.ask("/"))


async def refusing(scope, receive, send):
    await start(send, (b"content-length", b"2"), status=403)
    await body(send, b"no")


async def test_an_early_response_reaches_a_client_that_still_sends():
    # Otherwise hypercorn's queue of ten events would be full, and the last send would wait forever.
    async with (
        serving(application(root=refusing)) as (address,),
        httpx2.AsyncClient(timeout=HANG_SECONDS) as client,
    ):
        response = await client.post(address, content=bytes(4_000_000))
        assert (response.status_code, response.text) == (403, "no")


async def test_an_early_response_resets_its_http2_stream():
    # hypercorn alone ends the connection at a DATA frame of a stream that has its response.
    app = application(no=refusing, root=hello)
    async with serving(app) as (address,), await connect(address) as stream:
        peer = H2Peer(stream)
        refused = await peer.ask("/no", method="POST", end=False)
        await peer.wait_event(h2.events.DataReceived, refused)
        reset = await peer.wait_event(h2.events.StreamReset, refused)
        assert reset.error_code == h2.errors.ErrorCodes.NO_ERROR
        await peer.wait_event(h2.events.StreamEnded, await peer.ask("/"))


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_a_crash_with_an_unread_body_becomes_a_response(version, tls, trusting):
    ended = trio.Event()

    async def bad(scope, receive, send):
        ended.set()
        raise ValueError("oops")

    options = {"verify": trusting, "http2": version == "2"}
    async with (
        serving(application(root=bad), tls=tls) as (address,),
        httpx2.AsyncClient(timeout=HANG_SECONDS, **options) as client,
    ):
        response = await client.post(address, content=bytes(4_000_000))
        assert response.status_code == 500
        assert ended.is_set()


async def test_a_body_beyond_the_cap_is_refused():
    app = application(root=echo)
    async with (
        serving(app, max_body_bytes=100_000) as (address,),
        httpx2.AsyncClient(timeout=HANG_SECONDS) as client,
    ):
        assert (await client.post(address, content=bytes(100_000))).status_code == 200
        assert (await client.post(address, content=bytes(300_000))).status_code == 413


async def test_a_head_beyond_the_cap_is_refused():
    async with (
        serving(application(root=hello), max_head_bytes=1000) as (address,),
        await connect(address) as stream,
    ):
        await stream.send_all(request("/", "X-Long: " + "x" * 2000)[:-2])
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 431 ")


# Peers that send too little


@pytest.mark.parametrize("head", [b"", b"GET / HT", request("/")[:-2], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_half_a_head_is_dropped(head):
    async with (
        serving(application(root=hello), read_timeout=0.2) as (address,),
        await connect(address) as stream,
    ):
        await stream.send_all(head)
        # HTTP/2 sends its settings before the connection is closed
        received = await read_to_end(stream)
        assert b"hello" not in received


async def test_a_head_that_arrives_too_slowly_is_dropped():
    async with (
        serving(application(root=hello), read_timeout=0.3) as (address,),
        await connect(address) as stream,
        trio.open_nursery() as nursery,
    ):

        @nursery.start_soon
        async def drip():
            while True:
                await stream.send_all(b"G")
                await trio.sleep(0.02)

        with suppress(trio.BrokenResourceError):  # a reset is acceptable too
            assert await read_to_end(stream) == b""
        nursery.cancel_scope.cancel()


async def test_half_a_body_is_refused(mock_clock):
    begun = trio.Event()

    async def count(scope, receive, send):
        assert (await receive())["body"] == b"12345"
        begun.set()
        await echo(scope, receive, send)

    async with (
        serving(application(root=count), read_timeout=30) as (address,),
        await connect(address) as stream,
    ):
        await stream.send_all(request("/", "Content-Length: 10") + b"12345")
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(31)
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_closed_and_a_listener_is_not(mock_clock):
    release = trio.Event()

    async def stream_later(scope, receive, send):
        await start(send)
        await body(send, b"first", more=True)
        await release.wait()
        await body(send, b"last")

    app = application(root=hello, stream=stream_later)
    options = {"read_timeout": 20, "keep_alive_timeout": 30}
    async with (
        serving(app, **options) as (address,),
        await connect(address) as idle,
        await connect(address) as listener,
    ):
        await listener.send_all(request("/stream"))
        await read_until(listener, b"first")
        # The idle connection is closed; the listener sends as little, but it waits for a response.
        await idle.send_all(request("/"))
        await read_until(idle, b"hello")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(31)
        await read_to_end(idle)
        await trio.testing.wait_all_tasks_blocked()
        release.set()
        await read_until(listener, b"last")


# Peers that read too little


def endless(ended):
    async def flood(scope, receive, send):
        async def watch():
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await start(send)
                while True:
                    await body(send, CHUNK, more=True)
        finally:
            ended.set()

    return flood


async def connect_small(address):
    client = trio.socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await client.connect(("127.0.0.1", port_of(address)))
    return trio.SocketStream(client)


async def ask_and_stall(address, path, *, wrap=None):
    stream = await connect_small(address)
    if wrap is not None:
        stream = trio.SSLStream(stream, wrap, server_hostname="127.0.0.1")
    await stream.send_all(request(path))
    await read_until(stream, b"HTTP/1.1 200")
    return stream


@pytest.mark.parametrize("secure", [False, True])
async def test_a_stalled_reader_is_disconnected(secure, tls, trusting, mock_clock):
    ended = trio.Event()
    options = {"tls": tls} if secure else {}
    async with serving(application(flood=endless(ended)), stall_timeout=20, **options) as (address,):
        stream = await ask_and_stall(address, "/flood", wrap=trusting if secure else None)
        mock_clock.autojump_threshold = 0  # whoever waits now waits for the stalled reader
        await ended.wait()
        await trio.aclose_forcefully(stream)


async def test_a_half_sent_body_does_not_keep_a_stream_from_being_reset():
    ended = trio.Event()

    async def flood(scope, receive, send):
        await start(send)
        for _ in range(50):
            await body(send, CHUNK, more=True)
        ended.set()

    app = application(flood=flood, root=hello)
    async with serving(app, stall_timeout=0.3) as (address,), await connect(address) as stream:
        peer = H2Peer(stream)
        stream_id = await peer.ask("/flood", method="POST", end=False)
        for _ in range(30):  # far more than hypercorn's queue holds
            peer.connection.send_data(stream_id, b"x")
            await peer.flush()
        await peer.wait_event(h2.events.StreamReset, stream_id)
        await ended.wait()
        peer.connection.increment_flow_control_window(len(CHUNK))
        await peer.wait_event(h2.events.StreamEnded, await peer.ask("/"))


async def test_a_stalled_reader_is_disconnected_though_the_application_sends_nothing_more():
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("only Linux times what the kernel holds")
    filled = []
    gone = trio.Event()

    async def fill(scope, receive, send):
        assert not (await receive())["more_body"]
        await start(send)
        await body(send, CHUNK[:16_000], more=True)  # more than the window of the peer, less than ours
        filled.append(True)
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    async with (
        serving(application(fill=fill), stall_timeout=0.5) as (address,),
        await ask_and_stall(address, "/fill"),
    ):
        await gone.wait()
    assert filled


async def test_a_disconnect_is_not_lost_with_a_cancelled_send():
    gone = trio.Event()

    async def impatient(scope, receive, send):
        assert not (await receive())["more_body"]
        await start(send)
        with trio.move_on_after(0.1):
            while True:
                await body(send, CHUNK, more=True)
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    async with (
        serving(application(impatient=impatient), stall_timeout=0.3) as (address,),
        await ask_and_stall(address, "/impatient"),
    ):
        await gone.wait()


async def test_an_http2_stream_that_gets_no_window_is_reset():
    ended = trio.Event()
    app = application(flood=endless(ended), root=hello)
    async with serving(app, stall_timeout=0.3) as (address,), await connect(address) as stream:
        peer = H2Peer(stream)
        flood = await peer.ask("/flood")
        # The data is received but never acknowledged: the window of the stream stays shut.
        reset = await peer.wait_event(h2.events.StreamReset, flood)
        assert reset.error_code == h2.errors.ErrorCodes.CANCEL
        await ended.wait()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_stalled_reader_does_not_hold_up_the_shutdown(secure, tls, trusting, mock_clock):
    ended = trio.Event()
    options = {"tls": tls} if secure else {}
    async with serving(application(flood=endless(ended)), stall_timeout=600, **options) as (address,):
        stream = await ask_and_stall(address, "/flood", wrap=trusting if secure else None)
        assert not ended.is_set()
        before = trio.current_time()
        mock_clock.autojump_threshold = 0
    assert ended.is_set()
    assert trio.current_time() - before < 5
    await trio.aclose_forcefully(stream)


# Shutdown


async def test_shutdown_lets_a_stream_finish():
    stopping = trio.Event()

    async def events(scope, receive, send):
        await start(send, (b"content-type", b"text/event-stream"))
        await body(send, b"data: one\n\n", more=True)
        await stopping.wait()
        await trio.lowlevel.checkpoint()
        await body(send, b"data: last\n\n")

    app = application(events=events)
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as clients, httpx2.AsyncClient(timeout=HANG_SECONDS) as client:
            async with trio.open_nursery() as nursery:
                serve = partial(serve_asgi, app, bind="127.0.0.1:0", on_shutdown=stopping.set)
                (address,) = await nursery.start(partial(serve, shutdown_grace=HANG_SECONDS))
                begun = trio.Event()
                received = []

                @clients.start_soon
                async def listen():
                    async with client.stream("GET", address + "/events") as response:
                        async for part in response.aiter_bytes():
                            received.append(part)
                            begun.set()

                await begun.wait()
                nursery.cancel_scope.cancel()
            assert stopping.is_set()
            # New connections are refused.
            with pytest.raises(OSError, match="all attempts to connect"):
                await connect(address)
    assert b"".join(received) == b"data: one\n\ndata: last\n\n"


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_shutdown_closes_idle_connections_at_once(version):
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            serve = partial(serve_asgi, application(root=hello), bind="127.0.0.1:0", shutdown_grace=3600)
            (address,) = await nursery.start(serve)
            stream = await connect(address)
            if version == "2":
                peer = H2Peer(stream)
                await peer.wait_event(h2.events.StreamEnded, await peer.ask("/"))
            else:
                await stream.send_all(request("/"))
                await read_until(stream, b"0\r\n\r\n")
            nursery.cancel_scope.cancel()
        assert nursery.cancel_scope.cancelled_caught
        await stream.aclose()


async def test_shutdown_cancels_requests_that_do_not_end_in_time():
    begun, ended = trio.Event(), trio.Event()

    async def forever(scope, receive, send):
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(application(root=forever), shutdown_grace=0.05) as (address,):
        stream = await connect(address)
        await stream.send_all(request("/"))
        await begun.wait()
    assert ended.is_set()
    await stream.aclose()


async def test_a_failing_on_shutdown_is_logged(caplog):
    def fail():
        raise ValueError("oops")

    async with serving(application(root=hello), on_shutdown=fail):
        pass
    assert "on_shutdown failed" in caplog.text


async def test_cancelling_a_scope_of_the_caller_shuts_down_gracefully():
    told, begun = trio.Event(), trio.Event()

    async def finish(scope, receive, send):
        await start(send)
        await body(send, b"begun", more=True)
        begun.set()
        await told.wait()
        await body(send, b"-ended")

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as outer:
            scope = trio.CancelScope()

            async def inside(task_status):
                with scope, trio.CancelScope():
                    async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # the server runs in it
                        options = {"bind": "127.0.0.1:0", "on_shutdown": told.set}
                        task_status.started(
                            await nursery.start(partial(serve_asgi, application(root=finish), **options))
                        )

            (address,) = await outer.start(inside)
            async with await connect(address) as stream:
                await stream.send_all(request("/", "Connection: close"))
                await begun.wait()
                scope.cancel()
                received = await read_to_end(stream)
    assert told.is_set()
    assert b"begun" in received
    assert received.endswith(b"-ended\r\n0\r\n\r\n")


async def test_the_start_can_be_cancelled(autojump_clock):
    async def app(scope, receive, send):
        await trio.sleep_forever()

    with trio.move_on_after(0.05) as scope:
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # start is what is tested
            await nursery.start(partial(serve_asgi, app, bind="127.0.0.1:0"))
    assert scope.cancelled_caught


async def test_file_descriptors_return_to_where_they_were(tls, trusting):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    ended = trio.Event()
    app = application(root=hello, flood=endless(ended), no=refusing)
    await trio.lowlevel.checkpoint()
    before = descriptors()
    async with serving(app, tls=tls) as (address,):
        listening = descriptors()
        async with httpx2.AsyncClient(timeout=HANG_SECONDS, verify=trusting) as client:
            await client.get(address)
        for _ in range(5):
            async with await connect(address):
                pass
        async with await connect(address) as stream:
            await stream.send_all(b"no TLS")
            await read_to_end(stream)
        # A closed connection is released at once, not after some timeout.
        while descriptors() > listening:  # noqa: ASYNC110  # nothing signals the closing of one
            await trio.sleep(0.01)
        stalled = await ask_and_stall(address, "/flood", wrap=trusting)
    await trio.aclose_forcefully(stalled)
    assert descriptors() == before


# Disconnects


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_receive_returns_a_disconnect(version):
    """It arrives promptly while a response is streamed, and `send` still succeeds after it."""
    sent_after = trio.Event()

    async def listen(scope, receive, send):
        assert not (await receive())["more_body"]
        await start(send)
        await body(send, b"begun", more=True)
        assert (await receive())["type"] == "http.disconnect"
        for _ in range(100):
            await body(send, CHUNK, more=True)
        assert (await receive())["type"] == "http.disconnect"
        sent_after.set()

    async with serving(application(listen=listen)) as (address,):
        stream = await connect(address)
        if version == "2":
            peer = H2Peer(stream)
            stream_id = await peer.ask("/listen")
            await peer.wait_event(h2.events.DataReceived, stream_id)
            peer.connection.reset_stream(stream_id)
            await peer.flush()
        else:
            await stream.send_all(request("/listen"))
            await read_until(stream, b"begun")
            await stream.aclose()
        await sent_after.wait()
        await stream.aclose()


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_send_returns_after_a_disconnect_though_nobody_awaits_receive(version):
    ended = trio.Event()

    async def blind(scope, receive, send):
        await start(send)
        for _ in range(200):
            await body(send, CHUNK, more=True)
        ended.set()

    async with serving(application(blind=blind), stall_timeout=600) as (address,):
        stream = await connect_small(address)
        if version == "2":
            peer = H2Peer(stream)
            await peer.wait_event(h2.events.DataReceived, await peer.ask("/blind"))
        else:
            await stream.send_all(request("/blind"))
            await read_until(stream, b"HTTP/1.1 200")
        await stream.aclose()
        await ended.wait()


# Private parts of hypercorn in use


def test_the_private_parts_of_hypercorn_are_as_expected():
    """If this fails after an update, read transports/hypercorn/connection.py beside the new hypercorn."""
    known = {"_read_data", "protocol_send", "run"}
    assert known <= set(vars(TCPServer)), hypercorn
    assert {"_close_stream", "_window_updated", "_flush", "stream_send"} <= set(vars(H2Protocol))
    assert "app_send" in vars(HTTPStream)
    names = TCPServer._read_data.__code__.co_names + TCPServer.protocol_send.__code__.co_names
    assert {"stream", "receive_some", "send_all", "idle_task", "idle"} <= set(names)
    assert logging.getLogger("hypercorn.error").handlers == []
