"""Keeping an open connection going: trio-websocket's reader, and the pings.

Owns how a crash of the reader ends its connection and nothing else, and when a silent peer counts as
gone. Both sides use it. Refuses to know what the messages are.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from trio_mcp.concurrency.failures import leaves, split_failure
from trio_mcp.transports.websocket.corking_stream import CorkingStream
from trio_mcp.transports.websocket.library import trio_websocket

T = TypeVar("T")

PING_SECONDS: Final = 20.0
"""A quiet connection is pinged so often: proxies cut those that are quiet for a minute or half of it."""

READ_BYTES: Final = 65_536
"""A burst of hundreds of messages in one read."""

QUEUE_MESSAGES: Final = 256
"""How many messages may wait undecoded: those of one read; `CorkingStream` caps their bytes."""


async def keep_connection(
    connect: Callable[[trio.Nursery], Awaitable[T]],
    stream: CorkingStream,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[T] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run trio-websocket's reader for one connection until it ends or `scope` is cancelled.

    What `connect` returns is given to `task_status`; what fails until then is raised as
    a `trio_websocket.HandshakeError`, what fails later is the end of the connection and
    nothing else. From then on `scope` is shielded, for the closing handshake needs the
    reader although its user is being cancelled; the user must cancel it when the
    transport has closed, which is bounded.
    """
    connected = False
    try:
        with scope:
            async with trio.open_nursery() as nursery:
                opened = await connect(nursery)
                connected = True
                task_status.started(opened)
                # A `start` that is being cancelled still waits for this task, which a shield would keep.
                scope.shield = trio.current_effective_deadline() > -math.inf
    # Everything: trio-websocket's reader is foreign code, whose crash must end this connection only.
    except BaseException as error:  # noqa: ASYNC103  # what passes on is raised again
        passing, failure = split_failure(error)
        if passing is not None:
            raise passing from None  # noqa: ASYNC104  # that is what of it must not stay here
        if failure is not None and not connected:
            raise _handshake_error(next(leaves(failure))) from failure  # noqa: ASYNC104  # no Cancelled was in it
    finally:
        stream.end()


def _handshake_error(failure: BaseException) -> trio_websocket.HandshakeError:
    if isinstance(failure, trio_websocket.HandshakeError):
        return failure
    # Some peers make trio-websocket raise errors that it does not document.
    return trio_websocket.HandshakeError(f"this is no WebSocket handshake: {failure}")


async def keep_alive(
    connection: trio_websocket.WebSocketConnection, stream: CorkingStream, interval: float
) -> None:
    """Ping when the peer was quiet for `interval` seconds; close the stream after twice as long."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ping, connection, stream, interval)
        # No event but a time: each sign of life only moves the deadline.
        while (deadline := stream.last_heard + 2 * interval) > trio.current_time():  # noqa: ASYNC110
            await trio.sleep_until(deadline)
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


async def _ping(
    connection: trio_websocket.WebSocketConnection, stream: CorkingStream, interval: float
) -> None:
    try:
        while True:
            due = stream.last_heard + interval
            await trio.sleep_until(due)
            if stream.last_heard + interval <= trio.current_time():
                await connection.ping()
    except trio_websocket.ConnectionClosed:
        pass  # whoever sends or receives sees it, too
