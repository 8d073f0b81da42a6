"""Who may see which tasks, in pages, and how many run at once."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from tests.tasks.task_server import gate, make_server, raw_peer
from trio_mcp import (
    Context,
    CursorError,
    NotSupportedByEra,
    ProtocolError,
    TaskConfig,
    TaskNotFound,
    TaskSettings,
    open_client,
    open_server,
)


async def test_owners(wire):
    """Another owner's task is the same error as an unknown one; without a principal the id admits."""
    server = make_server()
    async with open_server(server) as running:
        async with wire.open_running(running.authenticated("alice")) as alice:
            task = await alice.call_tool("count", {"n": 1}, task=True)
            await task.result()
        async with wire.open_running(running.authenticated("bob")) as bob:
            with pytest.raises(TaskNotFound):
                await bob.fetch_task(task.id)
        assert [record.id for record in await running.list_tasks("alice")] == [task.id]
        assert await running.list_tasks("bob") == []
        async with wire.open_running(running) as nobody:
            anonymous = await nobody.call_tool("count", {"n": 1}, task=True)
            await anonymous.result()
        async with wire.open_running(running) as other:
            assert (await other.fetch_task(anonymous.id)).status == "completed"
            if wire.protocol == LEGACY:
                assert await other.list_tasks() == [], "a session lists its own tasks only"


async def test_listing(wire):
    async with wire.open(make_server(page_size=2)) as client:
        if wire.protocol == MODERN:
            with pytest.raises(NotSupportedByEra, match="list"):
                await client.list_tasks()
            return
        made = [(await client.call_tool("count", {"n": 1}, task=True)).id for _ in range(3)]
        assert [task.id for task in await client.list_tasks()] == made[::-1]


async def test_listing_by_cursor_in_process():
    """Three tasks, two on a page; a cursor that is bad, or another principal's, is refused."""
    async with open_server(make_server(page_size=2)) as running:
        for principal in ("alice", "bob"):
            async with open_client(running.authenticated(principal)) as client:
                made = [(await client.call_tool("count", {"n": 1}, task=True)).id for _ in range(3)]
        first = await running.list_page("bob")
        assert [record.id for record in first.records] == [made[2], made[1]]
        assert first.next_cursor is not None
        second = await running.list_page("bob", first.next_cursor)
        assert [record.id for record in second.records] == [made[0]]
        assert second.next_cursor is None
        for principal, cursor in (("bob", "nonsense"), ("bob", ""), ("alice", first.next_cursor)):
            with pytest.raises(CursorError):
                await running.list_page(principal, cursor)
        assert [record.id for record in await running.list_tasks("bob")] == made[::-1]


async def test_overload(wire):
    server = make_server(max_running=1, max_queued=0)
    reached, release, _ = await gate(server)
    async with wire.open(server) as client:
        first = await client.call_tool("wait", task=True)
        await reached.wait()
        with pytest.raises(ProtocolError, match="overloaded"):
            await client.call_tool("count", {"n": 1}, task=True)
        release.set()
        assert (await first.result()).data == "released"
        second = await client.call_tool("count", {"n": 1}, task=True)
        assert (await second.result()).data == "counted 1"


@pytest.mark.parametrize("is_known", [True, False], ids=["principal", "anonymous"])
async def test_one_client_cannot_take_the_places_of_others(wire, is_known):
    """The cap is for each owner, or for each peer; a call that may be answered directly still is."""
    server = make_server(max_unfinished_per_owner=1)
    _, release, _ = await gate(server)
    async with open_server(server) as running:
        known = running.authenticated("alice") if is_known else running
        async with wire.open_running(known) as client:
            first = await client.call_tool("wait", task=True)
            with pytest.raises(ProtocolError, match="max_unfinished_per_owner is 1"):
                await client.call_tool("count", {"n": 1}, task=True)
            assert (await client.call_tool("count", {"n": 1})).data == "counted 1"
            async with wire.open_running(running.authenticated("bob")) as bob:
                other = await bob.call_tool("count", {"n": 1}, task=True)
                assert (await other.result()).data == "counted 1"
            release.set()
            assert (await first.result()).data == "released"
            again = await client.call_tool("count", {"n": 1}, task=True)
            assert (await again.result()).data == "counted 1"


@pytest.mark.parametrize("cap", ["max_running", "max_running_per_owner"])
async def test_calls_that_may_become_tasks_are_bounded_as_tasks_are(wire, autojump_clock, cap):
    """Without a word of the client about tasks; most of them are tasks when their turn comes."""
    server = make_server(**{cap: 2})
    running = most = 0

    @server.tool(task=TaskConfig(promote_after=0.5))
    async def busy(ctx: Context) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return "busy"

    async with wire.open(server) as client:
        results = []

        async def call() -> None:
            if wire.protocol == MODERN:
                results.append((await client.call_tool("busy")).data)
            else:  # there a call is a task only if it asks for that
                results.append((await (await client.call_tool("busy", task=True)).result()).data)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call)
    assert results == ["busy"] * 10
    assert most == 2


async def test_without_a_place_a_call_is_answered_with_its_progress(wire):
    server = make_server(max_running=1, max_queued=0)
    reached, release, _ = await gate(server)
    seen: list[float] = []
    async with wire.open(server) as client:
        first = await client.call_tool("wait", task=True)
        await reached.wait()
        with trio.fail_after(HANG_SECONDS):
            result = await client.call_tool(
                "count", {"n": 3}, progress_handler=lambda *update: seen.append(update[0])
            )
            assert (result.data, seen) == ("counted 3", [1, 2, 3])
            with pytest.raises(ProtocolError, match="overloaded"):
                await client.call_tool("required")
        release.set()
        await first.result()


async def test_anonymous_clients_of_one_address_share_its_caps(wire):
    """Over HTTP and WebSocket; elsewhere each connection is a client of its own."""
    server = make_server(max_unfinished_per_owner=1)
    _, release, _ = await gate(server)
    async with open_server(server) as running, wire.open_running(running) as one:
        first = await one.call_tool("wait", task=True)
        async with wire.open_running(running) as other:
            if wire.transport in ("memory", "stdio"):
                await (await other.call_tool("count", {"n": 1}, task=True)).result()
            else:
                with pytest.raises(ProtocolError, match="max_unfinished_per_owner is 1"):
                    await other.call_tool("count", {"n": 1}, task=True)
        async with wire.open_running(running.authenticated("alice")) as alice:
            await (await alice.call_tool("count", {"n": 1}, task=True)).result()
        release.set()
        await first.result()


async def test_queued_tasks_run_in_turn(wire, autojump_clock):
    server = make_server(max_running=2, max_queued=100)
    running = most = 0

    @server.tool(task=True)
    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    async with wire.open(server) as client:
        tasks = [await client.call_tool("busy", task=True) for _ in range(10)]
        for task in tasks:
            await task.result()
    assert most == 2


def test_settings_must_make_sense():
    for bad in ({"mode": "sometimes"}, {"ttl": 0}, {"ttl": -1}, {"promote_after": -1}, {"timeout": "5"}):
        with pytest.raises(ValueError, match="must"):
            TaskConfig(**bad)
    for bad in (
        {"max_running": 0},
        {"max_running_per_owner": 0},
        {"max_unfinished_per_owner": 0},
        {"max_kept_per_owner": 0},
        {"max_queued": -1},
        {"ttl": 0},
        {"shutdown_grace": -1},
        {"history_reports": 0},
    ):
        with pytest.raises(ValueError, match="must"):
            TaskSettings(**bad)


async def test_a_cursor_of_another_client_is_refused():
    """A cursor that was given out, but not to whoever brings it, is as bad as nonsense (2025-11-25)."""

    def list_request(**params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": params}

    server = make_server(page_size=1)
    async with open_server(server) as running, raw_peer(running) as first, raw_peer(running) as second:
        for peer in (first, second):
            await peer.initialize(LEGACY)
            for _ in range(2):
                params = {"name": "count", "arguments": {"n": 0}, "task": {}}
                request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                await peer.ask(request)
            await trio.testing.wait_all_tasks_blocked(0.01)
        pages = []
        for peer in (first, second):
            await peer.send(list_request())
            while "tasks" not in (answer := await peer.receive()).get("result", {}):
                pass  # status notifications
            pages.append(answer["result"])
        cursor = pages[0]["nextCursor"]
        assert "error" not in await first.ask(list_request(cursor=cursor))
        assert (await second.ask(list_request(cursor=cursor)))["error"]["code"] == -32602


# Rate and time left
