"""Where the tasks of a command are: at a server, or in a store.

Owns the opening of either. What a command does with a task is the same for both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeAlias

import attrs
from rich.console import Console

from trio_mcp.cli.connection import open_connection, open_plain_client
from trio_mcp.cli.display import Display, SilentDisplay, open_display
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.cli.tasks.store_tasks import StoreTasks
from trio_mcp.cli.terminal import open_terminal
from trio_mcp.client.client import Client
from trio_mcp.client.elicitation import ElicitationHandler
from trio_mcp.tasks.store_url import store_from_url


@attrs.frozen
class ServerPlace:
    """A server that is asked for its tasks, in a revision of the protocol."""

    command: CommandTarget
    protocol: str

    noun = "server"


@attrs.frozen
class StorePlace:
    """A store that is read and changed without a server."""

    url: str

    noun = "store"


TaskPlace: TypeAlias = ServerPlace | StorePlace


TaskSource: TypeAlias = Client | StoreTasks
"""What has tasks: both have the same methods for them."""


class TaskDisplays(Protocol):
    """Opens the display of a task's progress."""

    def open_display(self, title: str) -> AbstractAsyncContextManager[Display]:
        """Show the progress of one task."""


@attrs.frozen
class OpenedTasks:
    """The tasks of a place, and the terminal on which they are shown; `console` is None without one."""

    source: TaskSource
    console: Console | None
    _displays: TaskDisplays

    def open_display(self, title: str) -> AbstractAsyncContextManager[Display]:
        """Show the progress of one task."""
        return self._displays.open_display(title)


@attrs.frozen
class _StoreDisplays:
    console: Console | None
    quiet: bool

    @asynccontextmanager
    async def open_display(self, title: str) -> AsyncIterator[Display]:
        if self.quiet:
            yield SilentDisplay()
            return
        async with open_display(title, self.console) as display:
            yield display


@asynccontextmanager
async def open_tasks(
    place: TaskPlace, *, quiet: bool = False, elicitation_handler: ElicitationHandler | None = None
) -> AsyncIterator[OpenedTasks]:
    """Connect to the server or open the store, which is only read; checkpoints.

    Raises what `open_client` raises, or TaskStoreError.
    """
    if isinstance(place, StorePlace):
        with open_terminal() as terminal:
            async with open_store(place.url, read_only=True) as tasks:
                console = None if quiet else terminal
                yield OpenedTasks(tasks, console, _StoreDisplays(console, quiet))
        return
    async with open_connection(
        place.command, protocol=place.protocol, quiet=quiet, elicitation_handler=elicitation_handler
    ) as connection:
        yield OpenedTasks(connection.client, connection.console, connection)


@asynccontextmanager
async def open_plain_tasks(place: TaskPlace) -> AsyncIterator[TaskSource]:
    """Connect to the server or open the store, for commands that show no progress; checkpoints.

    Raises what `open_client` raises, or TaskStoreError.
    """
    if isinstance(place, StorePlace):
        async with open_store(place.url) as tasks:
            yield tasks
        return
    async with open_plain_client(place.command, protocol=place.protocol) as client:
        yield client


@asynccontextmanager
async def open_store(url: str, *, read_only: bool = False) -> AsyncIterator[StoreTasks]:
    """Open the store at `url` for as long as the block lasts; checkpoints. Raises TaskStoreError."""
    store = store_from_url(url, read_only=read_only, may_create=False)
    async with store.open():
        yield StoreTasks(store)
