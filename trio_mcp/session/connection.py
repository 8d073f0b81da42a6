"""A server's wires to one client, and the requests that the server sends by them.

Owns which outbox a message leaves by, and the table of the server's own open requests. Refuses to
know methods: whether a client may be asked for something is decided by the caller.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import trio

from trio_mcp.errors import ConnectionLost, ProtocolError
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import INVALID_REQUEST
from trio_mcp.wire.frames import ErrorObject, ErrorResponse, Notification, Request, RequestId, Response

if TYPE_CHECKING:  # a server whose clients nobody authenticates starts without them
    from trio_mcp.session.permit import Permit
    from trio_mcp.session.principal import Principal

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Answer: TypeAlias = Response | ErrorResponse


class _Client:
    """The state that all wires to one client share."""

    __slots__ = ("asked", "is_lost", "on_lost", "peer", "questions", "session_id")

    def __init__(self, peer: str | None) -> None:
        self.peer = peer
        self.session_id: str | None = None
        self.questions = 0
        self.asked: dict[RequestId, _Asked] = {}
        self.is_lost = False
        self.on_lost: Callable[[ServerConnection], None] | None = None

    def has_asked(self, ident: object) -> bool:
        """Whether `ident` is, or was, that of a question."""
        if not isinstance(ident, str):
            return False
        prefix, _, number = ident.partition("-")
        is_number = number.isascii() and number.isdigit() and len(number) < 20
        return prefix == "server" and is_number and 0 < int(number) <= self.questions


class ServerConnection:
    """A wire to one client, as long as it is connected.

    `outbox` holds what leaves by this wire. If the wire ends with the first answer, as an HTTP
    response does, `on_answered` is called at that answer, and later messages leave by `home`.
    If the client has only one wire, `home` is the connection itself.
    """

    __slots__ = (
        "_client",
        "_on_answered",
        "headers",
        "home",
        "is_heard",
        "on_heard",
        "outbox",
        "pause",
        "permit",
    )

    def __init__(
        self,
        outbox: Outbox,
        permit: Permit | None,
        *,
        on_answered: Callable[[], None] | None = None,
        home: ServerConnection | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
        peer: str | None = None,
    ) -> None:
        self.outbox = outbox
        self.permit = permit
        """With what the transport has let in what comes by this wire; None if it asks nobody who it is."""
        self.headers = headers
        """Of the HTTP request or the WebSocket handshake, by lower-case names."""
        self.home = self if home is None else home
        self._on_answered = on_answered
        self._client: _Client = _Client(peer) if home is None else home._client
        self.is_heard = True
        """Whether the client reads this wire now."""
        self.on_heard: Callable[[], None] | None = None
        """Called when `is_heard` changes."""
        self.pause: Callable[[float], None] | None = None
        """Closes the wire and asks the client to come back after so many seconds; None if it cannot."""

    def __repr__(self) -> str:
        kind = "home" if self.home is self else "branch"
        client = "lost" if self._client.is_lost else "heard" if self.is_heard else "not heard"
        open_questions = len(self._client.asked)
        return f"<ServerConnection {kind}, client {client}, {open_questions} open questions>"

    def branch(
        self, outbox: Outbox, headers: Mapping[str, str] = NO_HEADERS, permit: Permit | None = None
    ) -> ServerConnection:
        """Make another wire to the same client, which ends with the first answer.

        A request that comes by it may have a permit of its own, of the same principal.
        """
        permit = self.permit if permit is None else permit
        return ServerConnection(outbox, permit, on_answered=outbox.close, home=self.home, headers=headers)

    @property
    def ends_with_answer(self) -> bool:
        """Whether the wire ends with the first answer, as an HTTP response does."""
        return self._on_answered is not None

    @property
    def principal(self) -> Principal | None:
        """Whom the client acts for, as the transport has authenticated it, or None."""
        return None if self.permit is None else self.permit.principal

    @property
    def owner(self) -> str | None:
        """The name of the principal, to which belongs what the client makes; None without one."""
        return None if self.permit is None else self.permit.owner

    def lacks(self, scopes: Collection[str]) -> bool:
        """Whether the client may not use something that needs all `scopes`."""
        return self.permit is not None and self.permit.lacks(scopes)

    def require(self, scopes: Collection[str]) -> None:
        """Raise ProtocolError with all `scopes`, which something needs, if the client lacks any."""
        if self.permit is not None:
            self.permit.require(scopes)

    @property
    def peer(self) -> str | None:
        """The address of the client, if several wires may share it; None if the wire is the peer."""
        return self._client.peer

    @property
    def session_id(self) -> str:
        """An id of the client's session that cannot be guessed and never repeats; visible ASCII."""
        client = self._client
        if client.session_id is None:
            client.session_id = secrets.token_urlsafe(24)
        return client.session_id

    def note_heard(self, is_heard: bool) -> None:
        """Note whether the client reads this wire now."""
        self.is_heard = is_heard
        if self.on_heard is not None:
            self.on_heard()

    def note_answered(self) -> None:
        """Let the wire end after what is queued, if it ends with an answer."""
        if self._on_answered is not None:
            self._on_answered()

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any],
        on_answer: Callable[[Answer], object] | None = None,
    ) -> Any:
        """Send the client a request and wait for its result; checkpoints.

        `on_answer` is called with the answer as soon as it is read, so that of several clients the first
        can be told. Of two answers to one request the first counts.
        If the wait is cancelled, the client is told. Raises ConnectionLost, ProtocolError with
        the error that the client answered, and ValueError for parameters that are not JSON.
        """
        self._client.questions += 1
        ident = f"server-{self._client.questions}"
        frame = Request(ident, method, encode_json(dict(params)))
        if self._client.is_lost:
            raise ConnectionLost("the client is gone")
        asked = self._client.asked[ident] = _Asked(on_answer)
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
        return read_answer(asked.answer)

    def accept_answer(self, frame: Response | ErrorResponse) -> bool:
        """Hand an answer to the `ask` that waits for it; False if none does."""
        ident, waiting = frame.id, self._client.asked
        asked = None
        if isinstance(ident, (str, int)):
            asked = waiting.get(ident)
        if asked is None and len(waiting) == 1 and not self._client.has_asked(ident):
            # The client could not tell, or garbled, which question it was; if there is only one, we can.
            (asked,) = waiting.values()
            if isinstance(ident, (str, int)):
                reason = f"the client answered with the id {ident!r}, which no question has"
                frame = ErrorResponse(ErrorObject(INVALID_REQUEST, reason), ident)
        if asked is None or asked.answered.is_set():
            return False
        asked.answer = frame
        asked.answered.set()
        if asked.on_answer is not None:
            asked.on_answer(frame)
        return True

    def call_when_lost(self, function: Callable[[ServerConnection], None]) -> None:
        """Have `function` called with this connection when the client is gone; the last one counts."""
        self._client.on_lost = function

    @property
    def is_lost(self) -> bool:
        """Whether the client is gone."""
        return self._client.is_lost

    def watch_loss(self, function: Callable[[], None]) -> None:
        """Have `function` called as well when the client is gone, until `call_when_lost` replaces it."""
        before = self._client.on_lost

        def note(connection: ServerConnection) -> None:
            function()
            if before is not None:
                before(connection)

        self._client.on_lost = note

    def lose(self) -> None:
        """Note that the client is gone, and end every `ask` that waits for it."""
        self._client.is_lost = True
        if self._client.on_lost is not None:
            self._client.on_lost(self)
        for asked in self._client.asked.values():
            asked.answered.set()


class _Asked:
    __slots__ = ("answer", "answered", "on_answer")

    def __init__(self, on_answer: Callable[[Answer], object] | None) -> None:
        self.answered = trio.Event()
        self.answer: Answer | None = None
        self.on_answer = on_answer


def read_answer(frame: Answer) -> Any:
    """The result of an answer; raises ProtocolError if it is an error."""
    if isinstance(frame, ErrorResponse):
        data = None
        if not isinstance(frame.error.data, msgspec.UnsetType):
            data = msgspec.json.decode(frame.error.data)
        raise ProtocolError(frame.error.code, frame.error.message, data)
    return msgspec.json.decode(frame.result)
