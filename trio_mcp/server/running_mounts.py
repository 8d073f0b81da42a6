"""The servers that are mounted in a server which runs: their lifespans, their threads, and their own tools.

Owns when the lifespan of a mounted server begins and ends. Knows nothing of what is mounted under which name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.definition import ServerDefinition, find_mounted


class MountedServer(Struct, eq=False, frozen=True):
    """A mounted server while the one that is served runs.

    `limiter` is for the threads of its tools and prompts, `reading_limiter` for those of its resources. What
    its handlers may call depends on whether the one that calls is async.
    """

    lifespan: Any
    limiter: trio.CapacityLimiter
    reading_limiter: trio.CapacityLimiter
    calls_of_async: ChildCalls
    calls_of_sync: ChildCalls


class RunningMounts:
    """What is mounted in one running server, at any depth: each server once, however often it is mounted.

    `lifespans` are those that were entered already. That of a server that is mounted while this one runs is
    held by a task of `nursery`.
    """

    def __init__(self, nursery: trio.Nursery, lifespans: dict[ServerDefinition, Any]) -> None:
        self._nursery = nursery
        self._lifespans = lifespans
        self._servers: dict[ServerDefinition, MountedServer] = {}
        self._entering: dict[ServerDefinition, trio.Event] = {}
        self._outer: ChildCalls | None = None
        self._limiters: set[trio.CapacityLimiter] = set()
        self._ended = trio.Event()

    def __repr__(self) -> str:
        return f"<RunningMounts: {len(self._lifespans)} servers>"

    def begin(self, calls: ChildCalls) -> None:
        """Note what the handlers of the server that runs may call; before the first call."""
        self._outer = calls
        self._limiters.add(calls.limiter)

    def end(self) -> None:
        """Let the lifespans end that a task holds; does not wait for them."""
        self._ended.set()

    async def find(self, definition: ServerDefinition) -> MountedServer:
        """The server of this definition, whose lifespan is entered if that has not been done yet.

        Checkpoints then. Raises what the lifespan raises.
        """
        server = self._servers.get(definition)
        if server is None:
            lifespan = await self._find_lifespan(definition)
            server = self._servers.get(definition) or self._make(definition, lifespan)
        return server

    def choose_limiter(
        self, limiter: trio.CapacityLimiter, own: trio.CapacityLimiter
    ) -> trio.CapacityLimiter:
        """The threads for a handler of a mounted server: its `own`, in place of those of another server.

        Any other limiter is that of a call by a sync tool, which must not wait for the thread of its caller.
        """
        return own if limiter in self._limiters else limiter

    async def _find_lifespan(self, definition: ServerDefinition) -> Any:
        while definition not in self._lifespans:
            entering = self._entering.get(definition)
            if entering is not None:
                await entering.wait()
                continue
            self._entering[definition] = entering = trio.Event()
            try:
                self._lifespans[definition] = await self._nursery.start(self._hold, definition)
            finally:
                del self._entering[definition]
                entering.set()
        return self._lifespans[definition]

    async def _hold(self, definition: ServerDefinition, *, task_status: trio.TaskStatus[Any]) -> None:
        async with definition.open_lifespan() as lifespan:
            task_status.started(lifespan)
            # Shielded until the server has ended: handlers that are being cancelled still need it.
            with trio.CancelScope(shield=True):
                await self._ended.wait()

    def _make(self, definition: ServerDefinition, lifespan: Any) -> MountedServer:
        assert self._outer is not None, "the server runs"
        limiter = trio.CapacityLimiter(definition.settings.thread_limit)
        self._limiters.add(limiter)
        calls = ChildCalls(
            definition.tools.enabled,
            limiter,
            lifespan,
            self._outer.errors.showing(definition.settings.show_errors),
            self._outer.rounds,
            definition.server,
            mounts=self,
            holds_thread=False,
        )
        server = self._servers[definition] = MountedServer(
            lifespan,
            limiter,
            trio.CapacityLimiter(definition.settings.thread_limit),
            calls,
            replace(calls, holds_thread=True),
        )
        return server


@asynccontextmanager
async def open_mounts(definition: ServerDefinition) -> AsyncIterator[RunningMounts]:
    """Enter the lifespans of all servers that are mounted in it, for as long as the block lasts. Checkpoints.

    They are left in reverse order.
    """
    async with AsyncExitStack() as stack:
        lifespans = {
            mounted: await stack.enter_async_context(mounted.open_lifespan())
            for mounted in find_mounted(definition)
        }
        async with open_unwrapping_nursery() as nursery:
            mounts = RunningMounts(nursery, lifespans)
            try:
                yield mounts
            finally:
                mounts.end()
