"""Requests that carry a token: when one is sent again, and what stands still meanwhile."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock

from trio_mcp import AuthorizationError, ClientSettings, ProtocolError, open_client
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout, TokenStorageError
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.transports.http.authorized_url import AuthorizedUrl
from trio_mcp.transports.http.authorizer import (
    MOST_REFUSALS,
    Authorizer,
    Refusal,
    StaticToken,
    find_authorizer,
)
from trio_mcp.transports.http.response import HttpResponse
from trio_mcp.transports.http.sse_transport import open_sse_transport
from trio_mcp.transports.http.transport import HttpTransport

LIMIT = 100_000


@attrs.define(eq=False)
class FakeEndpoint:
    """An MCP server that lets in whoever has the token `good`, without a network."""

    good: str = "good"
    status: int = 401
    requests: list[tuple[str, str, str]] = attrs.field(factory=list)
    url: str = "https://mcp.example.com/mcp"
    origin: str = "https://mcp.example.com"
    limit: int = LIMIT
    general_client: Any = None
    pausing: Callable[[], AbstractContextManager[None]] = nullcontext

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        sent: trio.Event | None = None,
        *,
        is_repeatable: bool = False,
    ) -> AsyncIterator[HttpResponse]:
        await trio.lowlevel.checkpoint()
        if sent is not None:
            sent.set()
        message = msgspec.json.decode(body) if body else {}
        token = headers.get("authorization", "").removeprefix("Bearer ")
        self.requests.append((method, message.get("method", ""), token))
        if token == self.good:
            yield self._response(200, self._result(message))
        else:
            yield self._response(self.status, {"error": "nobody reads it"})

    def _result(self, message: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {"resultType": "complete", "content": []}
        if message.get("method") == "server/discover":
            result = {**result, "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        return {"jsonrpc": "2.0", "id": message.get("id"), "result": result}

    def _response(self, status: int, document: Any) -> HttpResponse:
        async def chunks() -> AsyncIterator[bytes]:  # noqa: ASYNC900  # it holds no resource
            yield msgspec.json.encode(document)

        headers = {"content-type": "application/json", "www-authenticate": 'Bearer scope="a"'}
        return HttpResponse(status, "", headers, chunks(), LIMIT, url=self.url)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class FakeAuthorizer:
    """Gets `tokens` one after the other, each after `seconds`, and then raises `failure`."""

    tokens: list[str]
    seconds: float = 0.0
    failure: Exception | None = None
    held: str | None = None
    refusals: list[Refusal] = attrs.field(factory=list)
    asked: trio.Event = attrs.field(factory=trio.Event)
    """Set when a person is asked."""

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        return {} if self.held is None else {"authorization": f"Bearer {self.held}"}

    async def answer(self, refusal: Refusal) -> bool:
        self.refusals.append(refusal)
        self.asked.set()
        await trio.sleep(self.seconds)
        if self.tokens:
            self.held = self.tokens.pop(0)
            return True
        if self.failure is not None:
            raise self.failure
        return False


@attrs.frozen
class Connector:
    """A target that is asked through `endpoint` with the tokens of `authorizer`."""

    endpoint: FakeEndpoint
    authorizer: Authorizer

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        async with open_unwrapping_nursery() as nursery:
            transport = HttpTransport(AuthorizedUrl(self.endpoint, self.authorizer), nursery)
            try:
                yield transport
            finally:
                await transport.aclose()


async def test_a_refused_request_is_sent_again_with_the_new_token() -> None:
    endpoint, authorizer = FakeEndpoint(), FakeAuthorizer(["bad", "good"])
    async with open_client(Connector(endpoint, authorizer)) as client:
        await client.call_tool("add", {"a": 1})
    tokens = [token for _, method, token in endpoint.requests if method == "server/discover"]
    assert tokens == ["", "bad", "good"]
    assert [refusal.attempt for refusal in authorizer.refusals] == [0, 1]
    assert authorizer.refusals[0].headers["www-authenticate"] == 'Bearer scope="a"'
    assert [method for _, method, _ in endpoint.requests].count("tools/call") == 1


async def test_a_refusal_names_its_operation() -> None:
    endpoint, authorizer = FakeEndpoint(), FakeAuthorizer(["good"])
    async with open_client(Connector(endpoint, authorizer)) as client:
        endpoint.good = "better"
        authorizer.tokens = ["better"]
        await client.call_tool("add", {"a": 1})
    assert [refusal.operation() for refusal in authorizer.refusals] == ["server/discover", "tools/call add"]
    assert Refusal(401, {}, {}, "GET", "https://h", body=b"\xff").operation() == "GET"


async def test_an_authorizer_that_gives_up_leaves_the_refusal_to_the_caller() -> None:
    with pytest.raises(ProtocolError, match="401"):
        async with open_client(Connector(FakeEndpoint(), FakeAuthorizer(["bad"]))):
            pass


@pytest.mark.parametrize("failure", [AuthorizationError("no"), TokenStorageError("full")])
async def test_what_an_authorizer_raises_reaches_the_caller(failure: Exception) -> None:
    endpoint = FakeEndpoint()
    authorizer = FakeAuthorizer(["good"])
    async with open_client(Connector(endpoint, authorizer)) as client:
        endpoint.good, authorizer.failure = "better", failure
        with pytest.raises(type(failure)) as raised:
            await client.call_tool("add", {"a": 1})
        assert raised.value is failure
        endpoint.good = "good"
        await client.call_tool("add", {"a": 1})  # the connection goes on


async def test_a_request_is_not_refused_endlessly() -> None:
    endpoint, authorizer = FakeEndpoint(), FakeAuthorizer(["bad"] * 100)
    with pytest.raises(ProtocolError, match="401"):
        async with open_client(Connector(endpoint, authorizer), protocol="2026-07-28"):
            pass
    assert len(endpoint.requests) == MOST_REFUSALS


async def test_the_end_of_a_session_is_not_worth_a_token() -> None:
    endpoint, authorizer = FakeEndpoint(), FakeAuthorizer(["good"])
    async with AuthorizedUrl(endpoint, authorizer).ask("DELETE", {}) as answer:
        assert answer.code == 401
    assert not authorizer.refusals


async def test_the_handshake_stands_still_while_a_person_is_asked(autojump_clock: MockClock) -> None:
    settings = ClientSettings(handshake_timeout=5)
    authorizer = FakeAuthorizer(["good"], seconds=250)
    async with open_client(Connector(FakeEndpoint(), authorizer), settings=settings):
        assert trio.current_time() >= 250


async def test_a_handshake_without_an_answer_still_ends(autojump_clock: MockClock) -> None:
    class Silent(FakeEndpoint):
        @asynccontextmanager
        async def ask(self, *args: Any, **options: Any) -> AsyncIterator[HttpResponse]:
            await trio.sleep_forever()
            yield self._response(200, {})

    settings = ClientSettings(handshake_timeout=5)
    with pytest.raises(CallTimeout, match="within 5 seconds"):
        async with open_client(Connector(Silent(), StaticToken("x")), settings=settings):
            pass


async def test_the_timeouts_of_a_call_stand_still_while_a_person_is_asked(autojump_clock: MockClock) -> None:
    endpoint, authorizer = FakeEndpoint(), FakeAuthorizer(["good"])
    async with open_client(Connector(endpoint, authorizer)) as client:
        endpoint.good, authorizer.tokens, authorizer.seconds = "better", ["better"], 100
        await client.call_tool("add", {"a": 1}, idle_timeout=5)
        assert trio.current_time() >= 100


class FakeEventStream(FakeEndpoint):
    """A server of HTTP+SSE, whose event stream names its endpoint and then stays open."""

    def _response(self, status: int, document: Any) -> HttpResponse:
        async def chunks() -> AsyncIterator[bytes]:  # noqa: ASYNC900  # it holds no resource
            yield b"event: endpoint\ndata: /messages\n\n" if status == 200 else b"{}"
            if status == 200:
                await trio.sleep_forever()

        headers = {"content-type": "text/event-stream" if status == 200 else "application/json"}
        return HttpResponse(status, "", headers, chunks(), LIMIT, url=self.url)


@pytest.fixture
def sse_authorizer(monkeypatch: pytest.MonkeyPatch) -> FakeAuthorizer:
    """What authorizes the requests of the transport over HTTP+SSE."""
    authorizer = FakeAuthorizer([])

    @asynccontextmanager
    async def open_endpoint(url: str, **options: Any) -> AsyncIterator[AuthorizedUrl]:
        yield AuthorizedUrl(FakeEventStream(url=url), authorizer)

    monkeypatch.setattr("trio_mcp.transports.http.sse_transport.open_endpoint", open_endpoint)
    return authorizer


async def test_an_event_stream_is_waited_for_while_a_person_is_asked(
    sse_authorizer: FakeAuthorizer, autojump_clock: MockClock
) -> None:
    sse_authorizer.tokens, sse_authorizer.seconds = ["good"], 250
    async with open_sse_transport("https://mcp.example.com/sse", max_frame_bytes=LIMIT, patience=5):
        assert trio.current_time() == 250


async def test_what_an_authorizer_raises_is_the_failure_of_an_event_stream(
    sse_authorizer: FakeAuthorizer,
) -> None:
    sse_authorizer.failure = AuthorizationError("no")
    with pytest.raises(AuthorizationError) as raised:
        async with open_sse_transport("https://mcp.example.com/sse", max_frame_bytes=LIMIT, patience=5):
            pass
    assert raised.value is sse_authorizer.failure


async def test_a_refusal_whose_body_never_ends_is_dealt_with(autojump_clock: MockClock) -> None:
    class Endless(FakeEndpoint):
        def _response(self, status: int, document: Any) -> HttpResponse:
            async def chunks() -> AsyncIterator[bytes]:  # noqa: ASYNC900  # it holds no resource
                if status != 200:
                    await trio.sleep_forever()
                yield msgspec.json.encode(document)

            return HttpResponse(status, "", {"content-type": "application/json"}, chunks(), LIMIT)

    async with open_client(Connector(Endless(), FakeAuthorizer(["good"]))) as client:
        await client.call_tool("add", {"a": 1})


async def test_a_call_that_is_cancelled_while_a_person_is_asked_is_not_sent_again() -> None:
    endpoint, authorizer = FakeEndpoint(), FakeAuthorizer(["good"])
    async with open_client(Connector(endpoint, authorizer)) as client:
        endpoint.good, authorizer.tokens = "better", ["better"]
        authorizer.seconds, authorizer.asked = math.inf, trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "add", {"a": 1})
            await authorizer.asked.wait()
            nursery.cancel_scope.cancel()
    assert [method for _, method, _ in endpoint.requests].count("tools/call") == 1


def test_only_our_own_ways_are_taken_for_authorizers() -> None:
    token = find_authorizer("sesame", "https://h/mcp")
    assert isinstance(token, StaticToken)
    assert "sesame" not in repr(token)
    authorizer = FakeAuthorizer([])
    assert find_authorizer(authorizer, "https://h/mcp") is authorizer
    assert find_authorizer(("user", "password"), "https://h/mcp") is None
