"""The access log: one line for each request, whatever it is answered, and nothing for its progress."""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import Any

import pytest
import trio

from tests.support.asgi_host import finish, open_host
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    ConnectionLost,
    Context,
    HttpSettings,
    Server,
    asgi_app,
    open_client,
    serve_http,
    serve_websocket,
)


def make_server() -> Server:
    server = Server("logged")

    @server.tool
    async def work(ctx: Context) -> str:
        for step in range(5):
            await ctx.report_progress(step + 1, 5)
        await trio.sleep(2)
        return "done"

    return server


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "trio_mcp.access"]


async def test_each_request_is_one_line_when_its_response_has_ended(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.INFO, "trio_mcp.access")
    async with open_host(asgi_app(make_server())) as host:
        call = host.call("work", token=1)
        await finish(call)
        await finish(host.start("PUT"))
        await finish(host.start("GET", path="/other\nforged \x1b[2J"))
    assert call.status == 200
    assert lines(caplog) == [
        "POST /mcp 200 2000 ms 127.0.0.1",
        "PUT /mcp 405 0 ms 127.0.0.1",
        r"GET /other\nforged \x1b[2J 404 0 ms 127.0.0.1",
    ]


@pytest.mark.parametrize(("access_log", "level"), [(False, logging.INFO), (True, logging.WARNING)])
async def test_nothing_is_logged_unless_it_is_wanted(
    caplog: pytest.LogCaptureFixture, access_log: bool, level: int
) -> None:
    caplog.set_level(level, "trio_mcp.access")
    async with open_host(asgi_app(make_server(), settings=HttpSettings(access_log=access_log))) as host:
        await finish(host.start("PUT"))
    assert lines(caplog) == []


SERVERS: dict[str, Any] = {
    "hypercorn": partial(serve_http, bind="127.0.0.1:0"),
    "trio-websocket": partial(serve_websocket, path="/mcp"),
}


@pytest.mark.parametrize("kind", SERVERS)
async def test_each_websocket_is_one_line_when_it_has_ended(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.INFO, "trio_mcp.access")
    server = Server("logged")

    @server.tool
    async def count_lines() -> int:
        return len(lines(caplog))

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(SERVERS[kind], server))
            async with open_client(f"{url.replace('http:', 'ws:')}?token=secret") as client:
                assert (await client.call_tool("count_lines")).structured_content == {"result": 0}
            nursery.cancel_scope.cancel()
    (line,) = lines(caplog)
    assert re.fullmatch(r"WEBSOCKET /mcp 101 \d+ ms 127\.0\.0\.1", line)


@pytest.mark.parametrize("access_log", [True, False])
async def test_a_handshake_that_is_refused_is_one_line(
    caplog: pytest.LogCaptureFixture, access_log: bool
) -> None:
    caplog.set_level(logging.INFO, "trio_mcp.access")
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            http = partial(
                serve_http,
                make_server(),
                bind="127.0.0.1:0",
                settings=HttpSettings(access_log=access_log),
                allowed_hosts={"x"},
            )
            websocket = partial(
                serve_websocket, make_server(), path="/mcp", allowed_hosts={"x"}, access_log=access_log
            )
            for serve in (http, websocket):
                (url,) = await nursery.start(serve)
                address = url.replace("http:", "ws:").split("?")[0]
                with pytest.raises(ConnectionLost):
                    async with open_client(f"{address}?token=secret"):
                        pytest.fail("it was let in")
            nursery.cancel_scope.cancel()
    said = [re.sub(r"\d+ ms", "0 ms", line) for line in lines(caplog)]
    assert said == (["WEBSOCKET /mcp 403 0 ms 127.0.0.1"] * 2 if access_log else [])
