"""What one request costs others: its body is counted while it arrives, in portions and within common caps."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from tests.support.asgi_host import META, Exchange, Host, finish, open_host
from trio_mcp import HttpSettings, Server
from trio_mcp.server.asgi import asgi_app
from trio_mcp.transports.buffered_bytes import UNCOUNTED_BYTES
from trio_mcp.wire.value_count import PORTION

FREE = UNCOUNTED_BYTES


def make_server() -> Server:
    server = Server("capped", version="1")

    @server.tool
    async def measure(text: str) -> int:
        return len(text)

    return server


def body_of(text: str, meta: Any = 0) -> bytes:
    """A modern call of `measure`."""
    params = {"name": "measure", "arguments": {"text": text}, "_meta": {**META, "extra": meta}}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})


def begin(host: Host, peer: str = "10.0.0.1") -> Exchange:
    """Begin a call whose body the caller sends."""
    host.peer = peer
    headers = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "measure",
    }
    return host.start("POST", headers, None)


async def send_part(exchange: Exchange, part: bytes, *, more: bool = True) -> None:
    """Send a part of a body, and let the application read it."""
    exchange.to_app.send_nowait({"type": "http.request", "body": part, "more_body": more})
    await trio.testing.wait_all_tasks_blocked()


async def hold(host: Host, length: int, peer: str = "10.0.0.1") -> Exchange:
    """Begin a call of which `length` bytes have come, and not the rest."""
    exchange = begin(host, peer)
    await send_part(exchange, b" " * length)
    return exchange


async def end_whole(exchange: Exchange) -> None:
    await send_part(exchange, body_of("x"), more=False)


async def end_by_leaving(exchange: Exchange) -> None:
    exchange.disconnect()


async def end_by_waiting(exchange: Exchange) -> None:
    await trio.sleep(31)


async def end_by_length(exchange: Exchange) -> None:
    await send_part(exchange, b" " * 1_000_000)


async def end_by_cancelling(exchange: Exchange) -> None:
    exchange.scope.cancel()


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (end_whole, 200),
        (end_by_leaving, 0),
        (end_by_waiting, 408),
        (end_by_length, 413),
        (end_by_cancelling, 0),
    ],
)
async def test_what_bodies_hold_together_is_capped_and_given_back_at_every_end(end, status, autojump_clock):
    settings = HttpSettings(max_body_bytes=1_000_000, max_buffered_bytes_per_peer=150_000)
    async with open_host(asgi_app(make_server(), settings=settings)) as host:
        first = await hold(host, FREE + 100_000)
        refused = await finish(await hold(host, FREE + 100_000))
        assert refused.status == 503
        assert "max_buffered_bytes_per_peer is 150000" in refused.json["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        await end(first)
        await finish(first)
        assert first.status == status
        again = await hold(host, FREE + 100_000)
        await end_whole(again)
        assert (await finish(again)).status == 200


async def test_a_body_that_is_refused_for_its_length_in_memory_gives_it_back():
    settings = HttpSettings(max_body_bytes=1_000_000, max_buffered_bytes_per_peer=150_000)
    async with open_host(asgi_app(make_server(), settings=settings)) as host:
        for _ in range(3):
            growing = await hold(host, FREE + 100_000)
            await send_part(growing, b" " * 100_000)
            assert (await finish(growing)).status == 503
        fits = await hold(host, FREE + 100_000)
        await end_whole(fits)
        assert (await finish(fits)).status == 200


async def test_the_bodies_of_all_peers_have_a_cap_of_their_own():
    app = asgi_app(
        make_server(), settings=HttpSettings(max_buffered_bytes=250_000, max_buffered_bytes_per_peer=150_000)
    )
    async with open_host(app) as host:
        held = [await hold(host, FREE + 100_000, peer) for peer in ("10.0.0.1", "10.0.0.2")]
        refused = await finish(await hold(host, FREE + 100_000, "10.0.0.3"))
        assert refused.status == 503
        assert "max_buffered_bytes is 250000" in refused.json["error"]["message"]
        assert app.refusals["buffered"] == 1
        for exchange in held:
            await end_whole(exchange)
            assert (await finish(exchange)).status == 200


async def test_the_first_64_kib_of_a_body_are_not_counted():
    settings = HttpSettings(max_buffered_bytes=1, max_buffered_bytes_per_peer=1)
    async with open_host(asgi_app(make_server(), settings=settings)) as host:
        held = [await hold(host, FREE - 300) for _ in range(3)]
        for exchange in held:
            await end_whole(exchange)
            assert (await finish(exchange)).status == 200


async def test_the_common_caps_follow_the_cap_of_one_body():
    settings = HttpSettings(max_body_bytes=1000)
    assert (settings.max_buffered_bytes, settings.max_buffered_bytes_per_peer) == (4000, 2000)


@pytest.mark.parametrize("portion", [20, 1000, 10**9])
async def test_too_many_values_are_refused_in_whatever_portions_they_come(portion):
    async with open_host(asgi_app(make_server(), settings=HttpSettings(max_values=500))) as host:
        for text, meta, status in (("a,b" * 500, [1] * 600, 400), ("a,b" * 500, [1] * 400, 200)):
            body = body_of(text, meta)
            exchange = begin(host)
            for start in range(0, len(body), portion):
                more = start + portion < len(body)
                await send_part(exchange, body[start : start + portion], more=more)
            assert (await finish(exchange)).status == status
            assert exchange.json["id"] == 7
            if status == 400:
                assert exchange.json["error"]["message"] == "a message must not hold more than 500 values"


@pytest.mark.parametrize("text", ["x", "a,b", '\\"'])
async def test_others_run_while_a_long_body_is_read(text, autojump_clock):
    """Whatever a long part of a body holds, it is counted in portions."""
    body = body_of(text * (40 * PORTION // len(text)))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with open_host(asgi_app(make_server())) as host, trio.open_nursery() as nursery:
        exchange = begin(host)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(count_turns)
        exchange.to_app.send_nowait({"type": "http.request", "body": body, "more_body": False})
        assert (await finish(exchange)).status == 200
        nursery.cancel_scope.cancel()
    assert turns >= 40
