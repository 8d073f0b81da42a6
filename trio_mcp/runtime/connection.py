"""A server's way to one client: what leaves, and what is asked of the client.

Owns the outbox and the table of requests that this server has sent. Knows no
method; who may be asked for what is the caller's business.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from trio_mcp.errors import ConnectionLost, ProtocolError
from trio_mcp.runtime.outbox import Outbox
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import ErrorResponse, Notification, OutFrame, Request, RequestId, Response


class Connection:
    """One client, as long as it is connected.

    `principal` is who the transport says it is, or None where nobody authenticates;
    `session_id` cannot be guessed and never repeats.
    """

    def __init__(self, outbox: Outbox, principal: str | None) -> None:
        self.outbox = outbox
        self.principal = principal
        self.session_id = secrets.token_urlsafe(24)
        self._ids = itertools.count(1)
        self._asked: dict[RequestId, _Asked] = {}
        self._lost = False

    @property
    def is_lost(self) -> bool:
        """Whether the client is gone."""
        return self._lost

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send the client a request and wait for its result; checkpoints.

        Leaving it by cancellation tells the client so. Raises ConnectionLost,
        ProtocolError with what the client answered, and ValueError for parameters
        that are not JSON.
        """
        ident = f"server-{next(self._ids)}"
        frame = Request(ident, method, encode_json(dict(params)))
        if self._lost:
            raise ConnectionLost("the client is gone")
        asked = self._asked[ident] = _Asked()
        self.outbox.put(frame)
        try:
            await asked.answered.wait()
        finally:
            del self._asked[ident]
            if asked.answer is None and not self._lost:
                cancelled = {"requestId": ident}
                self.outbox.put(Notification("notifications/cancelled", encode_value(cancelled)))
        if asked.answer is None:
            raise ConnectionLost("the client is gone")
        return _read_answer(asked.answer)

    def accept_answer(self, frame: Response | ErrorResponse) -> bool:
        """Hand an answer to whoever asked; False where nobody did."""
        ident = frame.id
        asked = None if ident is None or isinstance(ident, msgspec.UnsetType) else self._asked.get(ident)
        if asked is None:
            return False
        asked.answer = frame
        asked.answered.set()
        return True

    def notify(self, frame: OutFrame) -> None:
        """Send a frame that belongs to no request."""
        self.outbox.put(frame)

    def lose(self) -> None:
        """Note that the client is gone: who waits for it waits no longer."""
        self._lost = True
        for asked in self._asked.values():
            asked.answered.set()


class _Asked:
    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: Response | ErrorResponse | None = None


def _read_answer(frame: Response | ErrorResponse) -> Any:
    if isinstance(frame, ErrorResponse):
        data = None
        if not isinstance(frame.error.data, msgspec.UnsetType):
            data = msgspec.json.decode(frame.error.data)
        raise ProtocolError(frame.error.code, frame.error.message, data)
    return msgspec.json.decode(frame.result)
