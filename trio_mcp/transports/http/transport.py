"""Frames to and from a server behind a URL (MCP transports, "Streamable HTTP"), in both eras.

Owns which POST carries what: every message is one, and the answer to a request comes
back on it. Of methods it knows those on which HTTP itself acts: `initialize`,
`notifications/initialized` and `notifications/cancelled`.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.outgoing.transport import Accept, WaitRoom
from trio_mcp.session.direct_reader import DirectReader
from trio_mcp.transports.http.legacy_session import CLOSE_SECONDS, HttpSession, flatten
from trio_mcp.transports.http.pending_request import PendingRequest, let_read
from trio_mcp.transports.http.response import HttpResponse, UnreachableError
from trio_mcp.transports.http.server_url import ServerUrl, open_endpoint
from trio_mcp.wire.codec import decode_message, encode_message, encode_messages, encode_value
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, PARSE_ERROR
from trio_mcp.wire.frames import (
    ErrorObject,
    ErrorResponse,
    InFrame,
    Lost,
    Malformed,
    Notification,
    OutFrame,
    ProgressRun,
    Request,
    RequestId,
    Response,
)
from trio_mcp.wire.http import JSON, SESSION_HEADER, VERSION_HEADER, parameter_headers, standard_headers
from trio_mcp.wire.messages import CallToolParams, CancelledParams

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger("trio_mcp")

READ_AHEAD: Final = 16
"""How many portions of all streams together may wait for the reader before sockets are left full."""

LINGER_SECONDS: Final = 2.0
"""How long a stream may stay open behind its answer; one that ends by then is used again."""

ACCEPT_SECONDS: Final = 30.0
"""How long a server may take to accept a message that has no answer."""

REFUSE_SECONDS: Final = 5.0
"""How long a server that has ended a session may take to refuse what else was asked in it."""

CANCEL_SECONDS: Final = 5.0
"""How long a legacy call that was cancelled may still be answered."""


class HttpTransport:
    """Frames to one endpoint; made by `open_http_transport`.

    `parameter_headers` says which arguments of which tool are mirrored into headers
    (MCP transports, "Custom Headers from Tool Parameters"): tool name to header name
    to property path. Whoever lists the tools keeps it.
    """

    def __init__(self, endpoint: ServerUrl, nursery: trio.Nursery) -> None:
        self._endpoint = endpoint
        self._nursery = nursery
        self.origin = endpoint.origin
        self.parameter_headers: dict[str, Mapping[str, tuple[str, ...]]] = {}
        self._send, self._receive = trio.open_memory_channel[list[InFrame]](READ_AHEAD)
        self._reader: DirectReader | None = None
        self._session = HttpSession(endpoint, nursery, self._deliver_main)
        self._pending: dict[RequestId, PendingRequest] = {}
        self._unsent = 0  # messages without an answer that are on their way
        self._all_sent = trio.lowlevel.ParkingLot()
        self._closed = False

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Start a POST for each of `frames`; their order is kept where it matters. Checkpoints."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError
        for frame in frames:
            self.send_now(frame)
        await trio.lowlevel.checkpoint()  # behind, so that the tasks have their first turn in the same round

    def send_now(self, frame: OutFrame) -> bool:
        """Start a POST for `frame`; False where the transport is closed."""
        if self._closed:
            return False
        if isinstance(frame, Request):
            self._start(frame)
        elif isinstance(frame, Notification) and frame.method == "notifications/cancelled":
            self._cancel(frame)
        else:
            self._unsent += 1
            self._nursery.start_soon(self._post, frame)
        return True

    async def deliver_frames(self, accept: Accept, wait_room: WaitRoom) -> None:
        """Let `accept` take what comes in the task that has read it; see `DirectTransport`."""
        reader = DirectReader(accept, wait_room)
        try:
            while self._receive.statistics().current_buffer_used:
                if accept(await self.receive_frames()):
                    await wait_room()
            self._reader = reader
            await reader.run(self._receive.receive)  # until it is closed
        finally:
            self._reader = None

    async def receive_frames(self) -> Sequence[InFrame]:
        """Take what has come in one go; checkpoints. While it is not called, sockets are not read."""
        frames = await self._receive.receive()  # whose list is nobody else's
        try:
            for _ in range(READ_AHEAD):
                frames += self._receive.receive_nowait()
        except trio.WouldBlock:
            pass
        return frames

    async def aclose(self) -> None:
        """Let what is on its way leave, end every exchange and the session; bounded, checkpoints."""
        self._closed = True
        try:
            with trio.move_on_after(CLOSE_SECONDS):
                await trio.lowlevel.checkpoint()
                for pending in list(self._pending.values()):
                    if not pending.is_cancelled:
                        await pending.sent.wait()
                if self._unsent:
                    await self._all_sent.park()
            for pending in self._pending.values():
                pending.is_cancelled = True
                pending.scope.cancel()
            await self._session.aclose()
        finally:
            self._nursery.cancel_scope.cancel()  # first, so that none of its tasks finds a closed channel
            self._send.close()
            self._receive.close()

    def _start(self, request: Request) -> None:
        headers = standard_headers(request)
        if VERSION_HEADER not in headers:
            headers = {}
        pending = PendingRequest(request, headers)
        self._pending[request.id] = pending
        if request.method == "initialize":
            self._session.begin(request)
        self._nursery.start_soon(self._run, pending)

    def _cancel(self, frame: Notification) -> None:
        """Cancel a request the way its era does; one that is no longer in flight needs nothing."""
        if isinstance(frame.params, msgspec.UnsetType):
            return
        ident = msgspec.json.decode(frame.params, type=CancelledParams).request_id
        pending = self._pending.get(ident)
        if pending is None or pending.is_over:
            return
        pending.is_cancelled = True
        if pending.is_modern or not pending.is_started:
            pending.scope.cancel()  # closing the stream is the cancellation
        else:
            pending.scope.deadline = trio.current_time() + CANCEL_SECONDS
            self._unsent += 1
            self._nursery.start_soon(self._post, frame, pending.sent)

    async def _run(self, pending: PendingRequest) -> None:
        """Carry one request to its answer, or to the reason why there is none."""
        try:
            with pending.scope:
                if pending.is_modern:
                    await self._ask(pending, self._mirror(pending))
                else:
                    await self._ask_in_session(pending)
        except UnreachableError as error:
            pending.failure = str(error)
        except _UnmirroredError as error:
            await self._deliver(pending, [ErrorResponse(ErrorObject(INVALID_PARAMS, str(error)))])
        finally:
            self._pending.pop(pending.request.id, None)
            pending.sent.set()  # or never will be; what waits for it need not
            if pending.request.method == "initialize" and self._session.version is None:
                self._session.abandon()
        if not pending.is_over:
            reason = pending.failure or f"{self._endpoint.url} ended the stream before the answer"
            await self._hand_over([Lost((pending.request.id,), reason)])

    def _mirror(self, pending: PendingRequest) -> Mapping[str, str]:
        """The headers of a modern request, its mirrored arguments among them."""
        request = pending.request
        if request.method != "tools/call" or not self.parameter_headers:
            return pending.headers
        params = msgspec.json.decode(request.params, type=CallToolParams)  # type: ignore[arg-type]
        paths = self.parameter_headers.get(params.name)
        if not paths or isinstance(params.arguments, msgspec.UnsetType):
            return pending.headers
        try:
            return {**pending.headers, **parameter_headers(paths, msgspec.json.decode(params.arguments))}
        except ValueError as error:
            raise _UnmirroredError(f"tool {params.name!r} cannot be called over HTTP: {error}") from None

    async def _ask_in_session(self, pending: PendingRequest) -> None:
        """Send a legacy request; once more in a new session where the server has ended the old one."""
        is_handshake = pending.request.method == "initialize"
        if not is_handshake:
            await self._session.wait_ready()
        generation = self._session.generation
        try:
            await self._ask(pending, {} if is_handshake else self._session.headers())
            if pending.is_refused and not pending.is_over:
                pending.failure, pending.scope.deadline = None, math.inf  # see `_lose_session`
                await self._session.renew(generation, self._lose_session)
            if pending.is_refused and not pending.is_over:
                pending.is_refused = False
                await self._ask(pending, self._session.headers())
        except UnreachableError:
            if pending.position.last_event_id is None:
                raise
        if pending.is_refused:
            raise UnreachableError(f"{self._endpoint.url} ended the session, and the new one as well")
        if not pending.is_over and pending.position.last_event_id is not None:
            deliver = partial(self._deliver_events, pending)
            await self._session.resume(pending.position, deliver, lambda: pending.is_over)

    def _lose_session(self) -> None:
        """Fail what was asked in a session that is gone; what it refused is asked again."""
        for pending in self._pending.values():
            if pending.is_started and not (pending.is_modern or pending.is_refused or pending.is_over):
                pending.failure = f"{self._endpoint.url} has ended the session"
                grace = 0 if pending.is_begun else REFUSE_SECONDS
                pending.scope.deadline = trio.current_time() + grace

    async def _ask(self, pending: PendingRequest, headers: Mapping[str, str]) -> None:
        request = pending.request
        pending.is_started = True
        async with self._endpoint.ask("POST", headers, encode_message(request), pending.sent) as answer:
            if answer.code == 404 and SESSION_HEADER in headers:
                pending.is_refused = True
                return
            pending.is_begun = True
            pending.answer = answer
            if request.method == "initialize" and answer.is_success:
                self._session.note_answer(answer)
            if answer.is_stream:
                await answer.read_events(pending.position, partial(self._deliver_events, pending))
            else:
                await self._deliver(pending, [await self._read_answer(pending, answer)])

    async def _read_answer(self, pending: PendingRequest, answer: HttpResponse) -> InFrame:
        """The one message that answers a request; an HTTP error that holds none becomes one."""
        ident = pending.request.id
        body = await answer.read_body()
        if body is None:
            return Malformed(PARSE_ERROR, f"an answer longer than {self._endpoint.limit} bytes", ident)
        is_answer = answer.is_success and answer.content_type == JSON and body.strip()
        frame = decode_message(body)
        if is_answer and isinstance(frame, Malformed):
            return Malformed(frame.code, frame.reason, ident)
        if isinstance(frame, ErrorResponse):
            # Whatever its id says: servers that could not tell which request it was make one up.
            return ErrorResponse(frame.error, ident)
        if is_answer:
            return frame
        message = f"{self._endpoint.url} answered {answer.status} to {pending.request.method}"
        if answer.is_success:
            message += f" with a body of type {answer.content_type or 'unknown'}"
        data = encode_value({"status": answer.code})
        return ErrorResponse(ErrorObject(INTERNAL_ERROR, message, data), ident)

    async def _deliver_events(self, pending: PendingRequest, frames: list[InFrame]) -> None:
        """Hand over what came on a stream, which may stay open for a while behind the answer."""
        await self._deliver(pending, frames)
        if pending.is_answered:
            pending.scope.deadline = trio.current_time() + LINGER_SECONDS

    async def _deliver(self, pending: PendingRequest, frames: list[InFrame]) -> None:
        """Hand over what came for `exchange`; checkpoints where the reader is behind."""
        if pending.is_modern and pending.is_over:
            return
        frames = self._read_frames(pending, flatten(frames))
        if not pending.is_modern and any(
            isinstance(frame, ProgressRun) and frame.token != pending.request.id for frame in frames
        ):
            await let_read(self._session.main)
        await self._hand_over(frames)

    async def _deliver_main(self, frames: list[InFrame]) -> None:
        """Hand over what came on the stream of a session."""
        for frame in frames:
            pending = self._pending.get(frame.token) if isinstance(frame, ProgressRun) else None
            if pending is not None:
                await let_read(pending.answer)
        await self._hand_over(frames)

    async def _hand_over(self, frames: list[InFrame]) -> None:
        reader = self._reader
        if reader is None:
            await self._send.send(frames)
            return
        while not reader.has_room:
            await reader.wait_room()
        reader.take(frames)

    def _read_frames(self, pending: PendingRequest, frames: list[InFrame]) -> list[InFrame]:
        """The frames as the session is to see them; notes the answer if it is among them."""
        ident = pending.request.id
        taken: list[InFrame] = []
        for frame in frames:
            if isinstance(frame, Malformed) and frame.lost:
                # What could not be kept may have been this request's answer, but no other's.
                frame = Malformed(frame.code, frame.reason, ident)
            elif isinstance(frame, ErrorResponse) and not isinstance(frame.id, (int, str)):
                frame = ErrorResponse(frame.error, ident)
            elif isinstance(frame, Request) and pending.is_modern:
                # Nor could it be answered (MCP 2026-07-28 transports, "Receiving Messages").
                logger.warning("%s asked for %s, as no modern server may", self._endpoint.url, frame.method)
                continue
            taken.append(frame)
            if isinstance(frame, (Response, ErrorResponse, Malformed)) and frame.id == ident:
                pending.is_answered = True
                if pending.request.method == "initialize" and isinstance(frame, Response):
                    self._session.agree(frame)
                if pending.is_modern:
                    break  # nothing may follow
        return taken

    async def _post(self, frame: OutFrame, after: trio.Event | None = None) -> None:
        """Send a message that has no answer, behind the request that it is about."""
        is_handshake = isinstance(frame, Notification) and frame.method == "notifications/initialized"
        try:
            if after is not None:
                await after.wait()
            elif isinstance(frame, Notification) and not is_handshake:
                await self._session.wait_ready()
            with trio.move_on_after(ACCEPT_SECONDS):
                if await self._post_messages(frame) and is_handshake:
                    assert isinstance(frame, Notification), "the end of the handshake is one"
                    self._session.establish(frame)
        except UnreachableError as error:
            logger.warning("a message was not sent: %s", error)
        finally:
            if is_handshake:
                self._session.abandon()
            self._unsent -= 1
            if not self._unsent:
                self._all_sent.unpark_all()

    async def _post_messages(self, frame: OutFrame) -> bool:
        """Send a frame and tell whether the server has accepted all of it."""
        for body in encode_messages([frame]):
            async with self._endpoint.ask("POST", self._session.headers(), body) as answer:
                if not answer.is_success:
                    logger.warning("%s answered %s to a message", self._endpoint.url, answer.status)
                    return False
        return True


class _UnmirroredError(Exception):
    """Arguments that no header can mirror."""


@asynccontextmanager
async def open_http_transport(
    url: str,
    *,
    max_frame_bytes: int,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    http_client: httpx2.AsyncClient | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpTransport]:
    """A transport to the MCP endpoint `url` for as long as the block lasts; checkpoints.

    `headers` go with every request, `auth` is what httpx2 takes for it. `http_client` is
    used and left open; it must allow as many connections as there are calls at a time.
    Nothing is sent before the first frame. Raises ValueError for what is no URL, and
    TypeError for what are no headers.
    """
    async with (
        open_endpoint(
            url,
            limit=max_frame_bytes,
            headers=headers,
            auth=auth,
            http_client=http_client,
            ssl_context=ssl_context,
        ) as endpoint,
        open_unwrapping_nursery() as nursery,
    ):
        transport = HttpTransport(endpoint, nursery)
        try:
            yield transport
        finally:
            # Shielded: cancellations still leave and the session still ends; each step is bounded.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 3 * CLOSE_SECONDS):
                await transport.aclose()
