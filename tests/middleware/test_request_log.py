"""LoggingMiddleware and TimingMiddleware: one record for each request, and what its fields say."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from trio_mcp import (
    Context,
    Principal,
    ProtocolError,
    Server,
    TaskConfig,
    ToolError,
    ToolResult,
    open_client,
    open_server,
)
from trio_mcp.middleware import LoggingMiddleware, TimingMiddleware


def make_server(**options: Any) -> Server:
    server = Server("logged", version="1", **options)

    @server.tool
    async def work(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @server.tool
    async def refuse() -> ToolResult:
        return ToolResult(content=["no"], is_error=True)

    @server.tool
    async def fail() -> str:
        raise ToolError("secret words")

    @server.resource("config://app")
    async def config() -> str:
        return "dark"

    @server.prompt
    async def greet(name: str) -> str:
        return name

    return server


def fields(caplog: pytest.LogCaptureFixture, name: str = "trio_mcp.requests") -> list[dict[str, Any]]:
    return [record.mcp for record in caplog.records if record.name == name]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_mcp.requests")


async def test_a_request_is_one_record_whose_message_is_its_fields_as_json(caplog, autojump_clock):
    server = make_server()
    server.add_middleware(LoggingMiddleware())
    async with (
        open_server(server) as running,
        open_client(running.authenticated("ada"), client_info=None) as client,
    ):
        await client.call_tool("work", {"seconds": 2})
    record = caplog.records[-1]
    assert json.loads(record.getMessage()) == record.mcp
    request_id = record.mcp.pop("request_id")
    assert isinstance(request_id, (int, str))
    client_name = record.mcp.pop("client", None)
    assert client_name is None or isinstance(client_name, str)
    assert record.mcp == {
        "method": "tools/call",
        "name": "work",
        "outcome": "ok",
        "duration_ms": 2000,
        "protocol": MODERN,
        "principal": "ada",
    }
    assert [one["method"] for one in fields(caplog)] == ["server/discover", "tools/call"]


async def test_the_outcome_tells_errors_failures_and_cancellations_apart(caplog, autojump_clock):
    server = make_server()
    server.add_middleware(LoggingMiddleware())

    @server.middleware
    async def forbid(ctx, call_next):
        if ctx.method == "tools/list":
            raise ProtocolError(-32050, "not today")
        return await call_next(ctx)

    async with open_client(server) as client:
        caplog.clear()
        await client.call_tool("refuse", raise_on_error=False)
        await client.call_tool("fail", raise_on_error=False)
        with pytest.raises(ProtocolError):
            await client.list_tools()
        with trio.move_on_after(1):
            await client.call_tool("work", {"seconds": 100})
        await client.ping()
    told = [(one.get("name"), one["outcome"], one.get("error"), one.get("code")) for one in fields(caplog)]
    assert told == [
        ("refuse", "error", None, None),
        ("fail", "failed", "ToolError", None),
        (None, "failed", "ProtocolError", -32050),
        ("work", "cancelled", None, None),
        (None, "ok", None, None),
    ]
    assert "secret words" not in caplog.text
    levels = [record.levelname for record in caplog.records if record.name == "trio_mcp.requests"]
    assert levels == ["WARNING", "WARNING", "WARNING", "INFO", "INFO"]


@pytest.mark.parametrize(("protocol", "outcomes"), [(MODERN, ["asked", "ok"]), (LEGACY, ["ok"])])
async def test_a_round_that_asks_the_client_was_not_cancelled(caplog, protocol, outcomes):
    server = make_server()
    server.add_middleware(LoggingMiddleware())

    @server.tool
    async def ask(ctx: Context) -> str:
        return str((await ctx.elicit("Sure?", bool)).data)

    def answer(request: Any) -> Any:
        return {"value": True}

    async with open_client(server, protocol=protocol, elicitation_handler=answer) as client:
        await client.call_tool("ask")
    assert [one["outcome"] for one in fields(caplog) if one["method"] == "tools/call"] == outcomes


async def test_runs_of_tools_resources_and_prompts_can_be_logged_where_they_run(caplog, autojump_clock):
    server = make_server(default_task=TaskConfig(promote_after=0))
    log = LoggingMiddleware("my.runs", level=logging.DEBUG)
    server.add_tool_middleware(log)
    server.add_resource_middleware(log)
    server.add_prompt_middleware(log)
    caplog.set_level(logging.DEBUG, "my.runs")
    async with open_client(server) as client:
        task = await client.call_tool("work", {"seconds": 3}, task=True)
        await task.result()
        await client.read_resource("config://app")
        await client.get_prompt("greet", {"name": "ada"})
    run, read, got = fields(caplog, "my.runs")
    assert (run["method"], run["name"], run["duration_ms"]) == ("tool", "work", 3000)
    assert (run["task_id"], run["attempt"]) == (task.id, 1)
    assert (read["method"], read["name"]) == ("resource", "config://app")
    assert (got["method"], got["name"]) == ("prompt", "greet")


async def test_sizes_are_counted_if_they_are_asked_for(caplog):
    server = make_server()
    server.add_middleware(LoggingMiddleware(sizes=True))
    async with open_client(server) as client:
        await client.call_tool("work", {"seconds": 0})
    last = fields(caplog)[-1]
    assert last["result_bytes"] == len('{"content":[{"type":"text","text":"done"}]}')
    assert last["request_bytes"] > len('{"name":"work","arguments":{"seconds":0}}')


async def test_a_line_for_people_is_printable(caplog):
    server = make_server()
    server.add_middleware(LoggingMiddleware(as_json=False))
    async with open_client(server) as client:
        with pytest.raises(ProtocolError):
            await client.read_resource("config://x\n\x1b[2Jforged")
    line = caplog.records[-1].getMessage()
    assert line.startswith(r"resources/read config://x\n\x1b[2Jforged failed ResourceNotFound ")


async def test_what_runs_inside_of_another_tool_says_so(caplog):
    server = make_server()
    server.add_tool_middleware(LoggingMiddleware())

    @server.tool
    async def outer(ctx: Context) -> str:
        return (await ctx.call_tool("work", {"seconds": 0})).data

    async with open_client(server) as client:
        await client.call_tool("outer")
    assert [(one["name"], one.get("called_by")) for one in fields(caplog)] == [
        ("work", ["outer"]),
        ("outer", None),
    ]


async def test_times_are_kept_by_what_was_asked_for(caplog, autojump_clock):
    server = make_server()
    timing = TimingMiddleware(slow=2.5)
    server.add_middleware(timing)
    async with open_client(server) as client:
        for seconds in (1, 2, 3):
            await client.call_tool("work", {"seconds": seconds})
        await client.call_tool("fail", raise_on_error=False)
        await client.call_tool("refuse", raise_on_error=False)
    times = timing.times["tools/call work"]
    assert (times.count, times.failed) == (3, 0)
    assert (times.shortest, times.mean, times.longest, times.total) == (
        pytest.approx(1),
        pytest.approx(2),
        pytest.approx(3),
        pytest.approx(6),
    )
    assert timing.times["tools/call fail"].failed == 1
    assert timing.times["tools/call refuse"].failed == 1
    (slow,) = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
    assert slow == "tools/call work took 3.000 seconds"


async def test_names_that_clients_choose_fill_no_memory():
    server = make_server()
    timing = TimingMiddleware(max_names=4)
    server.add_middleware(timing)
    async with open_client(server) as client:
        for number in range(20):
            with pytest.raises(ProtocolError):
                await client.call_tool(f"tool-{number}")
    assert list(timing.times) == [f"tools/call tool-{number}" for number in range(16, 20)]


async def test_the_caller_of_a_request_is_its_principal_or_its_connection():
    server = make_server()
    callers: list[Any] = []

    @server.middleware
    async def around(ctx, call_next):
        callers.append(ctx.caller)
        return await call_next(ctx)

    async with open_server(server) as running:
        for target in (
            running.authenticated(Principal("ada", scopes={"a"})),
            running.authenticated(Principal("ada", scopes={"b"})),
            running,
            running,
        ):
            async with open_client(target):
                pass
    first, second, third, fourth = callers
    assert first == second
    assert (first.kind, first.name) == ("principal", "ada")
    assert len({first, third, fourth}) == 3
