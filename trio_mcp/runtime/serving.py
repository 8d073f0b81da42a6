"""Serving one wire: read, write, shut down.

Owns the nursery of a session that has one wire, or of a request that has a wire of
its own, and the order in which it ends. Knows no method.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from trio_mcp.runtime.connection import Connection
from trio_mcp.runtime.outbox import Outbox
from trio_mcp.runtime.session import Application, ServerSession
from trio_mcp.runtime.transport import DirectTransport, FrameSink, FrameTransport
from trio_mcp.wire.frames import InFrame, Request

logger = logging.getLogger("trio_mcp")

ROUNDS_UNWATCHED: Final = 4
"""For so many scheduling rounds a request is answered before its client is watched."""


class Exchange(FrameSink, Protocol):
    """One request and its response, as a transport that ends with the answer."""

    @property
    def has_ended(self) -> bool:
        """Whether the response is whole."""

    async def wait_gone(self) -> None:
        """Wait until the client has gone; checkpoints."""

    async def aclose(self) -> None:
        """End the response, also where there was no answer; checkpoints."""


async def serve_transport(
    application: Application, transport: FrameTransport, principal: str | None = None
) -> None:
    """Serve until the peer closes its end or the connection breaks; then close. Checkpoints.

    Shutdown: stop reading, cancel the handlers, write what is queued for at most
    `drain_timeout` seconds, close. So it is when the caller cancels, too.
    """
    drain_timeout = application.settings.drain_timeout
    outbox = Outbox(application.settings.log_buffer)
    connection = Connection(outbox, principal)
    reading = trio.CancelScope()
    # Shielded so that answers leave although the session is being cancelled; the deadline is
    # set as soon as the handlers are done.
    writing = trio.CancelScope(shield=True)

    async def write() -> None:
        try:
            await _write(outbox, transport, writing)
        finally:
            reading.cancel()
            await _close(transport, drain_timeout)  # noqa: ASYNC102  # shielded there

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            async with trio.open_nursery() as handlers:
                session = ServerSession(application, connection, handlers)
                with reading:
                    await _read(session, transport)
                handlers.cancel_scope.cancel()
        finally:
            connection.lose()
            outbox.close()
            writing.deadline = trio.current_time() + drain_timeout


async def serve_request(
    application: Application, request: Request, exchange: Exchange, principal: str | None = None
) -> None:
    """Serve one request until its answer is written or its client has gone; checkpoints.

    When the caller cancels, the handler is cancelled, and what it answers is written for
    at most `drain_timeout` seconds.
    """
    drain_timeout = application.settings.drain_timeout
    outbox = Outbox(application.settings.log_buffer)
    # As in `serve_transport`; here the deadline is set when the handler is done, if nobody waits.
    writing = trio.CancelScope(shield=True)
    is_answered = is_leaving = False

    def note_answered() -> None:
        nonlocal is_answered
        is_answered = True
        outbox.close()
        if is_leaving:
            writing.deadline = trio.current_time() + drain_timeout

    def leave() -> None:
        nonlocal is_leaving
        is_leaving = True
        if is_answered:
            writing.deadline = trio.current_time() + drain_timeout

    async def watch() -> None:
        try:
            await exchange.wait_gone()
            session.withdraw()
        finally:
            leave()

    connection = Connection(outbox, principal, on_answered=note_answered)
    async with trio.open_nursery() as nursery:
        session = ServerSession(application, connection, nursery)
        session.accept(request, connection)
        try:
            # Most calls are answered before it would pay to watch the client.
            for _ in range(ROUNDS_UNWATCHED):
                if is_answered:
                    break
                await trio.lowlevel.checkpoint()
            else:
                nursery.start_soon(watch)
        except trio.Cancelled:
            leave()
            raise
        finally:
            await _write(outbox, exchange, writing)  # noqa: ASYNC102  # shielded there
            if not exchange.has_ended:
                await _close(exchange, drain_timeout)  # noqa: ASYNC102  # shielded there
            connection.lose()
            session.withdraw()
            nursery.cancel_scope.cancel()


async def _write(outbox: Outbox, sink: FrameSink, writing: trio.CancelScope) -> None:
    """Write until `outbox` is closed and empty, or the peer is gone; checkpoints."""
    try:
        with writing:
            await outbox.write(sink)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        logger.debug("the peer is gone")


async def _close(wire: FrameTransport | Exchange, drain_timeout: float) -> None:
    """Close the wire, although the session is being cancelled; checkpoints."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + drain_timeout):
        await wire.aclose()


async def _read(session: ServerSession, transport: FrameTransport) -> None:
    connection = session.connection
    outbox = connection.outbox

    def accept(frames: Sequence[InFrame]) -> bool:
        for frame in frames:
            session.accept(frame, connection)
        return outbox.is_crowded

    try:
        if isinstance(transport, DirectTransport):
            await transport.deliver_frames(accept, outbox.wait_room)
        while True:
            accept(await transport.receive_frames())
            await outbox.wait_room()
    except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
