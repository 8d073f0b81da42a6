"""HTTP+SSE of 2024-11-05 at the server: its two paths, its sessions and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.support.asgi_host import Exchange, Host, finish, open_host
from tests.support.reporting_server import make_reporting_server
from trio_mcp import Context, HttpSettings, Server, asgi_app
from trio_mcp.wire.sse import EventDecoder


def make_server(**settings: Any) -> Server:
    server = make_reporting_server(**settings)

    @server.tool
    async def who(ctx: Context) -> list[str | None]:
        return [ctx.principal and ctx.principal.name, ctx.headers.get("x-from")]

    return server


async def open_stream(host: Host, path: str = "/sse", **headers: str) -> tuple[Exchange, str]:
    """Open an event stream; returns it and the path that it names."""
    stream = host.start("GET", {"accept": "text/event-stream", **headers}, path=path)
    await stream.wait_body(b"\n\n")
    decoder = EventDecoder(1000)
    decoder.feed(stream.body)
    assert decoder.endpoint is not None
    return stream, decoder.endpoint


async def initialize(host: Host, stream: Exchange, where: str, version: str = "2024-11-05") -> Any:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    posted = host.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, path=where)
    await finish(posted)
    assert (posted.status, posted.body) == (202, b"")
    (answer,) = await stream.wait_messages(1)
    await finish(host.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, path=where))
    return answer


def call(name: str, ident: int = 1, token: Any = None, **arguments: Any) -> dict[str, Any]:
    meta = {} if token is None else {"progressToken": token}
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}


async def test_messages_are_posted_and_answers_come_by_the_event_stream():
    async with open_host(asgi_app(make_server(), sse=True)) as host:
        stream, where = await open_stream(host)
        assert stream.headers["content-type"] == "text/event-stream"
        path, _, ident = where.partition("?session_id=")
        assert path == "/messages"
        assert len(ident) * 6 >= 128, "an id that cannot be guessed"
        answer = await initialize(host, stream, where)
        assert answer["result"]["protocolVersion"] == "2024-11-05"
        await finish(host.post(call("report", token="t", count=3), path=where))
        messages = await stream.wait_messages(5)
        assert [m["params"]["progress"] for m in messages[1:4]] == [1, 2, 3]
        assert messages[4]["id"] == 1
        stream.disconnect()


@pytest.mark.parametrize(
    ("root", "asked", "path", "named"),
    [
        ("", "/sse", "/mcp", "/messages"),
        ("", "/api/v1/sse", "/api/v1/mcp", "/api/v1/messages"),
        ("", "/sse/", "/", "/messages"),
        ("/mounted", "/mounted/sse", "/mcp", "/mounted/messages"),
        ("/mounted", "/sse", "/mcp", "/mounted/messages"),
        ("/a b", "/a b/sse", "/mcp", "/a%20b/messages"),
    ],
)
async def test_the_named_path_is_beside_that_of_the_stream(root, asked, path, named):
    async with open_host(asgi_app(make_server(), path=path, sse=True)) as host:
        host.scope["root_path"] = root
        stream, where = await open_stream(host, asked)
        assert where.partition("?")[0] == named
        stream.disconnect()


async def test_without_the_option_neither_path_is_served():
    async with open_host(asgi_app(make_server())) as host:
        for method, path in (("GET", "/sse"), ("POST", "/messages")):
            refused = await host.request(method, path=path)
            assert refused.status == 404
            assert host.scope == {}


@pytest.mark.parametrize("path", ["/sse", "/messages", "/messages/"])
def test_the_endpoint_cannot_have_a_path_of_the_older_transport(path):
    with pytest.raises(ValueError, match="HTTP\\+SSE"):
        asgi_app(make_server(), path=path, sse=True)


async def test_other_methods_are_refused_so_that_clients_fall_back():
    async with open_host(asgi_app(make_server(), sse=True)) as host:
        refused = await finish(host.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, path="/sse"))
        assert (refused.status, refused.headers["allow"]) == (405, "GET")
        refused = await host.request("GET", path="/messages?session_id=x")
        assert (refused.status, refused.headers["allow"]) == (405, "POST")


async def test_a_message_for_no_session_or_a_foreign_one_is_refused():
    principals = {"a": "ann", "b": "bob"}

    def authenticate(scope: Any) -> str | None:
        return principals.get(dict(scope["headers"]).get(b"authorization", b"").decode())

    app = asgi_app(make_server(), sse=True, authenticate=authenticate)
    async with open_host(app) as host:
        stream, where = await open_stream(host, authorization="a")
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        stranger = "/messages?session_id=x"
        cases = (("/messages", "a", 400), (stranger, "a", 404), (where, "b", 404), (where, "", 404))
        for path, who, status in cases:
            refused = await finish(host.post(ping, {"authorization": who}, path=path))
            assert refused.status == status, (path, who)
        assert (await finish(host.post(ping, {"authorization": "a"}, path=where))).status == 202
        stream.disconnect()
        await stream.ended.wait()
        assert (await finish(host.post(ping, {"authorization": "a"}, path=where))).status == 404


async def test_handlers_see_the_principal_and_the_headers_of_the_stream():
    app = asgi_app(make_server(), sse=True, authenticate=lambda scope: "ann")
    async with open_host(app) as host:
        stream, where = await open_stream(host, **{"x-from": "here"})
        await initialize(host, stream, where)
        await finish(host.post(call("who"), {"x-from": "elsewhere"}, path=where))
        result = (await stream.wait_messages(2))[1]["result"]
        assert result["structuredContent"]["result"] == ["ann", "here"]
        stream.disconnect()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/sse", {"host": "evil.example"}, 403),
        ("GET", "/sse", {"origin": "https://evil.example"}, 403),
        ("GET", "/sse", {"accept": "application/json"}, 406),
        ("POST", "/messages?session_id=x", {"origin": "https://evil.example"}, 403),
        ("POST", "/messages?session_id=x", {"content-type": "text/plain"}, 415),
        ("POST", "/messages", {"content-type": "application/json", "content-length": "5000"}, 413),
    ],
)
async def test_the_guards_of_the_endpoint_hold(method, path, headers, status):
    app = asgi_app(make_server(), sse=True, settings=HttpSettings(max_body_bytes=1000))
    async with open_host(app) as host:
        assert (await host.request(method, headers, path=path)).status == status
        assert sum(app.refusals.values()) == 1


async def test_streams_beyond_the_cap_are_refused_until_one_ends():
    settings = HttpSettings(max_sessions_per_peer=2)
    async with open_host(asgi_app(make_server(), sse=True, settings=settings)) as host:
        first, _ = await open_stream(host)
        await host.initialize()  # over Streamable HTTP: both kinds share the cap
        refused = await host.request("GET", path="/sse")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        first.disconnect()
        await first.ended.wait()
        second, _ = await open_stream(host)
        second.disconnect()


async def test_a_quiet_stream_gets_comments(autojump_clock):
    settings = HttpSettings(keep_alive=15)
    async with open_host(asgi_app(make_server(), sse=True, settings=settings)) as host:
        stream, _ = await open_stream(host)
        started = trio.current_time()
        await stream.wait_body(b"\n\n:\n\n:\n\n")
        assert trio.current_time() - started == 30
        stream.disconnect()


async def test_the_end_of_the_stream_cancels_the_calls_of_its_session():
    server = make_server()
    began, cancelled = trio.Event(), trio.Event()

    @server.tool
    async def wait() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with open_host(asgi_app(server, sse=True)) as host:
        stream, where = await open_stream(host)
        await initialize(host, stream, where)
        await finish(host.post(call("wait"), path=where))
        await began.wait()
        stream.disconnect()
        await cancelled.wait()
        await stream.ended.wait()


async def test_shutting_down_ends_the_streams():
    app = asgi_app(make_server(), sse=True)
    async with open_host(app) as host:
        stream, where = await open_stream(host)
        await initialize(host, stream, where)
        app.shut_down()
        await stream.ended.wait()
        assert stream.is_complete
        refused = await finish(host.post(call("echo", text="x"), path=where))
        assert refused.status == 503


async def test_a_client_that_does_not_read_holds_up_its_own_messages_only():
    """Its progress is conflated, its answers wait, and then its POSTs do, until it reads or goes."""
    async with open_host(asgi_app(make_server(log_buffer=2), sse=True)) as host:
        stalled, where = await open_stream(host)
        await initialize(host, stalled, where)
        stalled.reading = trio.Event()
        posts = [host.post({"jsonrpc": "2.0", "id": n, "method": "ping"}, path=where) for n in range(20)]
        await trio.testing.wait_all_tasks_blocked()
        waiting = [post for post in posts if not post.ended.is_set()]
        assert 0 < len(waiting) < 20
        other, there = await open_stream(host)
        await initialize(host, other, there)
        await finish(host.post(call("echo", text="x"), path=there))
        assert (await other.wait_messages(2))[1]["id"] == 1
        leaver = waiting.pop()
        leaver.disconnect()
        await leaver.ended.wait()
        assert leaver.status == 0, "who goes before it is accepted gets no answer"
        stalled.reading.set()
        for post in waiting:
            await finish(post)
            assert post.status == 202
        answers = await stalled.wait_messages(20)
        assert len({answer["id"] for answer in answers}) == 19
        stalled.disconnect()
        other.disconnect()


async def test_what_is_no_message_is_refused_and_answered_by_the_stream():
    async with open_host(asgi_app(make_server(), sse=True)) as host:
        stream, where = await open_stream(host)
        await initialize(host, stream, where)
        posted = await finish(host.post(b'{"jsonrpc":"2.0","id":7,"method":5}', path=where))
        assert (posted.status, posted.json["id"]) == (400, 7)
        answer = (await stream.wait_messages(2))[1]
        assert (answer["id"], answer["error"]["code"]) == (7, -32600)
        stream.disconnect()
