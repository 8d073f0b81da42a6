"""Serving one wire: starts its reader and its writer, and ends them.

Owns the nursery of a session that has one wire, or of a request that has its own wire, and the
order in which things end in it. Refuses to know methods.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.transport import DirectTransport, FrameSink, FrameTransport
from trio_mcp.session.connection import NO_HEADERS, ServerConnection
from trio_mcp.session.server_session import Application, ServerSession
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.incoming_request import IncomingRequest

if TYPE_CHECKING:
    from trio_mcp.session.permit import Permit

logger = logging.getLogger("trio_mcp.session")

_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)

ROUNDS_UNWATCHED: Final = 4
"""How many scheduling rounds a request runs before a task watches for its client's disconnect."""


class RequestExchange(FrameSink, Protocol):
    """One request and its response: a transport that ends with the answer."""

    @property
    def has_ended(self) -> bool:
        """Whether the response is complete."""

    def wait_gone(self) -> Awaitable[None]:
        """Wait until the client has gone; checkpoints."""

    async def aclose(self) -> None:
        """End the response, also if there was no answer; checkpoints."""


async def serve_transport(
    application: Application,
    transport: FrameTransport,
    permit: Permit | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
    peer: str | None = None,
) -> None:
    """Serve until the peer closes its end or the connection breaks; then close. Checkpoints.

    When its permit ends, no further requests are taken, and it closes when those that run have ended.
    At the end, and also if the caller cancels, it stops reading, cancels the handlers, writes what
    is queued for at most `drain_timeout` seconds, and closes.
    """
    drain_timeout = application.settings.drain_timeout
    outbox = Outbox(application.settings.log_buffer, application.settings.turn_clock)
    connection = ServerConnection(outbox, permit, headers=headers, peer=peer)
    reading = trio.CancelScope()
    # Shielded so that answers leave although the session is being cancelled; the deadline is
    # set as soon as the handlers are done.
    writing = trio.CancelScope(shield=True)

    async def write() -> None:
        try:
            with writing:
                await outbox.write(transport)
        except _GONE:
            logger.debug("the peer is gone")
        finally:
            reading.cancel()
            await _close(transport, drain_timeout)  # noqa: ASYNC102  # shielded there

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            async with trio.open_nursery() as handlers:
                session = application.make_session(connection, handlers)
                if permit is not None and permit.ends_at != math.inf:
                    handlers.start_soon(_end_expired, session, permit.ends_at, reading)
                with reading:
                    await _read(session, transport)
                handlers.cancel_scope.cancel()
        finally:
            connection.lose()
            outbox.close()
            writing.deadline = trio.current_time() + drain_timeout


async def _end_expired(session: ServerSession, ends_at: float, reading: trio.CancelScope) -> None:
    await trio.sleep_until(ends_at)
    await session.run_out()
    reading.cancel()


async def serve_request(
    application: Application,
    request: IncomingRequest,
    exchange: RequestExchange,
    permit: Permit | None,
    headers: Mapping[str, str],
    scopes: set[trio.CancelScope],
    peer: str | None = None,
) -> None:
    """Serve one request until its answer is written or its client has gone; checkpoints.

    Meanwhile the scope of its nursery is in `scopes`. If that or the caller's is cancelled, the
    handler is cancelled, and its answer is written for at most `drain_timeout` seconds.
    """
    service = _RequestService(application, exchange)
    outbox = service.outbox
    connection = ServerConnection(
        outbox, permit, on_answered=service.note_answered, headers=headers, peer=peer
    )
    async with trio.open_nursery() as nursery:
        scopes.add(nursery.cancel_scope)
        session = application.make_session(connection, nursery)
        session.accept_request(request, connection)
        del request  # a call may take long: only its decoded parameters are kept
        try:
            # Most calls are answered before it would pay to watch the client.
            for _ in range(ROUNDS_UNWATCHED):
                if service.is_answered:
                    break
                await trio.lowlevel.checkpoint()
            else:
                nursery.start_soon(service.watch, session)
        except trio.Cancelled:
            service.leave()
            raise
        finally:
            try:
                with service.writing:
                    await outbox.write(exchange)  # noqa: ASYNC102  # shielded there
            except _GONE:
                logger.debug("the peer is gone")
            if not exchange.has_ended:
                await _close(exchange, service.drain_timeout)  # noqa: ASYNC102  # shielded there
            scopes.discard(nursery.cancel_scope)
            connection.lose()
            session.withdraw()
            nursery.cancel_scope.cancel()


class _RequestService:
    """The deadline of the writer of one request.

    It is set once there is an answer and the client may be gone.
    """

    __slots__ = ("_exchange", "_is_leaving", "drain_timeout", "is_answered", "outbox", "writing")

    def __init__(self, application: Application, exchange: RequestExchange) -> None:
        self._exchange = exchange
        self._is_leaving = False
        self.drain_timeout = application.settings.drain_timeout
        self.is_answered = False
        self.outbox = Outbox(application.settings.log_buffer, application.settings.turn_clock)
        # Shielded so that the answer leaves, as in `serve_transport`.
        self.writing = trio.CancelScope(shield=True)

    def note_answered(self) -> None:
        self.is_answered = True
        self.outbox.close()
        self._limit_writing()

    def leave(self) -> None:
        self._is_leaving = True
        self._limit_writing()

    def _limit_writing(self) -> None:
        if self.is_answered and self._is_leaving:
            self.writing.deadline = trio.current_time() + self.drain_timeout

    async def watch(self, session: ServerSession) -> None:
        """Wait until the client has gone, and withdraw its request; checkpoints."""
        try:
            await self._exchange.wait_gone()
            session.withdraw()
        finally:
            self.leave()


async def _close(wire: FrameTransport | RequestExchange, drain_timeout: float) -> None:
    """Close the wire even if the session is being cancelled; checkpoints."""
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
