"""The client over Streamable HTTP, against scripted servers in both eras (MCP transports)."""

from __future__ import annotations

import logging
import ssl
import subprocess
import sys

import httpx2
import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from tests.transports.http.http_peer import LEGACY, MODERN, TEXT, LegacyServer, answer_modern, serving
from trio_mcp import ConnectionLost, EraCache, ProtocolError, RemoteProtocolError, Server, open_client
from trio_mcp.transports.http.transport import open_http_transport
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import Request


@pytest.fixture(params=["direct", "httpx2"], autouse=True)
def way(request, monkeypatch):
    """Run each test over our own connections and, because of an odd proxy setting, through httpx2."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if request.param == "httpx2":
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    return request.param


def tool(name, **properties):
    return {"name": name, "inputSchema": {"type": "object", "properties": properties}}


# Modern: every request is independent.


async def test_modern_requests_describe_themselves_in_headers():
    async def handle(call):
        if not await answer_modern(call):
            await call.result(TEXT)

    async with serving(handle) as app:
        async with open_client(app.url, headers={"x-tenant": "7"}) as client:
            assert client.protocol_version == MODERN
            assert client.server_info.name == "scripted"
            assert (await client.call_tool("größe")).text == "done"
        assert {call.verb for call in app.calls} == {"POST"}
        for call in app.calls:
            assert call.headers["mcp-protocol-version"] == MODERN
            assert call.headers["mcp-method"] == call.method
            assert call.headers["accept"] == "application/json, text/event-stream"
            assert call.headers["content-type"] == "application/json"
            assert call.headers["x-tenant"] == "7"
            assert "mcp-session-id" not in call.headers
        assert app.calls[-1].headers["mcp-name"] == "=?base64?Z3LDtsOfZQ==?="


async def test_progress_arrives_before_the_result_and_the_connection_is_reused():
    async def handle(call):
        if not await answer_modern(call):
            await call.stream()
            await call.write(b": keep-alive\n\n")
            await call.progress(*range(1, 101))
            await call.event({"id": call.message["id"], "result": TEXT})
            await call.progress(101)
            await call.end()

    seen = []
    async with serving(handle) as app, open_client(app.url) as client:
        for _ in range(3):
            result = await client.call_tool("x", progress_handler=lambda p, t, m: seen.append(p))
            assert result.text == "done"
            assert seen == list(range(1, 101))
            seen.clear()
        connections = {call.client for call in app.calls}
        assert len(connections) <= 2, "the one that lingers behind its answer, and the next"


async def test_cancelling_a_modern_call_closes_its_stream_and_sends_nothing():
    disconnected = trio.Event()

    async def handle(call):
        if await answer_modern(call):
            return
        if call.message["params"]["name"] == "other":
            await call.result(TEXT)
            return
        await call.stream()
        await call.progress(1)
        await call.wait_disconnect()
        disconnected.set()

    async with serving(handle) as app, open_client(app.url) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("x", progress_handler=lambda p, t, m: scope.cancel())
        assert scope.cancelled_caught
        await disconnected.wait()
        assert (await client.call_tool("other")).text == "done"
        assert "notifications/cancelled" not in [call.method for call in app.calls]


async def test_a_request_from_a_modern_server_is_not_answered(caplog):
    async def handle(call):
        if not await answer_modern(call):
            await call.stream()
            await call.event({"id": 5, "method": "ping"})
            await call.event({"id": call.message["id"], "result": TEXT})
            await call.end()

    async with serving(handle) as app, open_client(app.url) as client:
        assert (await client.call_tool("x")).text == "done"
    assert len(app.calls) == 2
    assert "asked for ping, as no modern server may" in caplog.text


async def test_many_streams_can_be_open_at_once():
    count = 500
    waiting = 0
    all_there = trio.Event()

    async def handle(call):
        nonlocal waiting
        if await answer_modern(call):
            return
        await call.stream()
        waiting += 1
        if waiting == count:
            all_there.set()
        await all_there.wait()
        await call.event({"id": call.message["id"], "result": TEXT})
        await call.end()

    async with serving(handle) as app, open_client(app.url) as client, trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(client.call_tool, "x")
    assert waiting == count


async def test_a_slow_reader_leaves_the_sockets_full():
    piece, sent = b": " + b"x" * 1_000_000 + b"\n\n", 0
    message = {"method": "notifications/message", "params": {"level": "info", "data": "x" * 100_000}}

    async def handle(call):
        nonlocal sent
        await call.stream()
        for _ in range(2000):
            await call.event(message)
            sent += 1
        await call.end()

    assert len(piece) > 1_000_000
    async with (
        serving(handle) as app,
        open_http_transport(app.url, max_frame_bytes=10_000_000) as transport,
    ):
        await transport.send_frames([Request(1, "x", encode_value({"_meta": {}}))])
        first = await transport.receive_frames()
        await wait_all_tasks_blocked(0.2)
        assert len(first) <= sent < 1000
        stalled = sent
        for _ in range(100):
            await transport.receive_frames()
        await wait_all_tasks_blocked(0.2)
        assert sent > stalled


async def test_a_transport_shows_its_state_and_its_requests_in_flight():
    asked = trio.Event()

    async def handle(call):
        asked.set()
        await call.stream()
        await trio.sleep_forever()

    async with serving(handle) as app, open_http_transport(app.url, max_frame_bytes=1000) as transport:
        to = f"<HttpTransport to {transport.origin}:"
        assert repr(transport) == f"{to} open, 0 requests and 0 messages under way>"
        await transport.send_frames([Request(1, "x", encode_value({"_meta": {}}))])
        await asked.wait()
        assert repr(transport) == f"{to} open, 1 requests and 0 messages under way>"
    assert repr(transport).startswith(f"{to} closed")


# Arguments in headers.


async def test_annotated_arguments_become_headers_and_invalid_tools_are_left_out(caplog):
    region = {"type": "string", "x-mcp-header": "Region"}
    tools = [tool("good", region=region), tool("bad", size={"type": "number", "x-mcp-header": "Size"})]

    async def handle(call):
        if call.method == "tools/list":
            await call.result({"tools": tools})
        elif not await answer_modern(call):
            await call.result(TEXT)

    async with serving(handle) as app, open_client(app.url) as client:
        with caplog.at_level(logging.WARNING, "trio_mcp"):
            assert [listed.name for listed in await client.list_tools()] == ["good"]
        assert "tool 'bad' is left out: x-mcp-header 'Size' of size" in caplog.text
        await client.call_tool("good", {"region": "süd"})
        assert app.calls[-1].headers["mcp-param-region"] == "=?base64?c8O8ZA==?="
        await client.call_tool("good", {"region": None})
        assert "mcp-param-region" not in app.calls[-1].headers
        await client.call_tool("good")
        assert "mcp-param-region" not in app.calls[-1].headers


async def test_an_argument_that_does_not_fit_into_a_header_fails_its_call():
    count = {"type": "integer", "x-mcp-header": "Count"}

    async def handle(call):
        if call.method == "tools/list":
            await call.result({"tools": [tool("x", count=count)]})
        elif not await answer_modern(call):
            await call.result(TEXT)

    async with serving(handle) as app, open_client(app.url) as client:
        await client.list_tools()
        with pytest.raises(ProtocolError, match="safe range"):
            await client.call_tool("x", {"count": 2**53})
        assert (await client.call_tool("x", {"count": 5})).text == "done"


@pytest.mark.parametrize("helps", [True, False])
async def test_after_a_header_mismatch_the_client_lists_the_tools_and_retries_once(helps):
    region = {"type": "string", "x-mcp-header": "Region"}

    async def handle(call):
        if call.method == "tools/list":
            await call.result({"tools": [tool("x", region=region)] if helps else []})
        elif call.method == "tools/call" and "mcp-param-region" not in call.headers:
            await call.error(400, -32020, "Header mismatch: Mcp-Param-Region", id=call.message["id"])
        elif not await answer_modern(call):
            await call.result(TEXT)

    async with serving(handle) as app, open_client(app.url) as client:
        if helps:
            assert (await client.call_tool("x", {"region": "a"})).text == "done"
        else:
            with pytest.raises(ProtocolError, match="Header mismatch"):
                await client.call_tool("x", {"region": "a"})
        assert len(app.made("tools/list")) == 1
        assert len(app.made("tools/call")) == 2


# Failures.


@pytest.mark.parametrize("protocol", ["auto", MODERN, LEGACY])
async def test_a_server_that_does_not_listen_raises_connection_lost(protocol):
    with trio.socket.socket() as sock:  # bound, so that no other server has the port, but not listening
        await sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        with pytest.raises(ConnectionLost, match=url):
            async with open_client(url, protocol=protocol):
                pass


async def answer_wrongly(call):
    answers = {
        "500": lambda: call.reply(500, b"oops"),
        "401": lambda: call.reply(401, b"<html>"),
        "empty 404": lambda: call.reply(404),
        "accepted": lambda: call.reply(202),
        "html": lambda: call.reply(200, b"<html>", "text/html"),
        "no id": lambda: call.error(400, -32602, "without an id"),
        "null id": lambda: call.error(400, -32602, "with a null id", id=None),
        "id of its own": lambda: call.error(400, -32602, "with its own id", id="server-error"),
        "not json": lambda: call.reply(200, b"{", "application/json"),
        "too long": lambda: call.reply_json({"jsonrpc": "2.0", "id": 1, "result": {"x": "x" * 20_000}}),
    }
    if await answer_modern(call):
        return
    kind = call.message["params"]["name"]
    if kind in answers:
        await answers[kind]()
        return
    await call.stream()
    await call.progress(1)
    if kind == "too long event":
        await call.event({"method": "x", "params": {"x": "x" * 20_000}})
        await call.wait_disconnect()
    await call.end()


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        ("500", ProtocolError, "/mcp answered 500 Internal Server Error to tools/call"),
        ("401", ProtocolError, "/mcp answered 401 Unauthorized to tools/call"),
        ("empty 404", ProtocolError, "answered 404 Not Found"),
        ("accepted", ProtocolError, "answered 202 Accepted"),
        ("html", ProtocolError, "answered 200 OK .* text/html"),
        ("no id", ProtocolError, "without an id"),
        ("null id", ProtocolError, "with a null id"),
        ("id of its own", ProtocolError, "with its own id"),
        ("not json", RemoteProtocolError, "not valid JSON"),
        ("too long", RemoteProtocolError, "longer than 10000 bytes"),
        ("too long event", RemoteProtocolError, "longer than 10000 bytes"),
        ("an early end", ConnectionLost, "/mcp ended the stream before the answer"),
    ],
)
async def test_a_wrong_response_fails_its_call_and_no_other(kind, error, match):
    from trio_mcp import ClientSettings

    settings = ClientSettings(max_frame_bytes=10_000)
    async with serving(answer_wrongly) as app, open_client(app.url, settings=settings) as client:
        with pytest.raises(error, match=match):
            await client.call_tool(kind, progress_handler=lambda p, t, m: None)
        await client.ping()


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_server_that_dies_fails_the_calls_in_flight(protocol):
    started = trio.Event()

    async def handle(call):
        if await answer_modern(call):
            return
        await call.stream()
        started.set()
        await trio.sleep_forever()

    async with (
        serving(LegacyServer(handle) if protocol == LEGACY else handle) as app,
        open_client(app.url, protocol=protocol) as client,
    ):
        async with trio.open_nursery() as nursery:

            async def call_it():
                with pytest.raises(ConnectionLost, match=app.url):
                    await client.call_tool("x")

            nursery.start_soon(call_it)
            await started.wait()
            await app.stop()
        with pytest.raises(ConnectionLost, match=app.url):
            await client.call_tool("x")


async def test_many_calls_that_fail_at_once_raise_connection_lost_only():
    count = 50
    started = 0
    all_there = trio.Event()

    async def handle(call):
        nonlocal started
        if await answer_modern(call):
            return
        await call.stream()
        started += 1
        if started == count:
            all_there.set()
        await trio.sleep_forever()

    async def call_and_stop(app):
        async with open_client(app.url) as client, trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(client.call_tool, "x")
            await all_there.wait()
            await app.stop()

    async with serving(handle) as app:
        with pytest.raises(ExceptionGroup) as raised:  # noqa: ASYNC401  # of an unknown number of failures
            await call_and_stop(app)
        assert raised.value.split(ConnectionLost)[1] is None


# Legacy: a session.


async def answer_done(call):
    await call.result(TEXT)


async def test_a_legacy_session_sends_its_messages_in_order():
    accepted = False

    async def handle(call):
        nonlocal accepted
        if call.method == "notifications/initialized":
            await wait_all_tasks_blocked()  # any message that could overtake it would have arrived
            accepted = True
        if call.method == "tools/call":
            assert accepted
        await server(call)

    server = LegacyServer(answer_done)
    async with serving(handle) as app:
        async with open_client(app.url) as client:
            assert client.protocol_version == LEGACY
            assert (await client.call_tool("x")).text == "done"
        assert [call.method for call in app.made()] == [
            "server/discover",
            "initialize",
            "notifications/initialized",
            "tools/call",
        ]
        discover, initialize, *others = app.calls
        assert discover.headers["mcp-protocol-version"] == MODERN
        assert not {"mcp-session-id", "mcp-protocol-version", "mcp-method"} & set(initialize.headers)
        for call in others:
            assert call.headers["mcp-session-id"] == "session-1"
            assert call.headers["mcp-protocol-version"] == LEGACY
            assert "mcp-method" not in call.headers
        assert [call.verb for call in app.calls].count("GET") == 1
        assert app.calls[-1].verb == "DELETE"


@pytest.mark.parametrize("refusal", [400, 404, 405])
async def test_clients_that_share_a_cache_probe_a_legacy_origin_once(refusal):
    cache = EraCache()
    async with serving(LegacyServer(answer_done, refusal=refusal)) as app:
        for _ in range(2):
            async with open_client(app.url, era_cache=cache) as client:
                assert client.protocol_version == LEGACY
        assert len(app.made("server/discover")) == 1
        assert len(app.made("initialize")) == 2
        assert app.url.removesuffix("/mcp") in cache


async def test_without_a_cache_nothing_is_remembered_between_clients():
    async with serving(LegacyServer(answer_done)) as app:
        for _ in range(2):
            async with open_client(app.url) as client:
                assert client.protocol_version == LEGACY
        assert len(app.made("server/discover")) == 2


@pytest.mark.parametrize("status", [503, 429, 408, 401])
async def test_what_a_gateway_answers_for_an_absent_server_is_not_remembered(status):
    cache = EraCache()
    async with serving(LegacyServer(answer_done, refusal=status)) as app:
        async with open_client(app.url, era_cache=cache) as client:
            assert client.protocol_version == LEGACY
        assert len(cache) == 0


async def test_over_http_a_modern_server_may_take_longer_than_the_probe(mock_clock):
    """An answer decides, never silence: however slow or busy it is, nobody makes it legacy."""
    legacy = LegacyServer(answer_done)

    async def handle(call):
        if call.method == "server/discover":
            mock_clock.jump(6)
            await wait_all_tasks_blocked()
            await answer_modern(call)
        else:
            await legacy(call)

    cache = EraCache()
    async with serving(handle) as app:
        async with open_client(app.url, era_cache=cache) as client:
            assert client.protocol_version == MODERN
        assert not app.made("initialize")
        assert len(cache) == 0


async def break_off(call):
    await call.start(200, {"content-type": "application/json", "content-length": "10"})
    await call.write(b"{")
    raise OSError("gone")


async def test_a_server_that_breaks_the_connection_at_the_probe_is_asked_in_the_legacy_way():
    legacy = LegacyServer(answer_done)

    async def handle(call):
        await (break_off if call.method == "server/discover" else legacy)(call)

    cache = EraCache()
    async with serving(handle) as app:
        async with open_client(app.url, era_cache=cache) as client:
            assert client.protocol_version == LEGACY
            assert (await client.call_tool("x")).text == "done"
        assert len(cache) == 0  # it was no answer


async def test_if_both_ways_fail_the_error_is_that_of_the_first():
    async with serving(break_off) as app:
        with pytest.raises(ConnectionLost, match="failed"):
            async with open_client(app.url):
                pytest.fail("it connected")
        assert [call.method for call in app.made()] == ["server/discover", "initialize"]


@pytest.mark.parametrize(
    "words",
    [
        "Bad Request: No valid session ID provided",
        "Session not found",
        "Invalid session ID",
        "Unknown Mcp-Session-Id: the session has expired",
        "Bad Request: Server not initialized",
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
async def test_a_400_that_says_the_session_is_gone_starts_a_new_one(words, as_json):
    server = LegacyServer(answer_done)
    restarted = False

    async def handle(call):
        session = call.headers.get("mcp-session-id")
        if restarted and call.verb == "POST" and session == "session-1":
            if as_json:
                await call.error(400, -32000, words, id=None)
            else:
                await call.reply(400, words.encode())
        else:
            await server(call)

    async with serving(handle) as app, open_client(app.url, protocol=LEGACY) as client:
        assert (await client.call_tool("x")).text == "done"
        restarted = True
        assert (await client.call_tool("x")).text == "done"
        assert len(app.made("initialize")) == 2


@pytest.mark.parametrize("is_renewed", [False, True])
async def test_if_no_new_session_helps_the_error_is_the_original_one(is_renewed):
    server = LegacyServer(answer_done)

    async def handle(call):
        is_new = call.method == "initialize" and server.sessions
        if call.method == "tools/call" or (is_new and not is_renewed):
            await call.error(400, -32000, "Session not found in shard 7", id=None)
        else:
            await server(call)

    async with serving(handle) as app, open_client(app.url, protocol=LEGACY) as client:
        with pytest.raises(ProtocolError, match="Session not found in shard 7"):
            await client.call_tool("x")
        assert len(app.made("tools/call")) == (2 if is_renewed else 1)


async def test_any_other_400_is_an_error_and_starts_nothing():
    async def refuse(call):
        await call.error(400, -32602, "the session of the cinema must be a number", id=call.message["id"])

    async with serving(LegacyServer(refuse)) as app, open_client(app.url, protocol=LEGACY) as client:
        with pytest.raises(ProtocolError, match="cinema"):
            await client.call_tool("x")
        assert len(app.made("initialize")) == 1


async def test_a_refused_probe_is_recognized_whatever_its_id():
    async def handle(call):
        if call.method == "server/discover":
            await call.error(400, -32600, "Bad Request: Missing session ID", id="server-error")
        else:
            await server(call)

    server = LegacyServer(answer_done)
    async with serving(handle) as app, open_client(app.url) as client:
        assert client.protocol_version == LEGACY


async def test_a_stale_memory_of_an_origin_does_no_harm():
    async def handle(call):
        if not await answer_modern(call):
            await call.error(404, -32601, "no such method", id=call.message["id"])

    async with serving(handle) as app:
        origin = app.url.removesuffix("/mcp")
        cache = EraCache()
        cache.add(origin)
        async with open_client(app.url, era_cache=cache) as client:
            assert client.protocol_version == MODERN
        assert origin not in cache


def test_the_memory_of_origins_is_bounded():
    origins = EraCache(2)
    for origin in ("a", "b", "a", "c"):
        origins.add(origin)
    assert [origin for origin in "abc" if origin in origins] == ["a", "c"]


async def test_a_modern_error_does_not_start_a_legacy_handshake():
    async def handle(call):
        data = {"supported": ["2099-01-01"], "requested": MODERN}
        await call.error(400, -32022, "unsupported", data, id=call.message["id"])

    async with serving(handle) as app:
        with pytest.raises(RemoteProtocolError, match="no common protocol version"):
            async with open_client(app.url):
                pass
        assert len(app.calls) == 1


async def test_the_server_can_ask_and_log_on_the_get_stream():
    async def listen(call):
        await call.stream()
        await call.event({"method": "notifications/message", "params": {"level": "info", "data": "hello"}})
        await call.event({"id": 77, "method": "ping"})
        await call.wait_disconnect()

    answered, logged = trio.Event(), trio.Event()

    async def handle(call):
        await server(call)
        if call.verb == "POST" and call.method is None:
            answered.set()

    server = LegacyServer(answer_done, listen=listen)
    async with serving(handle) as app, open_client(app.url, log_handler=lambda m: logged.set()):
        await answered.wait()
        await logged.wait()
        (answer,) = app.made(None)[-1:]
        assert answer.message == {"jsonrpc": "2.0", "id": 77, "result": {}}
        assert answer.headers["mcp-session-id"] == "session-1"


async def test_no_request_is_sent_before_the_get_stream_is_open():
    listening, called = trio.Event(), trio.Event()

    async def listen(call):
        with trio.move_on_after(0.2):  # longer than a call that does not wait takes to arrive
            await called.wait()
        listening.set()
        await call.stream()
        await call.write(b": listening\n\n")  # hypercorn sends the head only with a first part of the body
        await call.wait_disconnect()

    async def handle(call):
        called.set()
        await call.result({"content": [{"type": "text", "text": str(listening.is_set())}]})

    server = LegacyServer(handle, listen=listen)
    async with serving(server) as app, open_client(app.url, protocol=LEGACY) as client:
        assert (await client.call_tool("ask")).data == "True"


@pytest.mark.parametrize("breaks", [False, True])
async def test_the_get_stream_is_resumed_at_its_last_event(breaks):
    again = trio.Event()
    streams = []

    async def listen(call):
        streams.append(call.headers.get("last-event-id"))
        await call.stream()
        if len(streams) == 1:
            await call.event(None, event_id="e1", retry=1)
            if breaks:
                raise ConnectionResetError  # hypercorn closes the connection in the middle of the body
            await call.end()
        else:
            again.set()
            await call.wait_disconnect()

    async with serving(LegacyServer(answer_done, listen=listen)) as app, open_client(app.url):
        await again.wait()
    assert streams == [None, "e1"]


async def test_the_get_stream_is_retried_after_a_bad_gateway():
    again = trio.Event()
    streams = []

    async def listen(call):
        streams.append(call.headers.get("last-event-id"))
        if len(streams) == 2:
            await call.reply(502)
            return
        await call.stream()
        if len(streams) == 1:
            await call.event(None, event_id="e1", retry=1)
            await call.end()
        else:
            again.set()
            await call.wait_disconnect()

    async with serving(LegacyServer(answer_done, listen=listen)) as app, open_client(app.url):
        await again.wait()
    assert streams == [None, "e1", "e1"]


async def test_a_retry_of_zero_still_pauses_between_attempts():
    times = []
    enough = trio.Event()

    async def listen(call):
        times.append(trio.current_time())
        if len(times) == 4:
            enough.set()
        await call.stream()
        await call.event(None, event_id=f"e{len(times)}", retry=0)
        await call.end()

    async with serving(LegacyServer(answer_done, listen=listen)) as app, open_client(app.url):
        await enough.wait()
    assert times[3] - times[0] >= 3 * 0.04  # three pauses of 50 ms, and some tolerance


async def test_cancelling_a_legacy_call_sends_cancelled_after_the_request():
    async def handle(call):
        await server(call)
        if call.method == "notifications/cancelled":
            cancelled.set()

    async def hang(call):
        await call.stream()
        await call.progress(1)
        await cancelled.wait()
        await call.end()

    cancelled = trio.Event()
    server = LegacyServer(hang)
    async with serving(handle) as app, open_client(app.url) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("x", progress_handler=lambda p, t, m: scope.cancel())
        await cancelled.wait()
        request, cancellation = app.made("tools/call") + app.made("notifications/cancelled")
        assert cancellation.message["params"]["requestId"] == request.message["id"]


async def test_a_broken_stream_is_resumed_at_its_last_event():
    async def begin(call):
        calls.append(call)
        await call.stream()
        await call.event(None, event_id="a", retry=1)
        await call.progress(1, event_id="b")
        await call.end()

    async def listen(call):
        last = call.headers.get("last-event-id")
        resumed.append(last)
        if last is None:
            await call.reply(405)
            return
        await call.stream()
        token = calls[0].token
        if last == "b":
            params = {"progressToken": token, "progress": 2}
            await call.event({"method": "notifications/progress", "params": params}, event_id="c")
        else:
            await call.event({"id": calls[0].message["id"], "result": TEXT}, event_id="d")
        await call.end()

    calls, resumed, seen = [], [], []
    async with serving(LegacyServer(begin, listen=listen)) as app, open_client(app.url) as client:
        result = await client.call_tool("x", progress_handler=lambda p, t, m: seen.append(p))
    assert result.text == "done"
    assert seen == [1, 2]
    assert resumed == [None, "b", "c"]


@pytest.mark.parametrize("way", ["405", "no news"])
async def test_a_stream_that_cannot_be_resumed_fails_its_call(way):
    async def begin(call):
        await call.stream()
        await call.event(None, event_id="a", retry=1)
        await call.end()

    async def listen(call):
        if way == "405" or "last-event-id" not in call.headers:
            await call.reply(405)
        else:
            await call.stream()
            await call.end()

    async with serving(LegacyServer(begin, listen=listen)) as app, open_client(app.url) as client:
        with pytest.raises(ConnectionLost, match="ended the stream before the answer"):
            await client.call_tool("x")
        assert len(app.made(verb="GET")) == (2 if way == "405" else 4)


async def test_a_session_that_the_server_ended_is_replaced():
    in_flight = trio.Event()
    go_on = trio.Event()

    async def answer(call):
        if call.message["params"]["name"] == "slow":
            await call.stream()
            in_flight.set()
            await go_on.wait()
        else:
            await call.result(TEXT)

    server = LegacyServer(answer)
    async with serving(server) as app, open_client(app.url) as client, trio.open_nursery() as nursery:

        async def call_slow():
            with pytest.raises(ConnectionLost, match="has ended the session"):
                await client.call_tool("slow")
            go_on.set()

        nursery.start_soon(call_slow)
        await in_flight.wait()
        server.sessions.append("gone")
        async with trio.open_nursery() as callers:
            for _ in range(3):
                callers.start_soon(client.call_tool, "x")
        assert server.sessions == ["session-1", "gone", "session-3"]
        first, second = app.made("initialize")
        assert first.message == second.message
        assert "mcp-session-id" not in second.headers
        assert app.calls[-1].headers["mcp-session-id"] == "session-3"
        # Each is refused once and then answered.
        assert len(app.made("tools/call")) in range(5, 8)


async def test_a_session_is_replaced_although_the_stream_of_its_handshake_stays_open():
    async def handle(call):
        if call.method != "initialize" or not server.sessions:
            await server(call)
            return
        server.sessions.append("session-2")
        await call.stream({"mcp-session-id": "session-2"})
        info = {"name": "scripted", "version": "1"}
        result = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": info}
        await call.event({"id": call.message["id"], "result": result})
        await call.wait_disconnect()

    server = LegacyServer(answer_done)
    async with serving(handle) as app, open_client(app.url) as client:
        await client.ping()  # it returns after the handshake
        server.sessions.append("gone")
        assert (await client.call_tool("x")).text == "done"


async def test_a_call_refused_after_the_first_is_also_sent_again():
    refused = 0
    both_asked, renewed = trio.Event(), trio.Event()

    async def handle(call):
        nonlocal refused
        if call.headers.get("mcp-session-id") == "session-1" and call.method == "tools/call":
            refused += 1
            if refused == 1:
                await both_asked.wait()
            else:
                both_asked.set()
                await renewed.wait()
        await server(call)
        if call.headers.get("mcp-session-id") == "session-3":
            renewed.set()

    server = LegacyServer(answer_done)
    async with serving(handle) as app, open_client(app.url) as client:
        await client.ping()  # it returns after the handshake
        server.sessions.append("gone")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "x")
            nursery.start_soon(client.call_tool, "x")
        assert len(app.made("initialize")) == 2


async def test_a_cancelled_call_is_not_sent_again():
    asked, cancelled = trio.Event(), trio.Event()

    async def handle(call):
        if call.method == "notifications/cancelled":
            cancelled.set()
        elif call.method == "tools/call":
            asked.set()
            await cancelled.wait()
        await server(call)

    server = LegacyServer(answer_done)
    async with serving(handle) as app, open_client(app.url) as client:
        await client.ping()  # it returns after the handshake
        server.sessions.append("gone")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "x")
            await asked.wait()
            nursery.cancel_scope.cancel()
        await client.ping()
        assert len(app.made("tools/call")) == 1


async def test_a_session_id_that_does_not_fit_into_a_header_fails_the_calls():
    async def handle(call):
        if call.method == "initialize":
            info = {"name": "scripted", "version": "1"}
            result = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": info}
            await call.result(result, {"mcp-session-id": "s\u00e9"})
        else:
            await server(call)

    server = LegacyServer(answer_done)
    async with serving(handle) as app, open_client(app.url) as client:
        for _ in range(2):
            with pytest.raises(
                ConnectionLost,
                match=r"/mcp failed: (Value|UnicodeEncode)Error: ",
            ):
                await client.call_tool("x")


async def test_a_session_that_cannot_be_replaced_fails_the_call():
    async def handle(call):
        if call.method == "initialize" and server.sessions:
            await call.reply(503)
        elif call.method == "tools/call":
            await call.reply(404)
        else:
            await server(call)

    server = LegacyServer(answer_done)
    async with serving(handle) as app, open_client(app.url) as client:
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="answered 503 Service Unavailable to a new handshake"):
                await client.call_tool("x")


async def test_a_batch_is_a_valid_response():
    async def answer(call):
        progress = {"progressToken": call.token, "progress": 1}
        await call.reply_json(
            [
                {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress},
                {"jsonrpc": "2.0", "id": call.message["id"], "result": TEXT},
            ]
        )

    seen = []
    async with (
        serving(LegacyServer(answer, version="2025-03-26")) as app,
        open_client(app.url, protocol="2025-03-26") as client,
    ):
        assert (await client.call_tool("x", progress_handler=lambda p, t, m: seen.append(p))).text == "done"
    assert seen == [1]


# Options of the caller.


async def test_the_auth_and_http_client_of_the_caller_are_used():
    async def handle(call):
        if "authorization" not in call.headers:
            await call.reply(401)
        elif not await answer_modern(call):
            await call.result(TEXT)

    async with serving(handle) as app, httpx2.AsyncClient(headers={"x-own": "1"}) as own:
        with pytest.raises(ProtocolError, match="401 Unauthorized"):
            async with open_client(app.url):
                pass
        async with open_client(app.url, auth=("me", "secret"), http_client=own) as client:
            await client.ping()
        assert not own.is_closed
        assert app.calls[-1].headers["x-own"] == "1"


async def test_a_redirect_is_followed():
    async def redirect(call):
        if call.path == "/mcp":
            await call.reply(307, headers={"location": "/elsewhere"})
        elif not await answer_modern(call):
            await call.result(TEXT)

    async with serving(redirect) as app, open_client(app.url) as client:
        assert (await client.call_tool("x")).text == "done"


SECRETS = {"X-Api-Key": "key-1", "Authorization": "Bearer b", "Cookie": "c=1"}


@pytest.mark.parametrize("code", [307, 308])
async def test_a_redirect_to_another_origin_is_followed_only_if_that_is_allowed(code):
    """Neither the caller's headers nor the message reach it before; then all of them do."""

    async def answer(call):
        if not await answer_modern(call):
            await call.result(TEXT)

    async def redirect(call):
        await call.reply(code, headers={"location": other.url})

    async with serving(answer) as other, serving(redirect) as app:
        with pytest.raises(ConnectionLost, match=f"redirects to {other.url}, which is another origin"):
            async with open_client(app.url, headers=SECRETS):
                pytest.fail("it connected")
        assert not other.calls
        allowed = [other.url.removesuffix("/mcp")]
        async with open_client(app.url, headers=SECRETS, allow_redirects_to=allowed) as client:
            assert (await client.call_tool("x")).text == "done"
        for call in other.calls:
            assert {name: call.headers[name.lower()] for name in SECRETS} == SECRETS
        assert len(other.made("tools/call")) == 1


async def test_a_client_of_the_caller_is_not_redirected_to_another_origin_either():
    async def redirect(call):
        await call.reply(307, headers={"location": other.url})

    async with (
        serving(answer_modern) as other,
        serving(redirect) as app,
        httpx2.AsyncClient(follow_redirects=True) as http_client,
    ):
        with pytest.raises(ConnectionLost, match="which is another origin"):
            async with open_client(app.url, http_client=http_client, headers=SECRETS):
                pytest.fail("it connected")
        assert not other.calls


async def test_a_session_is_not_told_to_another_origin():
    """GET and DELETE carry the session's id as well."""
    server = LegacyServer(answer_done)

    async def handle(call):
        if call.verb != "POST":
            await call.reply(302, headers={"location": other.url})
        else:
            await server(call)

    async with serving(answer_modern) as other, serving(handle) as app:
        async with open_client(app.url, protocol=LEGACY) as client:
            assert (await client.call_tool("x")).text == "done"
        assert {call.verb for call in app.calls} == {"POST", "GET", "DELETE"}
        assert not other.calls


@pytest.mark.parametrize(
    ("origins", "kind"),
    [("http://a", TypeError), (["http://a/mcp"], ValueError), (["a"], ValueError), (["ws://a"], ValueError)],
)
async def test_what_are_no_origins_is_refused(origins, kind):
    with pytest.raises(kind):
        async with open_client("http://localhost:1/mcp", allow_redirects_to=origins):
            pytest.fail("it connected")


async def test_redirects_in_a_circle_end():
    async def redirect(call):
        await call.reply(307, headers={"location": "/mcp"})

    async with serving(redirect) as app:
        with pytest.raises(ConnectionLost, match="redirects more than 20 times"):
            async with open_client(app.url):
                pytest.fail("it connected")


async def test_a_redirect_that_makes_a_get_of_a_post_fails_with_the_other_url():
    async def handle(call):
        if call.verb == "GET":  # as a server that has messages of its own would
            await call.stream()
            await call.write(b": listening\n\n")
            await call.wait_disconnect()
        else:
            await call.reply(301, headers={"location": "/there"})

    async with serving(handle) as app:
        with pytest.raises(ConnectionLost, match=r"redirects to .*/there, .* use that URL"):
            async with open_client(app.url):
                pytest.fail("it connected")


async def test_tls_uses_the_http_client_of_the_caller(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        serving(answer_modern, (str(certificate), str(key))) as app,
        httpx2.AsyncClient(verify=trusting) as own,
    ):
        assert app.url.startswith("https://")
        async with open_client(app.url, http_client=own) as client:
            await client.ping()
        with pytest.raises(ConnectionLost, match=app.url):
            async with open_client(app.url):
                pass


async def test_auth_that_raises_fails_the_call():
    def fail(request):
        raise LookupError("no token today")

    with pytest.raises(ConnectionLost, match="no token today"):
        async with open_client("http://127.0.0.1:9/mcp", auth=fail):
            pass


@pytest.mark.parametrize("option", ["headers", "auth", "http_client"])
async def test_options_for_urls_are_refused_without_a_url(option):
    with pytest.raises(TypeError, match=f"{option}= makes no sense"):
        async with open_client(Server("x"), **{option: {"a": "b"}}):
            pass


async def test_invalid_headers_are_refused():
    with pytest.raises(TypeError):
        async with open_client("http://127.0.0.1:9/mcp", headers={"x": 5}):
            pass


@pytest.mark.parametrize("url", ["http://", "http://[::1", "https:///mcp"])
async def test_an_invalid_url_is_refused(url):
    with pytest.raises(ValueError, match="no"):
        async with open_client(url):
            pass


def test_a_missing_package_is_named_with_its_extra():
    code = """
import sys, trio
sys.modules["h11"] = None
from trio_mcp import open_client
async def main():
    async with open_client("http://127.0.0.1:9/"):
        pass
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: servers with a URL need h11: pip install 'trio-mcp[http]'" in done.stderr
