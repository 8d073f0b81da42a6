"""Whatever function of a program fails the same way again and again: one traceback, and then a count."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from trio_mcp import (
    Client,
    Context,
    MCPError,
    ProgressSink,
    PromptReference,
    Server,
    ServerSettings,
    TaskConfig,
    open_client,
    rate_limited,
)
from trio_mcp.instruments import Instrument

TIMES = 12


def fail(*args: Any) -> Any:
    """A handler of every kind."""
    raise LookupError("broken")


class FailingSink(ProgressSink):
    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[Callable[[Any], None]]:
        yield lambda update: None
        fail()


class FailingInstrument(Instrument):
    def call_ended(self, call: Any) -> None:
        if call.method == "tools/call":
            fail()


async def gather(ctx: Context, arguments: Any) -> None:
    fail()


def make_server(**settings: Any) -> Server:
    server = Server("handlers", version="1", settings=ServerSettings(**settings))

    @server.tool
    async def count(ctx: Context, to: int = 1) -> None:
        for number in range(to):
            await ctx.report_progress(number + 1)

    @server.tool
    async def talk(ctx: Context, to: int) -> None:
        for number in range(to):
            await ctx.info(number)

    @server.tool
    async def ask(ctx: Context) -> None:
        await ctx.elicit("Go on?")

    @server.tool
    async def sample(ctx: Context) -> None:
        await ctx.sample("Hello", max_tokens=1)

    @server.tool
    async def roots(ctx: Context) -> None:
        await ctx.list_roots()

    @server.tool(task=True)
    async def ask_in_task(ctx: Context) -> None:
        await ctx.elicit("Go on?")

    @server.tool
    async def broken() -> None:
        fail()

    @server.tool(task=True)
    async def broken_task() -> None:
        fail()

    @server.tool
    def broken_in_thread() -> None:
        fail()

    @server.tool
    async def parent(ctx: Context) -> None:
        await ctx.call_tool("broken", raise_on_error=False)

    @server.tool(task=TaskConfig(gather=gather))
    async def gathers(ctx: Context) -> None: ...

    @server.tool
    async def unclean() -> None:
        try:
            await trio.sleep_forever()
        finally:
            fail()

    @server.prompt
    async def broken_prompt(style: str = "") -> str:
        fail()
        return style

    @broken_prompt.complete("style")
    def complete(text: str) -> list[str]:
        fail()
        return []

    @server.resource("broken://{name}")
    async def broken_resource(name: str) -> str:
        fail()
        return name

    return server


def calls(tool: str) -> Callable[[Client], Awaitable[Any]]:
    return lambda client: client.call_tool(tool, raise_on_error=False)


def start_task(tool: str) -> Callable[[Client], Awaitable[Any]]:
    async def run(client: Client) -> None:
        task = await client.call_tool(tool, task=True)
        await task.result(raise_on_error=False)

    return run


async def leave_unclean(client: Client) -> None:
    async with client.start_call("unclean"):
        await trio.testing.wait_all_tasks_blocked()


def reports(to: int) -> Callable[[Client], Awaitable[Any]]:
    return lambda client: client.call_tool("count", {"to": to}, progress_handler=None)


COMPLETED = PromptReference(name="broken_prompt")

SERVER_SIDE: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "tool 'broken'": calls("broken"),
    "tool 'broken_task'": start_task("broken_task"),
    "tool 'broken_in_thread'": calls("broken_in_thread"),
    "tool 'gathers'": calls("gathers"),
    "prompt 'broken_prompt'": lambda client: client.get_prompt("broken_prompt"),
    "the completion of 'style'": lambda client: client.complete(COMPLETED, {"name": "style", "value": "a"}),
    "resource 'broken://{name}'": lambda client: client.read_resource("broken://a"),
    "tools/call": leave_unclean,
}
"""How what the log calls so is made to fail at a server."""

CLIENT_SIDE: dict[str, tuple[dict[str, Any], Callable[[Client], Awaitable[Any]]]] = {
    "a progress handler": ({"progress_handler": fail}, reports(1)),
    "a progress handler, limited": ({"progress_handler": rate_limited(fail, 1000)}, reports(1)),
    "a progress sink": ({"progress_handler": FailingSink()}, reports(1)),
    "a log handler": ({"log_handler": fail}, lambda client: client.call_tool("talk", {"to": 1})),
    "the handler of elicitation/create": ({"elicitation_handler": fail}, calls("ask")),
    "the handler of elicitation/create, of a task": (
        {"elicitation_handler": fail},
        start_task("ask_in_task"),
    ),
    "the handler of sampling/createMessage": ({"sampling_handler": fail}, calls("sample")),
    "the handler of roots/list": ({"roots": fail}, calls("roots")),
    "the hook call_ended of an instrument": ({"instruments": [FailingInstrument()]}, reports(1)),
}
"""The options of a client, and how what the log calls so is made to fail."""


async def fail_often(client: Client, run: Callable[[Client], Awaitable[Any]]) -> None:
    for _ in range(TIMES):
        with suppress(MCPError):  # that of the call whose handler has failed
            await run(client)
        await trio.testing.wait_all_tasks_blocked()


def check(caplog: pytest.LogCaptureFixture, subject: str) -> None:
    """One ERROR line with a traceback, one at ten failures, and one of all at the end."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {record.levelno for record in records} == {logging.ERROR}
    first, *counts = records
    assert first.exc_info is not None
    assert isinstance(first.exc_info[1], LookupError)
    assert first.getMessage().startswith(subject)
    assert [record.exc_info for record in counts] == [None, None]
    told = [record.getMessage().partition(" with LookupError")[0] for record in counts]
    assert told == [f"{subject} failed 10 times", f"{subject} failed {TIMES} times"]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
@pytest.mark.parametrize("subject", SERVER_SIDE)
def test_a_function_of_a_server_is_logged_once_and_counted(
    caplog: pytest.LogCaptureFixture, protocol: str, subject: str
) -> None:
    async def main() -> None:
        async with open_client(make_server(), protocol=protocol) as client:
            await fail_often(client, SERVER_SIDE[subject])

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    check(caplog, subject)


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
@pytest.mark.parametrize("subject", CLIENT_SIDE)
def test_a_function_of_a_client_is_logged_once_and_counted(
    caplog: pytest.LogCaptureFixture, protocol: str, subject: str
) -> None:
    options, run = CLIENT_SIDE[subject]

    async def main() -> None:
        async with open_client(make_server(), protocol=protocol, **options) as client:
            await fail_often(client, run)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    check(caplog, subject.partition(",")[0])


def test_the_choice_of_a_policy_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_client(make_server(choose_progress=fail)) as client:
            await fail_often(client, calls("count"))

    trio.run(main)
    check(caplog, "tool 'count'")


def test_a_tool_that_another_calls_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_client(make_server()) as client:
            await fail_often(client, calls("parent"))

    trio.run(main)
    check(caplog, "tool 'broken'")


def test_one_call_with_many_failing_updates_is_logged_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with open_client(make_server(), progress_handler=fail) as client:
            await client.call_tool("count", {"to": TIMES})

    trio.run(main)
    check(caplog, "a progress handler")
