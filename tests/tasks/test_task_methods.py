"""The methods of tasks on the wire: errors, subscriptions, and clients that poll."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, FakeServer, result
from tests.support.raw_peer import MODERN_META, RawPeer
from tests.tasks.task_server import gate, make_server, raw_peer
from trio_mcp import (
    ProtocolError,
    open_client,
    open_server,
)
from trio_mcp.testing import memory_pair
from trio_mcp.wire.messages import TaskIdParams


async def test_modern_methods_need_the_extension(wire):
    if wire.protocol != MODERN:
        return
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        for method, params in (
            ("tasks/get", {"taskId": "x"}),
            ("tasks/cancel", {"taskId": "x"}),
            ("tasks/update", {"taskId": "x", "inputResponses": {}}),
            ("subscriptions/listen", {"notifications": {"taskIds": ["x"]}}),
            ("tools/call", {"name": "required"}),
        ):
            request = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": method,
                "params": {**params, "_meta": MODERN_META},
            }
            error = (await peer.ask(request))["error"]
            assert error["code"] == -32021
            assert error["data"]["requiredCapabilities"] == {
                "extensions": {"io.modelcontextprotocol/tasks": {}}
            }
        for method in ("tasks/result", "tasks/list"):
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": MODERN_META}}
            assert (await peer.ask(request))["error"]["code"] == -32601


async def test_a_server_that_offers_no_notifications_is_polled(wire, autojump_clock):
    """Hostile or absent intervals neither spin nor stall."""
    if wire.protocol != MODERN:
        return
    looks: list[float] = []

    def get(request: Any) -> Any:
        looks.append(trio.current_time())
        final = len(looks) >= 20
        task = {
            "resultType": "complete",
            "taskId": "t",
            "status": "completed" if final else "working",
            "createdAt": "2026-01-01T00:00:00Z",
            "lastUpdatedAt": f"2026-01-01T00:00:{len(looks):02}Z",
            "ttlMs": None,
            "pollIntervalMs": [0, -5, 1e12, None, 100][len(looks) % 5],
        }
        if final:
            task["result"] = {"content": []}
        return result({k: v for k, v in task.items() if v is not None or k == "ttlMs"})(request)

    created = {
        "resultType": "task",
        "taskId": "t",
        "status": "working",
        "createdAt": "2026-01-01T00:00:00Z",
        "lastUpdatedAt": "2026-01-01T00:00:00Z",
        "ttlMs": None,
    }
    server = FakeServer(
        {"server/discover": result(DISCOVERED), "tools/call": result(created), "tasks/get": get}
    )
    async with open_client(server) as client:
        await client.call_tool("any")
    gaps = [b - a for a, b in itertools.pairwise(looks)]
    assert min(gaps) >= 0.049
    assert max(gaps) <= 60.1


async def test_the_wire_s_errors_for_tasks():
    """Wrong owner, expired and unknown are one error; what has ended cannot be cancelled in 2025-11-25."""
    server = make_server()
    async with open_server(server) as running:
        async with open_client(running.authenticated("ann"), protocol=LEGACY) as client:
            task = await client.call_tool("count", {"n": 1}, task=True)
            await task.result()
            errors = []
            async with raw_peer(running.authenticated("bob")) as other:
                await other.initialize(LEGACY)
                for task_id in (task.id, "unknown"):
                    for method in ("tasks/get", "tasks/result", "tasks/cancel"):
                        params = {"taskId": task_id}
                        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                        errors.append((await other.ask(request))["error"])
                for cursor in ("nonsense", "", "AAAA"):
                    params = {"cursor": cursor}
                    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": params}
                    assert (await other.ask(request))["error"]["code"] == -32602
            assert errors == [{"code": -32602, "message": "no such task"}] * 6
            with pytest.raises(ProtocolError, match="already ended") as refused:
                await client._link.request("tasks/cancel", TaskIdParams(task_id=task.id))
            assert refused.value.code == -32602
        async with open_client(running, protocol=MODERN) as client:
            task = await client.call_tool("count", {"n": 1}, task=True)
            await task.result()
            raw = await client._link.request("tasks/cancel", TaskIdParams(task_id=task.id))
            assert set(msgspec.json.decode(raw)) == {"resultType", "_meta"}


async def test_subscriptions():
    """Acknowledged first, tagged with the request's id, complete tasks, in order."""
    server = make_server()
    reached, release, _ = await gate(server)
    capabilities = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {
        **MODERN_META,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.github.trio-mcp/task": True,
    }
    async with open_server(server) as running, raw_peer(running) as peer:
        params = {"name": "wait", "_meta": meta}
        made = await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        await reached.wait()
        wanted = {"taskIds": [made["result"]["taskId"], "unknown"]}
        listen = {"notifications": wanted, "_meta": meta}
        await peer.send({"jsonrpc": "2.0", "id": "L", "method": "subscriptions/listen", "params": listen})
        acknowledged = await peer.receive()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {"taskIds": [made["result"]["taskId"]]}
        working = await peer.receive()
        assert working["params"]["status"] == "working"
        assert working["params"]["statusMessage"] == "Half done (1/2)"
        release.set()
        completed = await peer.receive()
        assert completed["params"]["status"] == "completed"
        assert completed["params"]["result"]["content"][0]["text"] == "released"
        for message in (acknowledged, working, completed):
            assert message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "L"


async def test_a_subscription_ends_with_the_server_and_says_so():
    ours, theirs = memory_pair()
    peer = RawPeer(ours)
    capabilities = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {**MODERN_META, "io.modelcontextprotocol/clientCapabilities": capabilities}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_server().serve, theirs)
        listen = {"notifications": {"taskIds": []}, "_meta": meta}
        await peer.ask({"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": listen})
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            result, cancelled = await peer.receive(), await peer.receive()
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"]["requestId"] == 7
    assert result["id"] == 7
    assert result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 7
