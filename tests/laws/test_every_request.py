"""The laws of progress for requests other than tool calls: prompts, resources and completions."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import trio

from tests.laws.test_laws import PROGRESS, collector
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    ClientSettings,
    Conflate,
    Context,
    Heartbeat,
    Lossless,
    ProgressCall,
    PromptDefinitionError,
    PromptReference,
    ResourceDefinitionError,
    Server,
    ServerSettings,
)
from trio_mcp.testing import assert_progress

Work: TypeAlias = Callable[[Context], Awaitable[None]]
Ask: TypeAlias = Callable[..., Awaitable[Any]]

METHODS = {"get": "prompts/get", "read": "resources/read", "complete": "completion/complete"}
NAMES = {"get": "work", "read": "work://{part}", "complete": "work"}


@pytest.fixture(params=METHODS)
def kind(request: pytest.FixtureRequest) -> str:
    """Runs the test for each kind of request."""
    return request.param


def make_server(work: Work, policy: Any = None, **settings: Any) -> Server:
    """A server whose prompt, resource and completion do the same `work`, by one `policy` of their own."""
    server = Server("requests", settings=ServerSettings(**settings))

    @server.prompt("work", progress=policy)
    async def prompt(ctx: Context, word: str = "") -> str:
        await work(ctx)
        return "done"

    @prompt.complete("word")
    async def complete_word(value: str, ctx: Context) -> list[str]:
        await work(ctx)
        return ["done"]

    @server.resource("work://{part}", progress=policy)
    async def resource(ctx: Context, part: str) -> str:
        await work(ctx)
        return "done"

    return server


async def ask(client: Client, kind: str, handler: Any = None, **timeouts: float) -> str:
    """Make a request of `kind`, and return the text of its result."""
    if kind == "get":
        got = await client.get_prompt("work", progress_handler=handler, **timeouts)
        return got.messages[0].content.text  # type: ignore[union-attr]  # it is text
    if kind == "read":
        return (await client.read_resource("work://a", progress_handler=handler, **timeouts)).text
    argument = {"name": "word", "value": ""}
    completion = await client.complete(
        PromptReference(name="work"), argument, progress_handler=handler, **timeouts
    )
    return completion.values[0]


def loop(n: int) -> Work:
    async def work(ctx: Context) -> None:
        for step in range(1, n + 1):
            await ctx.report_progress(step, n, f"step {step}")

    return work


async def test_order_and_barrier(wire, kind, autojump_clock):
    """Updates arrive in order, and the handler has finished with each when the result is returned."""
    running = 0
    seen: list[float] = []

    async def handler(progress: float, total: float | None, message: str | None) -> None:
        nonlocal running
        running += 1
        assert running == 1, "two handlers at once"
        await trio.sleep(1)
        running -= 1
        seen.append(progress)

    async with wire.open(make_server(loop(20))) as client:
        assert await ask(client, kind, handler) == "done"
        assert seen == list(range(1, 21))
        await trio.sleep(60)
    assert len(seen) == 20


async def test_increase(wire, kind):
    async def work(ctx: Context) -> None:
        for progress, message in ((5, None), (3, None), (5, "same"), (5, "same"), (6, None)):
            await ctx.report_progress(progress, 10, message)

    recorder = wire.recorder(make_server(work))
    updates, handler = collector()
    async with wire.open(recorder) as client:
        assert await ask(client, kind, handler) == "done"
    sent = [message["params"]["progress"] for message in recorder.received_messages(PROGRESS)]
    assert all(a < b for a, b in itertools.pairwise(sent))
    assert updates == [(5, 10, None), (5, 10, "same"), (6, 10, None)]


async def test_first_and_last_survive_a_slow_handler(wire, kind, autojump_clock):
    updates: list[Any] = []

    async def handler(*update: Any) -> None:
        updates.append(update)
        await trio.sleep(1)

    async with wire.open(make_server(loop(5_000))) as client:
        assert await ask(client, kind, handler) == "done"
    assert_progress(updates, first=1, last=5_000, total=5_000)
    assert 2 <= len(updates) < 5_000


async def test_lossless_loses_nothing(wire, kind):
    """By the policy of the prompt or the resource, on a server that keeps two updates."""
    server = make_server(loop(300), Lossless(buffer=2), progress=Conflate(buffer=2))
    updates, handler = collector()
    async with wire.open(server, settings=ClientSettings(progress=Lossless())) as client:
        assert await ask(client, kind, handler) == "done"
    assert [progress for progress, *_ in updates] == list(range(1, 301))


async def test_silence_without_a_token(wire, kind, autojump_clock):
    async def work(ctx: Context) -> None:
        await ctx.report_progress(1, 2)
        await trio.sleep(60)

    recorder = wire.recorder(make_server(work, Heartbeat(every=1)))
    async with wire.open(recorder) as client:
        assert await ask(client, kind) == "done"
    assert recorder.received_messages(PROGRESS) == []


async def test_a_cancel_ends_that_request_and_nothing_else(wire, kind):
    ended = trio.Event()
    works = iter(("first", "second"))

    async def work(ctx: Context) -> None:
        if next(works) == "second":
            return
        await ctx.report_progress(1)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with wire.open(make_server(work)) as client:
        with trio.CancelScope() as scope:
            await ask(client, kind, lambda *_: scope.cancel())
        assert scope.cancelled_caught
        with trio.fail_after(HANG_SECONDS):
            await ended.wait()
        assert await ask(client, kind) == "done"


async def test_a_heartbeat_shows_life_and_extends_the_idle_timeout(wire, kind, autojump_clock):
    async def work(ctx: Context) -> None:
        ctx.progress().set_message("searching")
        await trio.sleep(200)

    updates, handler = collector()
    async with wire.open(make_server(work, Heartbeat(every=15))) as client:
        assert await ask(client, kind, handler, idle_timeout=30) == "done"
    assert updates[:2] == [(0, None, "searching"), (0, None, "searching (15 s)")]
    assert len(updates) == 1 + 200 // 15


async def test_the_policy_is_chosen_for_each_request(wire, kind):
    calls: list[ProgressCall] = []

    def choose(call: ProgressCall) -> Any:
        calls.append(call)
        return Conflate(message="merge")

    async def work(ctx: Context) -> None:
        for message in ("one", "two", "three"):
            await ctx.report_progress(1, message=message)

    updates, handler = collector()
    server = make_server(work, Conflate(buffer=9), choose_progress=choose)
    async with wire.open(server) as client:
        assert await ask(client, kind, handler) == "done"
    assert [message for *_, message in updates] == ["one", "three"]
    (call,) = calls
    assert (call.method, call.name, call.tool) == (METHODS[kind], NAMES[kind], "")
    assert call.policy == Conflate(buffer=9)


async def test_a_tool_is_named_by_both_names(wire):
    calls: list[ProgressCall] = []

    def choose(call: ProgressCall) -> Any:
        calls.append(call)
        return call.policy

    server = Server("requests", settings=ServerSettings(choose_progress=choose))
    server.add_tool(lambda: "done", name="tool")
    async with wire.open(server) as client:
        await client.call_tool("tool")
    (call,) = calls
    assert (call.method, call.name, call.tool) == ("tools/call", "tool", "tool")


def test_another_value_than_a_policy_is_refused():
    server = Server("requests")
    with pytest.raises(
        PromptDefinitionError, match="prompt 'work': progress must be a policy, not 'lossless'"
    ):
        server.add_prompt(lambda: "", name="work", progress="lossless")  # type: ignore[arg-type]  # it is wrong on purpose
    with pytest.raises(ResourceDefinitionError, match="resource 'x://y': progress must be a policy, not 15"):
        server.add_resource("x://y", lambda: "", name="y", progress=15)  # type: ignore[arg-type]  # it is wrong on purpose
