"""A server's wires to one client: what leaves by which, and what is asked of the client.

Owns the choice of the outbox and the table of requests that this server has sent. Knows no
method; who may be asked for what is the caller's business.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from trio_mcp.errors import ConnectionLost, ProtocolError
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import ErrorResponse, Notification, Request, RequestId, Response


class _Client:
    """What all wires to one client have in common."""

    __slots__ = ("asked", "is_lost", "principal", "questions", "session_id")

    def __init__(self, principal: str | None) -> None:
        self.principal = principal
        self.session_id: str | None = None
        self.questions = 0
        self.asked: dict[RequestId, _Asked] = {}
        self.is_lost = False


class ServerConnection:
    """A wire to one client, as long as it is connected.

    `outbox` is what leaves by this wire. Where it ends with the first answer, as an HTTP
    response does, `on_answered` is called then; what goes on after it leaves by `home`,
    which is the connection itself where there is only one wire.
    """

    __slots__ = ("_client", "_on_answered", "home", "is_heard", "on_heard", "outbox", "pause")

    def __init__(
        self,
        outbox: Outbox,
        principal: str | None,
        *,
        on_answered: Callable[[], None] | None = None,
        home: ServerConnection | None = None,
    ) -> None:
        self.outbox = outbox
        self.home = self if home is None else home
        self._on_answered = on_answered
        self._client: _Client = _Client(principal) if home is None else home._client
        self.is_heard = True
        """Whether somebody is at the other end of the wire now."""
        self.on_heard: Callable[[], None] | None = None
        """Called when that changes."""
        self.pause: Callable[[float], None] | None = None
        """Closes the wire for so many seconds, after which the client comes back, where it can."""

    def __repr__(self) -> str:
        kind = "home" if self.home is self else "branch"
        client = "lost" if self._client.is_lost else "heard" if self.is_heard else "not heard"
        open_questions = len(self._client.asked)
        return f"<ServerConnection {kind}, client {client}, {open_questions} open questions>"

    def branch(self, outbox: Outbox) -> ServerConnection:
        """Another wire to the same client, which ends with the first answer."""
        return ServerConnection(outbox, self.principal, on_answered=outbox.close, home=self.home)

    @property
    def principal(self) -> str | None:
        """Who the transport says the client is, or None where nobody authenticates."""
        return self._client.principal

    @property
    def session_id(self) -> str:
        """Cannot be guessed and never repeats; visible ASCII."""
        client = self._client
        if client.session_id is None:
            client.session_id = secrets.token_urlsafe(24)
        return client.session_id

    def note_heard(self, is_heard: bool) -> None:
        """Note whether somebody is at the other end of the wire now."""
        self.is_heard = is_heard
        if self.on_heard is not None:
            self.on_heard()

    def note_answered(self) -> None:
        """Let the wire end behind what is queued, if it ends with an answer."""
        if self._on_answered is not None:
            self._on_answered()

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Send the client a request and wait for its result; checkpoints.

        Leaving it by cancellation tells the client so. Raises ConnectionLost,
        ProtocolError with what the client answered, and ValueError for parameters
        that are not JSON.
        """
        self._client.questions += 1
        ident = f"server-{self._client.questions}"
        frame = Request(ident, method, encode_json(dict(params)))
        if self._client.is_lost:
            raise ConnectionLost("the client is gone")
        asked = self._client.asked[ident] = _Asked()
        self.outbox.put(frame)
        try:
            await asked.answered.wait()
        finally:
            del self._client.asked[ident]
            if asked.answer is None and not self._client.is_lost:
                cancelled = {"requestId": ident}
                self.outbox.put(Notification("notifications/cancelled", encode_value(cancelled)))
        if asked.answer is None:
            raise ConnectionLost("the client is gone")
        return _read_answer(asked.answer)

    def accept_answer(self, frame: Response | ErrorResponse) -> bool:
        """Hand an answer to whoever asked; False where nobody did."""
        ident = frame.id
        if ident is None or isinstance(ident, msgspec.UnsetType):
            return False
        asked = self._client.asked.get(ident)
        if asked is None:
            return False
        asked.answer = frame
        asked.answered.set()
        return True

    def lose(self) -> None:
        """Note that the client is gone: who waits for it waits no longer."""
        self._client.is_lost = True
        for asked in self._client.asked.values():
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
