"""The connection of a proxy to one server, for as long as the proxy runs.

Owns that it is made again if it is lost, with pauses that grow, and that what the server offers is read then
and after each change. Refuses to know what is done with a list, and how a request is handed on.
"""

from __future__ import annotations

import enum
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Final, Protocol

import attrs
import trio

from trio_mcp.client.changes import Change, ChangeChannel, make_filter
from trio_mcp.client.link import Link
from trio_mcp.client.listening import LISTS, declared_lists, open_listening
from trio_mcp.concurrency.failures import leaves, split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout, ConnectionLost, MCPError
from trio_mcp.printable import one_line
from trio_mcp.proxy.failures import unavailable
from trio_mcp.validators import describe_seconds

logger = logging.getLogger("trio_mcp.proxy")

RECONNECT_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The pauses before a lost server is connected to again; after the last it is tried on with that one.

Each is made up to a half longer or shorter, so that many proxies do not come back at once.
"""

LIST_SECONDS: Final = 60.0
"""How long a server may take to list what it has."""

LIVELY_SECONDS: Final = 30.0
"""A connection that lasted for so long did not fail to be made, so that the pauses begin anew."""


class UpstreamState(enum.Enum):
    """Whether the server can be asked."""

    CONNECTING = "is being connected to"
    CONNECTED = "is connected"
    LOST = "is not connected"
    CLOSED = "is left, because the proxy ends"


TRANSITIONS: Final[Mapping[UpstreamState, frozenset[UpstreamState]]] = {
    UpstreamState.CONNECTING: frozenset({UpstreamState.CONNECTED, UpstreamState.LOST, UpstreamState.CLOSED}),
    UpstreamState.CONNECTED: frozenset({UpstreamState.LOST, UpstreamState.CLOSED}),
    UpstreamState.LOST: frozenset({UpstreamState.CONNECTING, UpstreamState.CLOSED}),
    UpstreamState.CLOSED: frozenset(),
}


class Lists(Protocol):
    """Takes what a server offers."""

    async def read_all(self, link: Link) -> None:
        """Read what the server is and all that it offers; checkpoints. Raises MCPError."""

    async def read_changed(self, link: Link, change: Change) -> None:
        """Read the list that has changed; checkpoints. Raises MCPError."""


@attrs.define(eq=False)
class Upstream:
    """The server `name` of a proxy that runs; `connect()` opens a connection to it.

    If it `is_required`, a failure of the first connection is raised.
    """

    name: str
    connect: Callable[[], AbstractAsyncContextManager[Link]]
    lists: Lists
    on_link: Callable[[Link], None]
    """Called with each new connection, before anything is read."""
    follow: Callable[[Link], Awaitable[None]]
    """Runs while a connection lasts, once the lists were read."""
    is_required: bool = True
    _state: UpstreamState = UpstreamState.LOST
    _link: Link | None = None
    _reason: str = ""

    def __repr__(self) -> str:
        return f"<Upstream {self.name!r} {self._state.value}>"

    @property
    def state(self) -> UpstreamState:
        """Whether the server can be asked."""
        return self._state

    @property
    def link(self) -> Link:
        """The connection; raises ProtocolError if there is none now."""
        if self._link is None or self._state is not UpstreamState.CONNECTED or self._link.session.is_lost:
            raise unavailable(self.name, f"is not connected: {self._reason or 'it was lost just now'}")
        return self._link

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stay connected until this is cancelled; checkpoints.

        It has started when everything that the server offers was read, or that has failed. A failure is
        logged, and followed by another attempt; the first of a server that is required is raised.
        """
        has_started = False

        def note_ready(link: Link) -> None:
            nonlocal has_started
            self._link = link
            if self._state is UpstreamState.CONNECTED:
                return  # it was listened to anew
            self._move(UpstreamState.CONNECTED)
            if has_started:
                logger.info("the upstream server %s is connected again", self._shown)
            else:
                has_started = True
                task_status.started()

        failures = 0
        try:
            while True:
                self._move(UpstreamState.CONNECTING)
                began = trio.current_time()
                try:
                    async with self.connect() as link:
                        self.on_link(link)
                        await self._serve(link, note_ready)
                except BaseException as error:  # noqa: ASYNC103  # a target may raise anything; see below
                    passing, failure = split_failure(error)
                    if passing is not None or failure is None:
                        raise
                    if not has_started and self.is_required:
                        raise _only_leaf(failure) from None  # noqa: ASYNC104  # no Cancelled is in it
                    self._lose(_only_leaf(failure))
                    if not has_started:
                        has_started = True
                        task_status.started()
                failures = 0 if trio.current_time() - began >= LIVELY_SECONDS else failures
                pause = RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)]
                failures += 1
                await trio.sleep(pause * random.uniform(0.5, 1.5))
        finally:
            self._link = None
            self._move(UpstreamState.CLOSED)

    @property
    def _shown(self) -> str:
        return one_line(repr(self.name))

    def _lose(self, failure: BaseException) -> None:
        self._reason = one_line(str(failure)) or type(failure).__name__
        self._move(UpstreamState.LOST)
        logger.warning("the upstream server %s is not connected: %s", self._shown, self._reason)

    def _move(self, state: UpstreamState) -> None:
        assert state in TRANSITIONS[self._state], f"{self._state} to {state}"
        self._state = state

    async def _serve(self, link: Link, note_ready: Callable[[Link], None]) -> None:
        """Read the lists, and each again that changes, until the connection is lost, which is raised."""
        async with open_unwrapping_nursery() as nursery:

            def begin(link: Link) -> None:
                is_first = self._state is not UpstreamState.CONNECTED
                note_ready(link)
                if is_first:
                    nursery.start_soon(self.follow, link)

            nursery.start_soon(self._keep_lists, link, begin)
            raise await link.session.life.wait_lost()

    async def _keep_lists(self, link: Link, note_ready: Callable[[Link], None]) -> None:
        failures = 0
        while True:
            began = trio.current_time()
            async with AsyncExitStack() as stack:
                try:
                    changes = await self._listen(stack, link)
                    # Behind the subscription, so that no change is missed.
                    with _in_time(self.name):
                        await self.lists.read_all(link)
                    note_ready(link)
                    if changes is None:
                        await trio.sleep_forever()
                    else:
                        await self._read_changes(link, changes)
                except MCPError as error:
                    if self._state is not UpstreamState.CONNECTED:
                        raise
                    logger.warning("%s does not tell of its changes any more: %s", self._shown, error)
            failures = 0 if trio.current_time() - began >= LIVELY_SECONDS else failures
            await trio.sleep(RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)])
            failures += 1

    async def _listen(self, stack: AsyncExitStack, link: Link) -> ChangeChannel | None:
        """Ask the server to tell of its changes; None if it tells of none."""
        capabilities = link.agreement.capabilities
        # A legacy server tells without being asked, whether it declares that or not.
        lists = declared_lists(capabilities) if link.era.modern else LISTS.intersection(capabilities)
        if not lists:
            await trio.lowlevel.checkpoint()
            return None
        wanted = make_filter(
            tools="tools" in lists, prompts="prompts" in lists, resources="resources" in lists
        )
        try:
            return await stack.enter_async_context(open_listening(link, wanted))
        except ConnectionLost:
            raise
        except MCPError as error:
            logger.warning("%s was asked to tell of its changes, and does not: %s", self._shown, error)
            return None

    async def _read_changes(self, link: Link, changes: ChangeChannel) -> None:
        async for change in changes:
            try:
                with _in_time(self.name):
                    await self.lists.read_changed(link, change)
            except ConnectionLost:
                raise
            except MCPError as error:
                logger.warning("a list of %s cannot be read: %s", self._shown, error)


def _only_leaf(failure: BaseException) -> BaseException:
    """The exception that a group holds, if there is only one."""
    found = list(leaves(failure))
    return found[0] if len(found) == 1 else failure


@contextmanager
def _in_time(name: str) -> Iterator[None]:
    """Raise CallTimeout if the block takes longer than `LIST_SECONDS`."""
    with trio.move_on_after(LIST_SECONDS) as scope:
        yield
    if scope.cancelled_caught:
        raise CallTimeout(f"{name!r} did not list what it has within {describe_seconds(LIST_SECONDS)}")
