"""Who asks, by which headers: what a handler learns of its request from the transport."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from tests.conftest import Wire
from trio_mcp import Context, Server, ServerSettings, TaskConfig, open_client, open_server, serve_http

server = Server("facts")


@server.tool(task=TaskConfig(mode="optional"))
async def facts(ctx: Context) -> dict[str, Any]:
    return {
        "principal": ctx.principal and ctx.principal.name,
        "headers": dict(ctx.headers),
        "task": ctx.task_id is not None,
    }


@server.tool
async def change(ctx: Context) -> str:
    try:
        ctx.headers["x-new"] = "1"  # type: ignore[index]  # type checkers refuse it, too
    except TypeError:
        return "read-only"
    return "changed"


async def test_headers_are_those_of_the_transport(wire: Wire) -> None:
    async with wire.open(server) as client:
        found = (await client.call_tool("facts")).data
        assert (await client.call_tool("change")).data == "read-only"
    assert found["principal"] is None
    if wire.transport in ("memory", "stdio"):
        assert found["headers"] == {}
    else:
        assert found["headers"]["host"].startswith("127.0.0.1:")
        assert all(name == name.lower() for name in found["headers"])


async def test_the_principal_is_known_over_every_transport(wire: Wire) -> None:
    async with open_server(server) as running, wire.open_running(running.authenticated("alice")) as client:
        assert (await client.call_tool("facts")).data["principal"] == "alice"


async def test_headers_can_be_given_for_a_test_in_memory() -> None:
    async with open_server(server) as running:
        target = running.authenticated("alice", headers={"X-Tenant": "blue"})
        async with open_client(target) as client:
            assert (await client.call_tool("facts")).data["headers"] == {"x-tenant": "blue"}


async def test_a_handler_can_use_the_threads_of_sync_tools() -> None:
    server = Server("threads", settings=ServerSettings(thread_limit=3))

    @server.tool
    async def count(ctx: Context) -> list[float]:
        limiter = ctx.thread_limiter
        return [limiter.total_tokens, await trio.to_thread.run_sync(lambda: 5, limiter=limiter)]

    async with open_client(server) as client:
        assert (await client.call_tool("count")).data == [3, 5]


@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_task_keeps_the_headers_of_the_request_that_started_it(protocol: str, scheme: str) -> None:
    async with trio.open_nursery() as nursery:

        def authenticate(scope: Any) -> str:
            return str(dict(scope["headers"])[b"x-user"].decode())

        serve = partial(serve_http, server, bind="127.0.0.1:0", authenticate=authenticate)
        (url,) = await nursery.start(serve)
        url = url.replace("http", scheme, 1)
        async with open_client(url, protocol=protocol, headers={"X-User": "alice"}) as client:
            task = await client.call_tool("facts", task=True)
            found = (await task.result()).data
        nursery.cancel_scope.cancel()
    assert found["task"]
    assert (found["principal"], found["headers"]["x-user"]) == ("alice", "alice")


async def test_the_session_has_an_id_if_the_revision_has_sessions(wire: Wire) -> None:
    server = Server("sessions")

    @server.tool
    async def session(ctx: Context) -> list[Any]:
        return [ctx.session_id, ctx.headers.get("mcp-session-id")]

    found = []
    for _ in range(2):
        async with wire.open(server) as client:
            found.append((await client.call_tool("session")).data)
            assert (await client.call_tool("session")).data == found[-1]
    if wire.protocol == "2026-07-28":
        assert found == [[None, None]] * 2
        return
    (first, of_http), (second, _) = found
    assert isinstance(first, str)
    assert first != second
    assert wire.transport != "http" or of_http == first
