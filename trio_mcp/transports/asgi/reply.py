"""One HTTP response over ASGI, whose head waits until it is known what comes first.

Owns the choice between a JSON body and an event stream, and the order in which things are
sent. Refuses to know methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Final, Literal

import msgspec
import trio

from trio_mcp.transports.asgi.guard import Denial, read_required_scopes
from trio_mcp.transports.asgi.types import Message, Send
from trio_mcp.wire.errors import METHOD_NOT_FOUND, MISSING_CLIENT_CAPABILITY, OVERLOADED, RETRY_AFTER
from trio_mcp.wire.frames import ErrorObject, ErrorResponse, OutFrame, Refusal, RequestId
from trio_mcp.wire.sse import KEEP_ALIVE

MOST_SECONDS: Final = 1e9
"""About thirty years: a longer time is a mistake, and no header says it."""

_REFUSED: Final = {METHOD_NOT_FOUND: 404}
_EVENTS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


def modern_status(answer: OutFrame) -> int:
    """The HTTP status of an answer that is sent as JSON (MCP streamable HTTP 2026-07-28)."""
    if isinstance(answer, Refusal):
        return _REFUSED.get(answer.error.code, 400)
    if isinstance(answer, ErrorResponse):
        if answer.error.code == MISSING_CLIENT_CAPABILITY:
            return 400
        if answer.error.code == OVERLOADED:
            return _read_overload(answer.error).status
    return 200


class _Overload(msgspec.Struct):
    status: Literal[200, 429, 503] = 200
    retry_after: float | None = msgspec.field(name=RETRY_AFTER, default=None)


def _read_overload(error: ErrorObject) -> _Overload:
    """What an error says of an overload; nothing if a handler has made it of its own."""
    if error.code != OVERLOADED or isinstance(error.data, msgspec.UnsetType):
        return _Overload()
    try:
        return msgspec.json.decode(error.data, type=_Overload)
    except msgspec.MsgspecError:
        return _Overload()


def retry_headers(answer: ErrorResponse) -> Mapping[str, str] | None:
    """The header that says when the request of `answer` may be sent again (RFC 9110, 10.2.3); None if never.

    Its value is in whole seconds, so that nobody comes too early.
    """
    seconds = _read_overload(answer.error).retry_after
    if seconds is None or not 0 <= seconds < MOST_SECONDS:
        return None
    return {"retry-after": str(math.ceil(seconds))}


def legacy_status(answer: OutFrame) -> int:
    """The HTTP status of an answer in a legacy session, where 404 would mean that the session has ended.

    Every answer to a request has a status of success, because clients read no other body
    (MCP transports 2025-11-25, "Sending Messages to the Server").
    """
    answers_nothing = isinstance(answer, ErrorResponse) and (answer.id is None or answer.id is msgspec.UNSET)
    return 400 if answers_nothing else 200


def error_body(code: int, reason: str, ident: RequestId | msgspec.UnsetType = msgspec.UNSET) -> bytes:
    """A JSON-RPC error answer, encoded."""
    return msgspec.json.encode(ErrorResponse(ErrorObject(code, reason), ident))


class Reply:
    """The response to one HTTP request; it has `headers` in any case."""

    __slots__ = ("_free", "_is_sending", "_wire", "demand", "has_begun", "has_ended", "headers")

    def __init__(self, send: Send, headers: Mapping[str, str] | None = None) -> None:
        self._wire = send
        self._is_sending = False
        self._free: trio.lowlevel.ParkingLot | None = None  # made by the first task that waits for its turn
        self.headers = dict(headers or {})
        self.demand: Callable[[Collection[str]], Denial | None] | None = None
        """What a guard answers to a request that lacks some scopes; None without a guard."""
        self.has_begun = False
        self.has_ended = False

    async def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send the whole response; a body is JSON. It is called once at most, and checkpoints."""
        self.has_begun = self.has_ended = True
        content = {"content-length": str(len(body)), **({"content-type": "application/json"} if body else {})}
        await self._start(status, {**content, **self.headers, **(headers or {})})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def answer_call(
        self, status: int, answer: OutFrame, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send the whole response to a request: its answer, `body` once encoded; checkpoints.

        If the answer is that the request needs other scopes, the guard may have a status and headers for it.
        """
        if isinstance(answer, ErrorResponse) and self.demand is not None:
            scopes = read_required_scopes(answer.error)
            denial = None if scopes is None else self.demand(scopes)
            if denial is not None:
                status, headers = denial.status, denial.headers
        await self.answer(status, body, headers)

    async def refuse(
        self,
        status: int,
        code: int,
        reason: str,
        *,
        ident: RequestId | msgspec.UnsetType = msgspec.UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with a JSON-RPC error; checkpoints."""
        await self.answer(status, error_body(code, reason, ident), headers)

    async def send_events(self, chunk: bytes, *, last: bool = False) -> None:
        """Send a part of the event stream, which begins with the first; checkpoints."""
        while self._is_sending:  # a keep-alive is being sent
            if self._free is None:
                self._free = trio.lowlevel.ParkingLot()
            await self._free.park()
        self._is_sending = True
        try:
            if self.has_ended:
                return
            self.has_ended = last
            if not self.has_begun:
                self.has_begun = True
                await self._start(200, {**_EVENTS, **self.headers})
            await self._send({"type": "http.response.body", "body": chunk, "more_body": not last})
        finally:
            self._is_sending = False
            if self._free is not None:
                self._free.unpark()

    async def keep_alive(self, opening: bytes = b"") -> None:
        """Send a comment, behind `opening` if it begins the stream; checkpoints if it sends."""
        if not self._is_sending and not self.has_ended:
            await self.send_events(KEEP_ALIVE if self.has_begun else opening + KEEP_ALIVE)

    async def end(self) -> None:
        """End the event stream, unless the response has ended. Checkpoints if it sends."""
        await self.send_events(b"", last=True)

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _send(self, message: Message) -> None:
        try:
            await self._wire(message)
        except OSError:  # ASGI: the client is gone, which `receive` tells too
            self.has_ended = True
            await trio.lowlevel.checkpoint()
