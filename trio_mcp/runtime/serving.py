"""Serving one wire: read, write, shut down.

Owns the nursery of a session that has one wire, and the order in which it ends.
Knows no method.
"""

from __future__ import annotations

import logging

import trio

from trio_mcp.runtime.connection import Connection
from trio_mcp.runtime.outbox import Outbox
from trio_mcp.runtime.session import Application, ServerSession
from trio_mcp.runtime.transport import FrameTransport

logger = logging.getLogger("trio_mcp")


async def serve_transport(
    application: Application,
    transport: FrameTransport,
    principal: str | None = None,
    *,
    one_answer: bool = False,
) -> None:
    """Serve until the peer closes its end or the connection breaks; then close. Checkpoints.

    With `one_answer`, the wire ends behind the first answer. Shutdown: stop reading,
    cancel the handlers, write what is queued for at most `drain_timeout` seconds, close.
    So it is when the caller cancels, too; but a peer of a `one_answer` wire that has gone
    wants nothing more.
    """
    drain_timeout = application.settings.drain_timeout
    outbox = Outbox(application.settings.log_buffer)
    connection = Connection(outbox, principal, one_answer=one_answer)
    reading = trio.CancelScope()
    # Shielded so that answers leave although the session is being cancelled; the deadline is
    # set as soon as the handlers are done.
    writing = trio.CancelScope(shield=True)

    async def write() -> None:
        try:
            with writing:
                await outbox.write(transport)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("the peer is gone")
        finally:
            reading.cancel()
            # Shielded so that the transport closes although the session is being cancelled.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + drain_timeout):
                await transport.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            async with trio.open_nursery() as handlers:
                session = ServerSession(application, connection, handlers)
                with reading:
                    await _read(session, transport)
                    if one_answer:
                        session.withdraw()
                handlers.cancel_scope.cancel()
        finally:
            connection.lose()
            outbox.close()
            writing.deadline = trio.current_time() + drain_timeout


async def _read(session: ServerSession, transport: FrameTransport) -> None:
    connection = session.connection
    while True:
        try:
            frames = await transport.receive_frames()
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
            return
        for frame in frames:
            session.accept(frame, connection)
        await connection.outbox.wait_room()
