"""The access log: one line for each request, whatever it is answered, and nothing for its progress."""

from __future__ import annotations

import logging

import pytest
import trio

from tests.support.asgi_host import finish, open_host
from trio_mcp import Context, HttpSettings, Server, asgi_app


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
