"""HTTP+SSE of 2024-11-05 at the client: the fall-back, the named endpoint, and the end of the stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from tests.support.reporting_server import make_reporting_server
from trio_mcp import (
    ClientSettings,
    ConnectionLost,
    Context,
    EraCache,
    HttpSettings,
    ProtocolError,
    Server,
    asgi_app,
    open_client,
)
from trio_mcp.transports.hypercorn import serve_asgi

ENDPOINT = b"event: endpoint\ndata: %b\n\n"


def make_server() -> Server:
    server = make_reporting_server()

    @server.tool
    async def wait(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep_forever()

    return server


class OldHost:
    """An ASGI application that answers as hosts of old servers do, and counts what it is asked."""

    def __init__(self, server: Server | None = None, post: int = 405, body: bytes = b"") -> None:
        self._app = None if server is None else asgi_app(server, sse=True)
        self._post = post
        self._body = body
        self.requests: list[tuple[str, str]] = []
        self.respond: Callable[..., Any] | None = None
        """Answers GET of the stream instead of the server, if it is set."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if self._app is not None:
                await self._app(scope, receive, send)
            return
        self.requests.append((scope["method"], scope["path"]))
        if scope["method"] == "POST" and scope["path"] == "/sse":
            await answer(send, self._post, self._body, "text/plain")
        elif self.respond is not None:
            await self.respond(scope, receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)


async def answer(send: Any, status: int, body: bytes, kind: str, *, more: bool = False) -> None:
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more})


@asynccontextmanager
async def hosted(host: Any) -> AsyncIterator[str]:
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (origin,) = await nursery.start(partial(serve_asgi, host, bind="127.0.0.1:0"))
            yield f"{origin}/sse"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [400, 404, 405])
@pytest.mark.parametrize("body", [b"", b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}'])
async def test_a_refused_handshake_leads_to_the_event_stream(status, body):
    host = OldHost(make_server(), status, body)
    cache = EraCache()
    async with hosted(host) as url, open_client(url, era_cache=cache) as client:
        assert client.protocol_version == "2025-11-25"
        seen: list[float] = []
        result = await client.call_tool(
            "report", {"count": 3}, progress_handler=lambda progress, total, message: seen.append(progress)
        )
        assert (result.data, seen) == ("reported", [1, 2, 3])
    # Both handshakes were answered before the older transport was tried.
    assert host.requests[:3] == [("POST", "/sse"), ("POST", "/sse"), ("GET", "/sse")]
    assert len(cache) == 0, "the same origin may serve other revisions at another path"


@pytest.mark.parametrize("protocol", ["2025-11-25", "2025-03-26", "2024-11-05"])
async def test_a_pinned_legacy_revision_falls_back_too(protocol):
    async with hosted(OldHost(make_server())) as url, open_client(url, protocol=protocol) as client:
        assert client.protocol_version == protocol


@pytest.mark.parametrize("options", [{"protocol": "2026-07-28"}, {"transport": "http"}])
async def test_it_is_not_tried_if_the_caller_wants_streamable_http(options):
    host = OldHost(make_server())
    async with hosted(host) as url:
        with pytest.raises(ProtocolError, match="405"):
            async with open_client(url, **options):
                pass
    assert ("GET", "/sse") not in host.requests


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_other_refusals_do_not_lead_to_it(status):
    host = OldHost(make_server(), status)
    async with hosted(host) as url:
        with pytest.raises(ProtocolError, match=str(status)):
            async with open_client(url):
                pass
    assert ("GET", "/sse") not in host.requests


async def test_without_an_event_stream_the_refusal_counts():
    host = OldHost(post=404)
    host.respond = lambda scope, receive, send: answer(send, 404, b"nothing", "text/plain")
    async with hosted(host) as url:
        with pytest.raises(ProtocolError, match="404 Not Found to initialize") as caught:
            async with open_client(url):
                pass
    (note,) = caught.value.__notes__
    assert "HTTP+SSE" in note
    assert "404 Not Found to GET" in note


@pytest.mark.parametrize("options", [{"transport": "ws"}, {"transport": "sse", "protocol": "2026-07-28"}])
async def test_a_transport_that_cannot_be_is_refused_before_anything_is_sent(options: dict[str, Any]):
    with pytest.raises(ValueError, match=r'must be "http" or "sse"|has no HTTP\+SSE'):
        async with open_client("http://127.0.0.1:9/mcp", **options):
            pass


async def test_the_older_transport_can_be_chosen():
    host = OldHost(make_server())
    async with hosted(host) as url, open_client(url, transport="sse") as client:
        assert [tool.name for tool in await client.list_tools()] == ["echo", "report", "wait"]
    assert host.requests[0] == ("GET", "/sse")
    assert ("POST", "/sse") not in host.requests


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        (b"http://evil.example/messages", "another origin"),
        (b"//evil.example/messages", "another origin"),
        (b"http://127.0.0.1:1/messages", "another origin"),
        (b"https://127.0.0.1/messages", "another origin"),
        (b"file:///etc/passwd", "no URL"),
        (b"http://[", "no URL"),
    ],
)
async def test_an_endpoint_of_another_origin_is_not_posted_to(endpoint, words):
    host = OldHost()

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, ENDPOINT % endpoint, "text/event-stream", more=True)
        await receive()
        await receive()

    host.respond = respond
    async with hosted(host) as url:
        with pytest.raises(ConnectionLost, match=words):
            async with open_client(url, transport="sse"):
                pass
    assert host.requests == [("GET", "/sse")]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n', "endpoint"),
        (b": hello\n\n", "closed the event stream"),
    ],
)
async def test_a_stream_that_names_no_endpoint_is_none(events, words):
    host = OldHost()
    host.respond = lambda scope, receive, send: answer(send, 200, events, "text/event-stream")
    async with hosted(host) as url:
        with pytest.raises(ConnectionLost, match=words):
            async with open_client(url, transport="sse"):
                pass


async def test_a_stream_without_any_event_is_given_up():
    host = OldHost()

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, b": hello\n\n", "text/event-stream", more=True)
        await receive()
        await receive()

    host.respond = respond
    async with hosted(host) as url:
        with pytest.raises(ConnectionLost, match="sent no event"):
            async with open_client(url, transport="sse", settings=ClientSettings(handshake_timeout=0.1)):
                pass


async def test_the_end_of_the_stream_ends_the_calls_with_a_clear_error():
    server = make_server()
    app = asgi_app(server, sse=True)
    async with hosted(app) as url, open_client(url, transport="sse") as client:
        with pytest.raises(ConnectionLost, match="cannot resume"):
            await client.call_tool("wait", progress_handler=lambda *update: app.shut_down())
        with pytest.raises(ConnectionLost, match="cannot resume"):
            await client.list_tools()


@pytest.mark.parametrize(
    ("target", "options", "error", "words"),
    [
        ("http://127.0.0.1:1/sse", {"transport": "pigeon"}, ValueError, "pigeon"),
        ("http://127.0.0.1:1/sse", {"transport": "sse", "protocol": "2026-07-28"}, ValueError, "2026-07-28"),
        ("ws://127.0.0.1:1/sse", {"transport": "sse"}, TypeError, "transport"),
        (Server("memory"), {"transport": "sse"}, TypeError, "transport"),
        ("http://127.0.0.1:1/sse", {"transport": "sse"}, ConnectionLost, "127.0.0.1:1"),
    ],
)
async def test_what_makes_no_sense_is_refused(target, options, error, words):
    with pytest.raises(error, match=words):
        async with open_client(target, **options):
            pass


async def test_a_refused_message_ends_its_request_only():
    app = asgi_app(make_server(), sse=True, settings=HttpSettings(max_body_bytes=1000))
    async with hosted(app) as url, open_client(url, transport="sse") as client:
        with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
            await client.call_tool("report", {"count": "x" * 2000})
        assert (await client.call_tool("report", {"count": 1})).data == "reported"
