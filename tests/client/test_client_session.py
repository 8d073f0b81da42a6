"""The state of a client's live objects: `repr` and `statistics()`."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.client.test_client import DISCOVERED, FakeServer, result, silence
from tests.conftest import LEGACY, MODERN
from trio_mcp import (
    CallCancelled,
    Client,
    ConnectionLost,
    Context,
    LogMessage,
    Server,
    TaskConfig,
    open_client,
    open_server,
)
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.session import ClientSession
from trio_mcp.client.session_statistics import ClientSessionStatistics
from trio_mcp.client.task_following import TaskFollowing
from trio_mcp.client.task_snapshot import TaskNews, TaskSnapshot
from trio_mcp.outgoing.policy import Conflate

IDLE = ClientSessionStatistics(
    pending_calls=0,
    kept_calls=0,
    late_answers=0,
    server_requests=0,
    subscriptions=0,
    queued_frames=0,
    queued_logs=0,
    is_lost=False,
)


def session_of(client: Client) -> ClientSession:
    return client._link.session


def make_server() -> tuple[Server, trio.Event, trio.Event]:
    server = Server("states", version="1")
    reached, release = trio.Event(), trio.Event()

    @server.tool(task=TaskConfig())
    async def wait(ctx: Context) -> str:
        reached.set()
        await release.wait()
        return "done"

    @server.tool
    async def log(n: int, ctx: Context) -> str:
        for i in range(n):
            await ctx.log("info", str(i))
        return "logged"

    return server, reached, release


async def test_statistics_count_what_a_session_holds():
    server, reached, release = make_server()
    async with open_client(server) as client, trio.open_nursery() as nursery:
        session = session_of(client)
        assert session.statistics() == IDLE
        nursery.start_soon(client.call_tool, "wait")
        await reached.wait()
        assert session.statistics().pending_calls == 1
        release.set()
    assert session.statistics().pending_calls == 0
    assert session.statistics().is_lost


async def test_statistics_count_cancelled_calls_whose_answers_may_come():
    server = FakeServer({"server/discover": result(DISCOVERED), "tools/call": silence})
    async with open_client(server) as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.call_tool("any")
        statistics = session_of(client).statistics()
        assert (statistics.pending_calls, statistics.late_answers) == (0, 1)


async def test_statistics_count_tasks_that_are_kept_and_followed():
    server, _, release = make_server()
    async with open_server(server) as running:
        for protocol in (LEGACY, MODERN):
            async with open_client(running, protocol=protocol) as client:
                task = await client.call_tool("wait", task=True)
                session = session_of(client)
                assert session.statistics().kept_calls == (protocol == LEGACY)
                async with task.updates() as snapshots:
                    await snapshots.receive()
                    assert session.statistics().subscriptions == 1
                assert session.statistics().subscriptions == 0
        release.set()


async def test_statistics_count_log_messages_that_wait_for_their_handler():
    server, _, _ = make_server()
    reached, release = trio.Event(), trio.Event()

    async def handle(message: LogMessage) -> None:
        reached.set()
        await release.wait()

    async with open_client(server, log_handler=handle) as client:
        await client.call_tool("log", {"n": 3})
        await reached.wait()
        assert session_of(client).statistics().queued_logs == 2, "the handler has one"
        release.set()


async def test_client_and_session_show_their_state():
    server, _, _ = make_server()
    async with open_client(server, protocol=MODERN) as client:
        session = session_of(client)
        assert repr(session) == "<ClientSession open, 0 calls pending>"
        assert repr(client) == f"<Client of 'states' 1, protocol {MODERN}, {session!r}>"
        assert repr(client._link) == f"<Link {MODERN} over {session!r}>"
    assert repr(session) == "<ClientSession lost: the client was closed, 0 calls pending>"


async def test_handles_show_their_state():
    server, reached, release = make_server()
    async with open_server(server) as running, open_client(running, protocol=MODERN) as client:
        async with client.start_call("wait") as call:
            await reached.wait()
            assert repr(call) == "<CallHandle of tool 'wait': running>"
            call.cancel()
            assert repr(call) == "<CallHandle of tool 'wait': failed>"
            with pytest.raises(CallCancelled):
                await call.result()
        async with client.start_call("log", {"n": 0}) as call:
            await call.result()
            assert repr(call) == "<CallHandle of tool 'log': done>"
        task: Any = await client.call_tool("wait", task=True)
        assert repr(task) == f"<TaskHandle of tool 'wait': task {task.id!r}>"
        release.set()
        direct = await client.call_tool("log", {"n": 0}, task=True)
        assert repr(direct) == "<TaskHandle of tool 'log': answered at once>"


async def test_pending_calls_and_followed_tasks_show_their_state():
    call = PendingCall(7, lambda *update: None, Conflate())
    assert repr(call) == "<PendingCall 7: waiting, 0 updates queued>"
    call.queue_updates([(1, None, None, None)])
    call.settle(ConnectionLost("gone"))
    assert repr(call) == "<PendingCall 7: ConnectionLost, 1 updates queued>"
    following = TaskFollowing(None, "t", lambda news: None)  # type: ignore[arg-type]  # it asks nothing here
    words = "the server promises nothing, so the task is polled"
    assert repr(following) == f"<TaskFollowing of 't': unknown, {words}>"
    following._accept(TaskNews(TaskSnapshot(id="t", status="working")))
    assert repr(following) == f"<TaskFollowing of 't': working, {words}>"
