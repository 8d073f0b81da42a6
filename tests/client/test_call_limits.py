"""The timeouts of a call end it at the limit, whatever it is doing just then, and say so in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, Later, error, result, silence
from tests.tasks.task_server import Name
from trio_mcp import (
    CallTimeout,
    Client,
    ClientSettings,
    Context,
    ElicitAnswer,
    ElicitRequest,
    LogMessage,
    Lossless,
    Server,
    TaskConfig,
    open_client,
)
from trio_mcp.client.target import open_served
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.transports.memory import memory_pair

TASK = {
    "taskId": "t",
    "status": "working",
    "createdAt": "2026-01-01T00:00:00Z",
    "lastUpdatedAt": "2026-01-01T00:00:00Z",
    "ttl": None,
    "pollInterval": 50,
}


class MirroringEnd:
    """The client's end of a connection in memory that mirrors arguments into headers, as HTTP does."""

    origin = "http://fake.test"

    def __init__(self, inner: FrameTransport) -> None:
        self.parameter_headers: dict[str, Any] = {}
        self.send_frames = inner.send_frames
        self.receive_frames = inner.receive_frames
        self.aclose = inner.aclose


@attrs.frozen
class Mirroring:
    """Connects to a server in memory by a `MirroringEnd`."""

    server: FakeServer

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[Any]:
        ours, theirs = memory_pair()
        async with open_served(self.server, MirroringEnd(ours), theirs) as transport:
            yield transport


async def time_out(client: Client, tool: str, **options: Any) -> tuple[float, str]:
    """Return how long a call takes to time out, and what it says."""
    started = trio.current_time()
    with trio.fail_after(100), pytest.raises(CallTimeout) as caught:
        await client.call_tool(tool, **options)
    return trio.current_time() - started, str(caught.value)


async def never_answer(request: ElicitRequest) -> ElicitAnswer:
    await trio.sleep_forever()
    raise AssertionError


def make_gathering_server() -> Server:
    server = Server("gathering", version="1")

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        return (await ctx.elicit("Who?", Name)).data.name

    @server.tool(task=TaskConfig(gather=gather))
    async def greet(ctx: Context) -> str:
        return str(ctx.gathered)

    return server


@pytest.mark.parametrize(
    ("options", "seconds", "words"),
    [
        ({"max_timeout": 1}, 1, "tool 'greet' took longer than 1 second"),
        ({"idle_timeout": 0.3}, 0.3, "tool 'greet' made no progress for 0.3 seconds"),
        ({"idle_timeout": 0.3, "task": True}, 0.3, "tool 'greet' made no progress for 0.3 seconds"),
    ],
)
async def test_a_user_who_does_not_answer_does_not_outlast_the_timeouts(
    wire: Wire, options: dict[str, Any], seconds: float, words: str, autojump_clock
):
    """If the client counts the time of its questions; by default the timeouts stand still meanwhile."""
    settings = ClientSettings(pause_while_asking=False)
    async with wire.open(
        make_gathering_server(), elicitation_handler=never_answer, settings=settings
    ) as client:
        if wire.protocol == LEGACY and "task" in options:
            pytest.skip("in 2025-11-25 the task exists before it asks, and its start has succeeded")
        took, text = await time_out(client, "greet", **options)
    assert took == pytest.approx(seconds, abs=0.01)
    assert text == words


async def test_a_list_of_tools_that_does_not_come_does_not_outlast_the_timeout(autojump_clock):
    """The server wants headers that only its list of tools can tell."""
    server = FakeServer(
        {"server/discover": result(DISCOVERED), "tools/call": error(-32020), "tools/list": silence}
    )
    async with open_client(Mirroring(server)) as client:
        took, text = await time_out(client, "move", max_timeout=1)
    assert server.asked[-3:] == ["tools/call", "tools/list", "notifications/cancelled"]
    assert (took, text) == (pytest.approx(1), "tool 'move' took longer than 1 second")


async def test_a_second_request_does_not_begin_the_total_again(autojump_clock):
    """A legacy tool that runs only as a task is asked for twice; the second request is never answered."""

    def refuse(request: Any) -> Any:
        if b'"task"' in bytes(request.params):
            return None
        return Later(0.8, error(-32601)(request))

    capabilities = {"tools": {}, "tasks": {"requests": {"tools": {"call": {}}}}}
    server = FakeServer(
        {"initialize": result({**INITIALIZED, "capabilities": capabilities}), "tools/call": refuse}
    )
    async with open_client(server, protocol=LEGACY) as client:
        took, text = await time_out(client, "work", max_timeout=1)
    assert server.asked.count("tools/call") == 2
    assert (took, text) == (pytest.approx(1), "tool 'work' took longer than 1 second")


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_the_wait_for_an_unasked_task_names_the_limit_that_was_asked_for(protocol: str, autojump_clock):
    created = {"resultType": "task", **TASK} if protocol == MODERN else {"task": TASK}
    server = FakeServer(
        {
            "server/discover": result(DISCOVERED),
            "initialize": result(INITIALIZED),
            "tools/call": lambda request: Later(0.4, {"id": request.id, "result": created}),
            "tasks/get": result(TASK),
            "tasks/result": silence,
        }
    )
    async with open_client(server, protocol=protocol) as client:
        took, text = await time_out(client, "work", max_timeout=1)
    assert (took, text) == (pytest.approx(1), "tool 'work' took longer than 1 second")


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_failed_task_whose_state_does_not_come_does_not_outlast_the_timeout(
    by_id: bool, autojump_clock
):
    """In 2025-11-25 a failed `tasks/result` may mean a cancelled task, so the client asks for its state."""
    server = FakeServer(
        {
            "initialize": result(INITIALIZED),
            "tools/call": result({"task": TASK}),
            "tasks/result": error(-32603),
            "tasks/get": silence,
        }
    )
    async with open_client(server, protocol=LEGACY) as client:
        started = trio.current_time()
        task = "t" if by_id else await client.call_tool("work", task=True)
        what = "task t" if by_id else "tool 'work'"
        with (
            trio.fail_after(100),
            pytest.raises(CallTimeout, match=f"^{what} took longer than 2 seconds$"),
        ):
            await client.await_task(task, max_timeout=2)
        assert trio.current_time() - started == pytest.approx(2)


async def test_progress_after_the_answer_does_not_bring_the_timeouts_back(autojump_clock):
    """The last progress of a legacy task may come behind its result, while the handler is still busy."""
    timer = CallTimer("a call", 1, 5)
    timer.suspend()
    with timer.scope:
        await trio.sleep(60)
    assert not timer.scope.cancelled_caught


async def test_a_slow_handler_of_a_lossless_client_has_its_time_once_the_answer_is_there(
    wire: Wire, autojump_clock
):
    server = Server("burst", version="1")

    @server.tool
    async def burst(ctx: Context) -> str:
        for number in range(1, 6):
            await ctx.report_progress(number)
        return "done"

    seen: list[float] = []

    async def handle(progress: float, total: float | None, message: str | None) -> None:
        await trio.sleep(3)
        seen.append(progress)

    settings = ClientSettings(progress=Lossless())
    async with wire.open(server, settings=settings) as client:
        answer = await client.call_tool("burst", progress_handler=handle, idle_timeout=1, max_timeout=2)
    assert answer.data == "done"
    assert seen == [1, 2, 3, 4, 5]


async def test_a_server_that_does_not_answer_to_the_log_level_does_not_hold_up_the_client(autojump_clock):
    server = FakeServer(
        {
            "initialize": result({**INITIALIZED, "capabilities": {"logging": {}}}),
            "logging/setLevel": silence,
        }
    )

    def log(message: LogMessage) -> None:
        raise AssertionError(message)

    settings = ClientSettings(handshake_timeout=1)
    with (
        trio.fail_after(100),
        pytest.raises(CallTimeout, match="no answer to logging/setLevel within 1 second"),
    ):
        async with open_client(server, protocol=LEGACY, log_handler=log, settings=settings):
            raise AssertionError("never reached")


async def test_a_handshake_that_times_out_names_its_limit(autojump_clock):
    server = FakeServer({"initialize": silence})
    with pytest.raises(CallTimeout, match=r"^no handshake within 1 second$"):
        async with open_client(server, protocol=LEGACY, settings=ClientSettings(handshake_timeout=1)):
            raise AssertionError("never reached")
