"""Two servers that share one store, as two processes do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from tests.conftest import MODERN, Wire
from tests.support.shared_store import SharedState, SharedStore
from tests.tasks.task_server import Name, gate, make_server
from trio_mcp import Context, Server, open_server
from trio_mcp.server.running import RunningServer

MEMORY = Wire("memory", MODERN)


@attrs.frozen
class Replica:
    """One server and its view of the store."""

    running: RunningServer
    store: SharedStore

    def open(self, wire: Wire, **options: Any) -> Any:
        """Connect as the client that both replicas know."""
        return wire.open_running(self.running.authenticated("ann"), **options)


@attrs.frozen
class Fleet:
    """Two replicas of one server; `reached`, `release` and `ends` are those of its gate."""

    state: SharedState
    a: Replica
    b: Replica
    reached: trio.Event
    release: trio.Event
    ends: list[str]


@asynccontextmanager
async def open_fleet(
    add_tools: Callable[[Server], None] = lambda server: None, **options: Any
) -> AsyncIterator[Fleet]:
    state = SharedState()
    server = make_server()
    reached, release, ends = await gate(server)
    add_tools(server)
    first, second = state.make_view(**options), state.make_view(**options)
    server.task_store = first
    async with open_server(server) as a:
        server.task_store = second
        async with open_server(server) as b:
            yield Fleet(state, Replica(a, first), Replica(b, second), reached, release, ends)


def add_greet(server: Server) -> None:
    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who are you?", Name)
        return f"Hello, {answer.data.name}!" if answer.accepted else str(answer.action)


def add_steps(server: Server) -> None:
    @server.tool(task=True)
    async def steps(ctx: Context, n: int) -> str:
        for number in range(n):
            await ctx.report_progress(number + 1, n)
            await trio.sleep(0.3)
        return "done"
