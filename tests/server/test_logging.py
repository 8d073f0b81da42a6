"""Logging, the state of a session, and what a handler can read of its request."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import MODERN, TRANSPORTS
from trio_mcp import ClientSettings, Context, LogMessage, Server, ServerSettings

LOG = "notifications/message"


def make_server(**settings: Any) -> Server:
    server = Server("logs", version="1", settings=ServerSettings(**settings))

    @server.tool
    async def work(ctx: Context) -> None:
        await ctx.debug("details")
        await ctx.info("started")
        await ctx.report_progress(1, 2, "half")
        await ctx.warning({"disk": 0.9}, logger="storage")
        await ctx.error("failed")
        await ctx.log("emergency", ["on", "fire"])

    @server.tool
    def in_thread(ctx: Context) -> None:
        ctx.info("from a thread")

    @server.tool
    async def chatter(ctx: Context, n: int) -> str:
        for i in range(n):
            await ctx.info(i)
        return "done"

    @server.tool
    async def refused(ctx: Context) -> list[str]:
        problems = []
        for level, data in (("loud", 1), ("info", object()), ("info", "\ud800")):
            try:
                await ctx.log(level, data)  # type: ignore[arg-type]
            except ValueError as error:
                problems.append(str(error))
        return problems

    return server


async def test_the_log_handler_gets_what_it_asked_for(wire):
    logs: list[LogMessage] = []
    updates: list[Any] = []
    async with wire.open(make_server(), log_handler=logs.append) as client:
        await client.call_tool("work", progress_handler=lambda *update: updates.append(update))
    assert logs == [
        LogMessage("info", "started"),
        LogMessage("warning", {"disk": 0.9}, "storage"),
        LogMessage("error", "failed"),
        LogMessage("emergency", ["on", "fire"]),
    ]
    assert updates == [(1, 2, "half")], "logs are no progress, and progress is no log"


async def test_a_client_gets_logs_of_its_level_and_above(wire):
    for level, count in (("debug", 5), ("info", 4), ("error", 2), ("emergency", 1)):
        logs: list[LogMessage] = []
        async with wire.open(make_server(), log_handler=logs.append, log_level=level) as client:
            await client.call_tool("work")
        assert len(logs) == count


async def test_a_client_changes_its_log_level(wire):
    logs: list[LogMessage] = []
    async with wire.open(make_server(), log_handler=logs.append, log_level="debug") as client:
        await client.set_log_level("error")
        await client.call_tool("work")
        with pytest.raises(ValueError, match="not 'loud'"):
            await client.set_log_level("loud")  # type: ignore[arg-type]  # it is wrong on purpose
    assert [message.level for message in logs] == ["error", "emergency"]


async def test_without_a_log_handler_nothing_is_asked_for(wire):
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        await client.call_tool("work")
    assert "logging/setLevel" not in [m.get("method") for m in recorder.sent_messages()]
    if wire.protocol == MODERN:
        assert recorder.received_messages(LOG) == [], "a modern server must not log unasked"


async def test_logs_keep_their_place_among_the_progress(wire):
    recorder = wire.recorder(make_server())
    async with wire.open(recorder, log_handler=lambda message: None) as client:
        await client.call_tool("work", progress_handler=lambda *update: None)
    methods = [m["method"] for m in recorder.received_messages() if "method" in m]
    assert methods == [LOG, "notifications/progress", LOG, LOG, LOG]


async def test_a_thread_can_log(wire):
    logs: list[LogMessage] = []
    async with wire.open(make_server(), log_handler=logs.append) as client:
        await client.call_tool("in_thread")
    assert logs == [LogMessage("info", "from a thread")]


async def test_logs_are_lossless_and_wait_for_the_writer(wire):
    logs: list[LogMessage] = []
    settings = ClientSettings(log_buffer=10_000)
    server = make_server(log_buffer=4)
    async with wire.open(server, log_handler=logs.append, settings=settings) as client:
        await client.call_tool("chatter", {"n": 2_000})
    assert [message.data for message in logs] == list(range(2_000))


async def test_a_slow_log_handler_loses_the_oldest_and_says_so(wire, autojump_clock, caplog):
    logs: list[Any] = []

    async def handler(message: LogMessage) -> None:
        await trio.sleep(0.01)
        logs.append(message.data)

    settings = ClientSettings(log_buffer=10)
    async with wire.open(make_server(), log_handler=handler, settings=settings) as client:
        await client.call_tool("chatter", {"n": 500})
    assert logs[-1] == 499
    assert len(logs) < 500
    assert "the log handler is slow" in caplog.text


async def test_a_log_handler_that_raises_is_logged_and_ends_nothing(wire, caplog):
    def handler(message: LogMessage) -> None:
        raise RuntimeError("in the handler")

    async with wire.open(make_server(), log_handler=handler) as client:
        await client.call_tool("work")
        await client.call_tool("work")
    assert "a log handler failed" in caplog.text


async def test_unknown_levels_and_values_that_are_no_json_are_refused(wire):
    async with wire.open(make_server(), log_handler=lambda message: None) as client:
        level, data, surrogate = (await client.call_tool("refused")).data
    assert "emergency" in level
    assert "JSON" in data
    assert "JSON" in surrogate


async def test_the_client_may_end_right_after_the_call(wire):
    """What was logged before the end still reaches the handler."""
    logs: list[Any] = []

    async def handler(message: LogMessage) -> None:
        await trio.lowlevel.checkpoint()
        logs.append(message.data)

    async with wire.open(make_server(), log_handler=handler) as client:
        await client.call_tool("chatter", {"n": 100})
    assert logs == list(range(100))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_session_state_lasts_as_long_as_the_session(transport):
    from tests.conftest import LEGACY, Wire
    from trio_mcp import NotSupportedByEra

    server = Server("state", version="1")

    @server.tool
    async def count(ctx: Context) -> int:
        ctx.state["mine"] = True
        ctx.session_state["count"] = ctx.session_state.get("count", 0) + 1
        return ctx.session_state["count"]

    @server.tool
    async def stateless(ctx: Context) -> str:
        assert ctx.state == {}
        with pytest.raises(NotSupportedByEra, match="no sessions"):
            ctx.session_state["x"] = 1
        return ctx.protocol_version

    async with Wire(transport, LEGACY).open(server) as client:
        assert [(await client.call_tool("count")).data for _ in range(3)] == [1, 2, 3]
    async with Wire(transport, MODERN).open(server) as client:
        assert (await client.call_tool("stateless")).data == MODERN


async def test_a_handler_can_read_what_its_request_says(wire):
    server = Server("context", version="1")

    @server.tool
    async def describe(ctx: Context) -> dict[str, Any]:
        assert ctx.client_info is not None
        return {
            "id": ctx.request_id,
            "client": ctx.client_info.name,
            "version": ctx.protocol_version,
            "capabilities": sorted(ctx.client_capabilities),
            "token": "progressToken" in ctx.request_meta,
        }

    async with wire.open(server) as client:
        data = (await client.call_tool("describe")).data
    assert data.pop("id") is not None
    declared = ["extensions"] if wire.protocol == MODERN else []
    assert data == {"client": "trio_mcp", "version": wire.protocol, "capabilities": declared, "token": False}
