"""The response to one modern request over HTTP.

Owns the watch for the client's disconnect, which cancels the request (MCP streamable
HTTP 2026-07-28, "Cancellation"), and keep-alives. Refuses to know methods.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import trio

from trio_mcp.transports.asgi.reply import Reply, modern_status, retry_headers
from trio_mcp.transports.asgi.request import wait_disconnect
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.frames import ErrorResponse, OutFrame, RequestId, Response
from trio_mcp.wire.sse import encode_events


class ModernResponse:
    """Sends the messages of the request `ident`, and ends with its answer."""

    __slots__ = ("_ident", "_receive", "_reply", "_settings")

    def __init__(self, ident: RequestId, receive: Receive, reply: Reply, settings: HttpSettings) -> None:
        self._ident = ident
        self._receive = receive
        self._reply = reply
        self._settings = settings

    @property
    def has_ended(self) -> bool:
        """Whether the response is complete."""
        return self._reply.has_ended

    def wait_gone(self) -> Awaitable[None]:
        """Wait until the client has gone; checkpoints."""
        return watch(self._receive, self._reply, self._settings)

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Send an answer that comes alone as JSON, and everything else as events; checkpoints."""
        last = frames[-1]
        is_answer = isinstance(last, (Response, ErrorResponse)) and last.id == self._ident
        if is_answer and len(frames) == 1 and not self._reply.has_begun:
            body = encode_messages(frames)[0]
            if isinstance(last, ErrorResponse):
                await self._reply.answer_call(modern_status(last), last, body, retry_headers(last))
            else:
                await self._reply.answer(200, body)
        else:
            await self._reply.send_events(encode_events(frames), last=is_answer)

    async def aclose(self) -> None:
        """End the response; checkpoints."""
        if self._reply.has_begun:
            await self._reply.end()
        else:
            await self._reply.refuse(503, INTERNAL_ERROR, "the server is shutting down", ident=self._ident)


async def watch(receive: Receive, reply: Reply, settings: HttpSettings, opening: bytes = b"") -> None:
    """Wait until the client has gone, and keep a quiet response alive meanwhile; checkpoints.

    A response without a message for `quiet_timeout` becomes an event stream, which begins with
    `opening`.
    """
    while True:
        with trio.move_on_after(settings.keep_alive if reply.has_begun else settings.quiet_timeout):
            await wait_disconnect(receive)
            return
        if await _keep_alive(receive, reply, opening):
            return


async def _keep_alive(receive: Receive, reply: Reply, opening: bytes) -> bool:
    """Send a keep-alive; True if the client has gone meanwhile, without reading it. Checkpoints."""
    has_gone = False
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await reply.keep_alive(opening)
            nursery.cancel_scope.cancel()

        nursery.start_soon(send)
        await wait_disconnect(receive)
        has_gone = True
        nursery.cancel_scope.cancel()
    return has_gone
