"""A server that is running: its tasks, its connections, and how this process asks for tasks.

Owns what outlives a single connection. `open_server` makes it. Knows no transport.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio
from msgspec import Struct

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.server.application import ServerApplication
from trio_mcp.server.changes import LIST_CHANGES
from trio_mcp.server.definition import HasDefinition, ServerDefinition
from trio_mcp.server.running_mounts import RunningMounts, open_mounts
from trio_mcp.session.connection import NO_HEADERS
from trio_mcp.session.serving import serve_transport
from trio_mcp.session.settings import ServerSettings
from trio_mcp.tasks.memory_store import MemoryTaskStore
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.store import TaskPage
from trio_mcp.tasks.supervisor import Supervisor, open_supervisor

if TYPE_CHECKING:
    from trio_mcp.session.principal import Principal


class RunningServer:
    """A server that is running; it can serve many connections, which share its tasks."""

    def __init__(
        self,
        definition: ServerDefinition,
        supervisor: Supervisor,
        nursery: trio.Nursery,
        lifespan: Any,
        mounts: RunningMounts | None = None,
    ) -> None:
        self._supervisor = supervisor
        self.application = ServerApplication(definition, supervisor, nursery, lifespan, mounts)
        self.nursery = nursery
        """For what outlives the request that began it: legacy sessions over HTTP, the wait for heartbeats."""
        self._closers: list[Callable[[], None]] = []
        self.is_closing = False
        self.refusals: Counter[str] = Counter()
        """How often a request or connection from the network was refused, by the kind of reason."""

    def __repr__(self) -> str:
        return f"<RunningServer {self.application.info.name!r} {'closing' if self.is_closing else 'open'}>"

    def on_closing(self, close: Callable[[], None]) -> None:
        """Have `close` called, without waiting, when the server begins to end."""
        self._closers.append(close)

    def begin_closing(self) -> None:
        """Begin the end: call what `on_closing` registered, which refuses new connections. Does not wait."""
        self.is_closing = True
        for close in self._closers:
            close()

    @property
    def settings(self) -> ServerSettings:
        """The settings of the server, for each of its connections."""
        return self.application.settings

    async def serve(
        self,
        transport: FrameTransport,
        *,
        principal: Principal | str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
        peer: str | None = None,
    ) -> None:
        """Serve one connection until the peer closes it, then close it; checkpoints.

        `principal` is who the peer is, if the caller has authenticated it: a Principal, or only its name. Its
        tasks then belong to that principal, whatever connection it asks for them on. `headers` are those of
        the handshake, by lower-case names. Handlers find both in their Context. `peer` is the address of the
        client: without a principal, connections from one address share its caps on tasks.
        """
        permit = None
        if principal is not None:
            # Imported here: most servers are not told who their clients are.
            from trio_mcp.session.permit import make_permit

            permit = make_permit(principal)
        await serve_transport(self.application, transport, permit, headers, peer)

    def authenticated(
        self, principal: Principal | str, headers: Mapping[str, str] = NO_HEADERS
    ) -> AuthenticatedServer:
        """This server as a target of `open_client`, for a client that is authenticated as `principal`.

        Its handlers find `headers` in `Context.headers`, by lower-case names.
        """
        return AuthenticatedServer(
            self, principal, MappingProxyType({name.lower(): value for name, value in headers.items()})
        )

    async def fetch_task(self, task_id: str) -> TaskRecord:
        """Return the record of a task, whoever owns it. Checkpoints. Raises TaskNotFound."""
        return await self._supervisor.access.fetch(task_id, None)

    async def await_task(self, task_id: str) -> TaskRecord:
        """Wait until a task has ended. Checkpoints. Raises TaskNotFound."""
        return await self._supervisor.access.wait_ended(task_id, None)

    async def cancel_task(self, task_id: str) -> TaskRecord:
        """Cancel a task; one that has ended stays as it is. Checkpoints. Raises TaskNotFound."""
        return await self._supervisor.access.cancel(task_id, None)

    async def list_page(self, principal: Principal | str, cursor: str | None = None) -> TaskPage:
        """Return up to `page_size` tasks of an authenticated principal, newest first. Checkpoints.

        `cursor` is the `next_cursor` of the page before, None for the first. Raises
        CursorError for one that this principal did not get.
        """
        return await self._supervisor.access.list_page(Owner("principal", str(principal)), cursor)

    async def list_tasks(self, principal: Principal | str) -> list[TaskRecord]:
        """Return all tasks of an authenticated principal, newest first. Checkpoints."""
        page = await self.list_page(principal)
        records = list(page.records)
        while page.next_cursor is not None:
            page = await self.list_page(principal, page.next_cursor)
            records += page.records
        return records

    @asynccontextmanager
    async def watch_task(self, task_id: str) -> AsyncIterator[trio.MemoryReceiveChannel[TaskRecord]]:
        """Open a channel of a task's record: as it is now, and after each change until the task has ended.

        A slow reader skips records but never the newest. The task may run in any process that shares the
        store. Checkpoints. Raises TaskNotFound.
        """
        async with self._supervisor.followers.open_watch(task_id, None) as records:
            yield records


class AuthenticatedServer(Struct, frozen=True):
    """A running server, for one principal."""

    running: RunningServer
    principal: Principal | str
    headers: Mapping[str, str] = NO_HEADERS

    def __repr__(self) -> str:
        return f"<{self.running!r} for {self.principal}>"  # headers may hold secrets

    async def serve(self, transport: FrameTransport) -> None:
        """Serve one connection of the principal until the peer closes it; checkpoints."""
        await self.running.serve(transport, principal=self.principal, headers=self.headers)


@asynccontextmanager
async def open_server(server: HasDefinition, *, runs_tasks: bool = True) -> AsyncIterator[RunningServer]:
    """Run a server for as long as the block lasts, without any connection yet; checkpoints.

    The block gets a RunningServer, which is a target of `open_client` and can serve many
    connections. When the block ends, running tasks get `shutdown_grace` seconds; then they are
    cancelled, and so are their records. Those that are to be run again are given back to the store.

    Without `runs_tasks`, tasks are only put into the queue of the store, for the processes of `run_worker`;
    calls that never become tasks are run here. Raises ValueError then, if tasks do not outlive this process.
    """
    async with _open(server.definition, runs_tasks=runs_tasks) as running:
        yield running


@asynccontextmanager
async def open_worker(definition: ServerDefinition) -> AsyncIterator[RunningServer]:
    """Run tasks that wait in the store for as long as the block lasts; checkpoints.

    When it ends, running tasks get `shutdown_grace` seconds, and are then given back, or fail as interrupted.
    Raises ValueError if tasks do not outlive the process.
    """
    async with _open(definition, interrupts=True) as running:
        yield running


@asynccontextmanager
async def _open(
    definition: ServerDefinition, *, runs_tasks: bool = True, interrupts: bool = False
) -> AsyncIterator[RunningServer]:
    store = definition.task_store or MemoryTaskStore()
    if store.sweep_interval is None and (interrupts or not runs_tasks):
        raise ValueError(
            f"tasks in {type(store).__name__} do not outlive their process, so no other process can run them"
        )
    make_server: Callable[..., RunningServer] = RunningServer
    make_supervisor: Callable[..., Supervisor] = Supervisor
    if definition.find_makers is not None:
        make_server, make_supervisor = definition.find_makers(definition.instruments)
    async with (
        definition.open_lifespan() as lifespan,
        open_mounts(definition) as mounts,
        open_supervisor(
            store,
            definition.task_settings,
            runs_tasks=runs_tasks,
            interrupts=interrupts,
            make_supervisor=make_supervisor,
        ) as supervisor,
        open_unwrapping_nursery() as nursery,
    ):
        running = make_server(definition, supervisor, nursery, lifespan, mounts)
        if supervisor.keeps_work and runs_tasks:
            from trio_mcp.tasks.claiming import ClaimedTools, serve_claims

            tools = ClaimedTools(lambda: list(definition.tools.enabled))
            running.application.audience.subscribe(tools, LIST_CHANGES["tools"])
            nursery.start_soon(serve_claims, store, supervisor, tools, running.application.run_stored)
        try:
            yield running
        finally:
            running.begin_closing()
            running.application.close()
        nursery.cancel_scope.cancel()
