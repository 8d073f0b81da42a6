"""One server of a group: its connection, its state, and why it failed.

Owns the boundary at which the failure of a server stays with that server. Refuses to know the others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

import trio

from trio_mcp.client.client import Client, open_client
from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.concurrency.failures import leaves, split_failure
from trio_mcp.errors import CallTimeout, ConnectionLost, MCPError, ServerUnavailable
from trio_mcp.printable import one_line
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.uri_template import UriTemplate, parse_template

logger = logging.getLogger("trio_mcp.client")


class ServerState(Enum):
    """The state of a server of a `ClientGroup`."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


TRANSITIONS: Final[Mapping[ServerState, frozenset[ServerState]]] = {
    ServerState.CONNECTING: frozenset({ServerState.CONNECTED, ServerState.FAILED, ServerState.CLOSED}),
    ServerState.CONNECTED: frozenset({ServerState.FAILED, ServerState.CLOSED}),
    ServerState.FAILED: frozenset(),
    ServerState.CLOSED: frozenset(),
}


class GroupServer:
    """A server of a `ClientGroup`: `name`, `prefix`, `state`, `error` and `client`."""

    def __init__(self, name: str, entry: ServerEntry, options: Mapping[str, Any], timeout: float) -> None:
        self.name = name
        """Its name in the group."""
        self.prefix = entry.full_prefix(name)
        """What stands in front of the names of its tools and prompts."""
        self.timeout = timeout if entry.timeout is None else entry.timeout
        """The longest time in seconds that it may take to connect, or to list what it has."""
        self.catalogue = Catalogue()
        self._target = entry.target
        self._options = {**options, **entry.options}
        self._state = ServerState.CONNECTING
        self._error: BaseException | None = None
        self._client: Client | None = None
        self._opening = trio.CancelScope()
        self._staying = trio.CancelScope()
        self._opened = trio.Event()
        self._finished = trio.Event()

    def __repr__(self) -> str:
        return f"<GroupServer {self.name!r} {self._state.value}>"

    @property
    def state(self) -> ServerState:
        """Whether it is connecting, connected, failed or closed."""
        return self._state

    @property
    def error(self) -> BaseException | None:
        """Why it failed, or None."""
        return self._error

    @property
    def client(self) -> Client:
        """Its client, with the names that the server itself uses.

        Raises ServerUnavailable unless it is connected.
        """
        if self._state is ServerState.CONNECTED and self._client is not None:
            return self._client
        if self._state is ServerState.FAILED:
            raise ServerUnavailable(self.name, f"has failed: {describe_error(self._error)}") from self._error
        raise ServerUnavailable(self.name, f"is {self._state.value}")

    async def run(self) -> None:
        """Connect, and hold the connection until it is lost or `leave` is called; checkpoints.

        What fails is kept as `error`, and ends nothing else.
        """
        try:
            await self._connect()
        except BaseException as error:  # noqa: ASYNC103  # a target may raise anything; Cancelled passes on
            passing, failure = split_failure(error)
            if failure is not None:
                self._fail(failure)
            if passing is not None:
                raise passing from None  # noqa: ASYNC104  # it is the error without what is kept
        finally:
            if self._state is not ServerState.FAILED:
                self._move(ServerState.CLOSED)
            self._opened.set()
            self._finished.set()

    async def _connect(self) -> None:
        self._opening.deadline = trio.current_time() + self.timeout
        with self._opening:
            async with open_client(self._target, **self._options) as client:
                self._opening.deadline = math.inf
                self._client = client
                self._move(ServerState.CONNECTED)
                self._opened.set()
                with self._staying:
                    self._fail(await client.wait_lost())
        # `leave` cancels this scope as well, but only the deadline is a failure.
        if self._opening.cancelled_caught and not self._staying.cancel_called:
            self._fail(CallTimeout(f"it did not connect within {describe_seconds(self.timeout)}"))

    def leave(self) -> None:
        """End the connection, or the attempt to make one."""
        self._staying.cancel()
        if self._state is ServerState.CONNECTING:
            self._opening.cancel()

    async def wait_opened(self) -> None:
        """Wait until it is connected or has failed; checkpoints."""
        await self._opened.wait()

    async def wait_finished(self) -> None:
        """Wait until its connection is closed; checkpoints."""
        await self._finished.wait()

    @contextmanager
    def named(self) -> Iterator[Client]:
        """Let what fails during the block name this server; yields the client.

        Raises ServerUnavailable if it is not connected, or loses its connection meanwhile.
        """
        client = self.client
        try:
            yield client
        except ConnectionLost as error:
            raise ServerUnavailable(
                self.name, f"was lost: {error}", outcome_unknown=error.outcome_unknown
            ) from error
        except MCPError as error:
            error.add_note(f"This is of the server {self.name!r}.")
            raise

    def _fail(self, error: BaseException) -> None:
        if self._state is ServerState.FAILED:
            return
        found = list(leaves(error))
        self._error = found[0] if len(found) == 1 else error
        self._move(ServerState.FAILED)
        logger.warning(
            "server %s of the group has failed: %s", one_line(repr(self.name)), describe_error(self._error)
        )

    def _move(self, state: ServerState) -> None:
        assert state in TRANSITIONS[self._state], f"{self._state} to {state}"
        self._state = state


class Catalogue:
    """The URIs that a server has listed most recently, by which its resources are found."""

    def __init__(self) -> None:
        self.uris: frozenset[str] = frozenset()
        self.templates: dict[str, UriTemplate | None] = {}

    def note_templates(self, texts: Sequence[str]) -> None:
        """Keep templates; one that cannot be matched is known by its text only."""
        self.templates = {text: _parse(text) for text in texts}

    def matches(self, uri: str) -> bool:
        """Whether a template matches the URI."""
        return any(
            template is not None and template.match(uri) is not None for template in self.templates.values()
        )


def _parse(text: str) -> UriTemplate | None:
    try:
        return parse_template(text)
    except ValueError:
        return None


def describe_error(error: BaseException | None) -> str:
    """An error in one line, without a number; its type if it has no text."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None and repr(error.filename) not in text:
            text += f": {error.filename!r}"
    return one_line(text) or type(error).__name__
