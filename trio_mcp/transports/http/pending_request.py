"""A request in flight over HTTP, and the states that it goes through.

Owns the table of these states. Owns no socket and sends nothing: the transport does, and says here what
has happened. The usual way is WAITING, ASKED, BEGUN, ANSWERED.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs
import trio

from trio_mcp.transports.http.response import HttpResponse, StreamPosition
from trio_mcp.wire.frames import InFrame, Request

CATCH_UP_ROUNDS: Final = 1000
"""How many scheduling rounds one stream waits for the reader of another, which may have to wait itself."""


class RequestState(enum.Enum):
    """How far a request has come."""

    WAITING = "not sent yet"
    ASKED = "sent"
    BEGUN = "being answered"
    REFUSED = "refused, because its session had ended"
    ANSWERED = "answered"
    CANCELLED = "cancelled"
    LOST = "ended without an answer"


class RequestEvent(enum.Enum):
    """What happens to a request."""

    ASK = "its POST begins"
    BEGIN = "the head of the answer has come, and is no refusal"
    REFUSE = "the server has ended the session that the request was sent in (404, or 400 that says so)"
    ANSWER = "its answer is handed over"
    CANCEL = "the client wants no answer any more"
    LOSE = "its streams have ended and there will be no answer"


TRANSITIONS: Final[Mapping[tuple[RequestState, RequestEvent], RequestState]] = {
    (RequestState.WAITING, RequestEvent.ASK): RequestState.ASKED,
    # Answered by the transport itself, if no header can mirror its arguments.
    (RequestState.WAITING, RequestEvent.ANSWER): RequestState.ANSWERED,
    (RequestState.WAITING, RequestEvent.CANCEL): RequestState.CANCELLED,
    (RequestState.WAITING, RequestEvent.LOSE): RequestState.LOST,
    (RequestState.ASKED, RequestEvent.BEGIN): RequestState.BEGUN,
    (RequestState.ASKED, RequestEvent.REFUSE): RequestState.REFUSED,
    (RequestState.ASKED, RequestEvent.CANCEL): RequestState.CANCELLED,
    (RequestState.ASKED, RequestEvent.LOSE): RequestState.LOST,
    (RequestState.BEGUN, RequestEvent.ANSWER): RequestState.ANSWERED,
    (RequestState.BEGUN, RequestEvent.CANCEL): RequestState.CANCELLED,
    (RequestState.BEGUN, RequestEvent.LOSE): RequestState.LOST,
    # Sent again in the session that replaces the one that has ended.
    (RequestState.REFUSED, RequestEvent.ASK): RequestState.ASKED,
    # There is no new session, so the refusal is the answer.
    (RequestState.REFUSED, RequestEvent.ANSWER): RequestState.ANSWERED,
    (RequestState.REFUSED, RequestEvent.CANCEL): RequestState.CANCELLED,
    (RequestState.REFUSED, RequestEvent.LOSE): RequestState.LOST,
    # A legacy call is cancelled by a notification, which its answer may cross.
    (RequestState.CANCELLED, RequestEvent.ANSWER): RequestState.ANSWERED,
}
"""An event that is not listed for a state leaves the request in it: for example a cancellation that comes
too late, or a head that comes after the cancellation."""

OVER: Final = (RequestState.ANSWERED, RequestState.CANCELLED, RequestState.LOST)
"""The states in which nothing more is waited for."""


@attrs.define(eq=False, repr=False)
class PendingRequest:
    """One request in flight; `note` changes its state."""

    request: Request
    headers: Mapping[str, str]
    """The headers that mirror a modern request; empty for a legacy one."""
    state: RequestState = RequestState.WAITING
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """The scope of the task that carries the request."""
    sent: trio.Event = attrs.field(factory=trio.Event)
    """Set when the request has been written, and at the latest when its task ends."""
    answer: HttpResponse | None = None
    """Its response, while that is read."""
    position: StreamPosition = attrs.field(factory=StreamPosition)
    refusal: InFrame | None = None
    """The error of a request that was refused as if its session had ended; None if that is sure (404)."""
    failure: str | None = None
    """Why there is no answer, if that is known."""

    def __repr__(self) -> str:
        return f"<PendingRequest {self.request.id!r} {self.request.method}: {self.state.value}>"

    @property
    def is_modern(self) -> bool:
        """Whether the request says its own protocol version, and so needs no session."""
        return bool(self.headers)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is waited for."""
        return self.state in OVER

    def note(self, event: RequestEvent) -> None:
        """Change the state as `TRANSITIONS` says; an event that is not listed there changes nothing."""
        self.state = TRANSITIONS.get((self.state, event), self.state)


async def let_read(earlier: HttpResponse | None) -> None:
    """Let the reader of another stream take what has come on it; checkpoints if there is something.

    The progress of a background task changes streams (MCP tasks 2025-11-25): a frame of the later
    stream must not overtake what was sent on the earlier one.
    """
    for _ in range(CATCH_UP_ROUNDS):
        if earlier is None or not earlier.has_unread():
            return
        await trio.lowlevel.checkpoint()
