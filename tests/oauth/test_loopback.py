"""The receiver of an authorization's answer: it takes the one request it waits for, and repeats nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.support.limits import HANG_SECONDS
from trio_mcp.oauth.loopback import MAX_CONNECTIONS, REQUEST_SECONDS, LoopbackReceiver, LoopbackRedirect

HOST = "127.0.0.1:5000"
STATE = "state-of-this-one"
QUERY = f"code=s3cret-code&state={STATE}"


@attrs.define
class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts connections that a test opens."""

    send: trio.MemorySendChannel[trio.abc.Stream]
    receive: trio.MemoryReceiveChannel[trio.abc.Stream]

    async def accept(self) -> trio.abc.Stream:
        return await self.receive.receive()

    async def aclose(self) -> None:
        await self.receive.aclose()

    def connect(self) -> trio.abc.Stream:
        client, server = memory_stream_pair()
        self.send.send_nowait(server)
        return client


@attrs.define
class Browser:
    """Asks one receiver, which runs without a network."""

    receiver: LoopbackReceiver
    listener: MemoryListener

    async def get(self, target: str, host: str = HOST, method: str = "GET") -> bytes:
        return await self.send(f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())

    async def send(self, request: bytes) -> bytes:
        async with self.listener.connect() as stream:
            await stream.send_all(request)
            return await read_all(stream)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    listener = MemoryListener(*trio.open_memory_channel[trio.abc.Stream](100))
    receiver = LoopbackReceiver(HOST, "/callback", STATE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.serve, listener)  # noqa: ASYNC113  # it listens already
        yield Browser(receiver, listener)
        nursery.cancel_scope.cancel()


async def is_waiting(receiver: LoopbackReceiver) -> bool:
    with trio.move_on_after(0) as scope:
        await receiver.wait_callback()
    return scope.cancelled_caught


async def test_the_query_of_the_callback_is_handed_over(autojump_clock: MockClock) -> None:
    async with open_browser() as browser:
        answer = await browser.get(f"/callback?{QUERY}")
        assert await browser.receiver.wait_callback() == QUERY
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"You can close this page" in answer


async def test_an_error_is_handed_over_as_well_and_not_repeated(autojump_clock: MockClock) -> None:
    query = f"error=access_denied&error_description=%3Cscript%3Ebad&state={STATE}&iss=https%3A%2F%2Fa"
    async with open_browser() as browser:
        answer = await browser.get(f"/callback?{query}")
        assert await browser.receiver.wait_callback() == query
    assert b"script" not in answer
    assert b"denied" not in answer


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("/favicon.ico", 404),
        (f"/callback/?{QUERY}", 404),
        (f"/other?{QUERY}", 404),
        ("/callback", 400),
        ("/callback?code=s3cret-code", 400),
        ("/callback?code=s3cret-code&state=", 400),
        ("/callback?code=s3cret-code&state=of-another", 400),
        (f"/callback?{QUERY}&state={STATE}", 400),
        (f"/callback?{QUERY}&state=of-another", 400),
        ("/callback?code=s3cret-code&state=%FF%C3", 400),
    ],
)
async def test_other_requests_are_refused_and_the_wait_goes_on(
    autojump_clock: MockClock, target: str, status: int
) -> None:
    async with open_browser() as browser:
        answer = await browser.get(target)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"s3cret" not in answer
        assert b"another" not in answer
        assert await is_waiting(browser.receiver)
        await browser.get(f"/callback?{QUERY}")
        assert await browser.receiver.wait_callback() == QUERY


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "localhost:5000", "127.0.0.1", ""])
async def test_a_request_to_another_host_is_refused(autojump_clock: MockClock, host: str) -> None:
    async with open_browser() as browser:
        answer = await browser.get(f"/callback?{QUERY}", host)
        assert answer.startswith(b"HTTP/1.1 421 ")
        assert b"evil" not in answer
        assert await is_waiting(browser.receiver)


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT"])
async def test_only_get_takes_the_code(autojump_clock: MockClock, method: str) -> None:
    async with open_browser() as browser:
        answer = await browser.get(f"/callback?{QUERY}", method=method)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert await is_waiting(browser.receiver)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00 TLS\r\n\r\n", 400),
        (b"GET /callback HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 100_000, 431),
    ],
)
async def test_what_is_no_request_is_refused(
    autojump_clock: MockClock, request_bytes: bytes, status: int
) -> None:
    async with open_browser() as browser:
        assert (await browser.send(request_bytes)).startswith(b"HTTP/1.1 %d " % status)
        assert await is_waiting(browser.receiver)


async def test_the_callback_is_taken_once(autojump_clock: MockClock) -> None:
    async with open_browser() as browser:
        await browser.get(f"/callback?{QUERY}")
        answer = await browser.get(f"/callback?code=of-another&state={STATE}")
        assert answer.startswith(b"HTTP/1.1 410 ")
        assert await browser.receiver.wait_callback() == QUERY


async def test_a_browser_that_does_not_wait_for_its_page_has_told_the_code(autojump_clock: MockClock) -> None:
    async with open_browser() as browser:
        async with browser.listener.connect() as stream:
            await stream.send_all(f"GET /callback?{QUERY} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
        assert await browser.receiver.wait_callback() == QUERY


async def test_silent_connections_are_closed_and_keep_nobody_out_for_long(autojump_clock: MockClock) -> None:
    async with open_browser() as browser:
        silent = [browser.listener.connect() for _ in range(MAX_CONNECTIONS)]
        start = trio.current_time()
        await browser.get(f"/callback?{QUERY}")
        assert await browser.receiver.wait_callback() == QUERY
        assert trio.current_time() == start + REQUEST_SECONDS
        for stream in silent:
            assert await stream.receive_some() == b""


async def test_a_connection_that_closes_at_once_is_no_failure(autojump_clock: MockClock) -> None:
    async with open_browser() as browser:
        await browser.listener.connect().aclose()
        await browser.get(f"/callback?{QUERY}")
        assert await browser.receiver.wait_callback() == QUERY


async def test_it_listens_on_the_loopback_address_while_the_block_lasts() -> None:
    with trio.fail_after(HANG_SECONDS):
        async with LoopbackRedirect(path="/back").open_receiver(STATE) as receiver:
            host, _, port = receiver.uri.removeprefix("http://").removesuffix("/back").partition(":")
            assert host == "127.0.0.1"
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(f"GET /back?{QUERY} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
                assert (await read_all(stream)).startswith(b"HTTP/1.1 200 ")
            assert await receiver.wait_callback() == QUERY
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream(host, int(port))


async def test_a_port_that_is_taken_is_an_error() -> None:
    with trio.fail_after(HANG_SECONDS):
        async with LoopbackRedirect().open_receiver(STATE) as receiver:
            port = int(receiver.uri.removesuffix("/callback").rpartition(":")[2])
            with pytest.raises(OSError, match="in use"):
                async with LoopbackRedirect(port=port).open_receiver(STATE):
                    pytest.fail("two listen")


async def test_an_exception_of_the_block_comes_out_alone() -> None:
    with pytest.raises(ZeroDivisionError):
        async with LoopbackRedirect().open_receiver(STATE):
            raise ZeroDivisionError


def test_a_receiver_shows_neither_state_nor_code() -> None:
    assert STATE not in repr(LoopbackReceiver(HOST, "/callback", STATE))


@pytest.mark.parametrize(
    "options", [{"port": -1}, {"port": 65_536}, {"path": "callback"}, {"path": "/a?b=c"}, {"path": ""}]
)
def test_what_cannot_be_a_redirect_is_refused(options: dict[str, int | str]) -> None:
    with pytest.raises(ValueError, match="must"):
        LoopbackRedirect(**options)  # type: ignore[arg-type]
