"""Messages that have no answer: notifications of the client, and its answers to the server's requests.

Owns when each is sent, and how many are under way. Refuses to know what becomes of requests.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from trio_mcp.transports.http.endpoint import HttpEndpoint
from trio_mcp.transports.http.legacy_session import HttpSession
from trio_mcp.transports.http.response import UnreachableError
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.frames import Notification, OutFrame

logger = logging.getLogger("trio_mcp.transports")

ACCEPT_SECONDS: Final = 30.0
"""How long a server may take to accept a message that has no answer."""


class MessageSender:
    """Sends messages without an answer, each in a task of `nursery`; `unsent` are under way."""

    def __init__(self, endpoint: HttpEndpoint, nursery: trio.Nursery, session: HttpSession) -> None:
        self._endpoint = endpoint
        self._nursery = nursery
        self._session = session
        self._all_sent = trio.lowlevel.ParkingLot()
        self.unsent = 0

    def start(self, frame: OutFrame, after: trio.Event | None = None) -> None:
        """Send `frame` soon: once `after` is set, or else once the session lets messages pass."""
        self.unsent += 1
        self._nursery.start_soon(self._send, frame, after)

    async def wait_all_sent(self) -> None:
        """Wait until nothing is under way; checkpoints if something is."""
        if self.unsent:
            await self._all_sent.park()

    async def _send(self, frame: OutFrame, after: trio.Event | None) -> None:
        is_handshake = isinstance(frame, Notification) and frame.method == "notifications/initialized"
        try:
            if after is not None:
                await after.wait()
            elif isinstance(frame, Notification) and not is_handshake:
                await self._session.wait_ready()
            with trio.move_on_after(ACCEPT_SECONDS):
                if await self._post(frame) and is_handshake:
                    assert isinstance(frame, Notification), "the end of the handshake is one"
                    self._session.establish(frame)
        except UnreachableError as error:
            logger.warning("a message was not sent: %s", error)
        finally:
            if is_handshake:
                self._session.abandon()
            self.unsent -= 1
            if not self.unsent:
                self._all_sent.unpark_all()

    async def _post(self, frame: OutFrame) -> bool:
        """Send a frame and tell whether the server has accepted all of it."""
        for body in encode_messages([frame]):
            async with self._endpoint.ask("POST", self._session.headers(), body) as answer:
                if not answer.is_success:
                    logger.warning("%s answered %s to a message", self._endpoint.url, answer.status)
                    return False
        return True
