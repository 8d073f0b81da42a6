"""Frames to and from a server behind a URL (MCP transports, "Streamable HTTP"), in both eras.

A request goes this way: `send_now` makes a `PendingRequest` and starts its task (`_run`), which posts it
(`_ask`) and hands over each frame of the answer (`_deliver`). How far it has come is the table of states in
`pending_request.py`. Messages without an answer leave by `messages.py`.

Owns the requests in flight. Refuses to know how the server is asked (`server_url.py`), and of methods all
but those on which HTTP itself acts: `initialize`, `notifications/cancelled`.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from trio_mcp.concurrency.nursery import open_service_nursery
from trio_mcp.outgoing.transport import Accept, WaitRoom, WaitTaken
from trio_mcp.session.direct_reader import DirectReader
from trio_mcp.transports.http.answer_frames import claim_frames, read_answer, read_refusal
from trio_mcp.transports.http.endpoint import HttpEndpoint
from trio_mcp.transports.http.legacy_session import CLOSE_SECONDS, HttpSession, flatten
from trio_mcp.transports.http.messages import MessageSender
from trio_mcp.transports.http.pending_request import PendingRequest, RequestEvent, RequestState, let_read
from trio_mcp.transports.http.request_headers import UnmirroredError, mirror_arguments, mirror_request
from trio_mcp.transports.http.response import UnauthorizedError, UnreachableError, WastefulError
from trio_mcp.transports.http.server_url import open_endpoint
from trio_mcp.wire.codec import encode_message
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.frames import (
    ErrorObject,
    ErrorResponse,
    InFrame,
    Lost,
    Notification,
    OutFrame,
    ProgressRun,
    Request,
    RequestId,
    Response,
    as_number,
)
from trio_mcp.wire.http import SESSION_HEADER
from trio_mcp.wire.messages import CancelledParams

if TYPE_CHECKING:
    import httpx2

    from trio_mcp.transports.http.authorizer import Authorizer

READ_AHEAD: Final = 16
"""How many portions of all streams together may wait for the reader before sockets are left full."""

LINGER_SECONDS: Final = 2.0
"""How long a stream may stay open behind its answer; one that ends by then is used again."""

REFUSE_SECONDS: Final = 5.0
"""How long a server that has ended a session may take to refuse what else was asked in it."""

REPEATABLE: Final = frozenset(
    {
        *("server/discover", "ping", "tools/list", "logging/setLevel"),
        *("resources/list", "resources/templates/list", "prompts/list"),
        *("resources/subscribe", "resources/unsubscribe"),
        *("tasks/get", "tasks/list", "tasks/result", "tasks/cancel"),
    }
)
"""The requests that a server may receive twice without harm."""

CANCEL_SECONDS: Final = 5.0
"""How long a legacy call that was cancelled may still be answered."""


class HttpTransport:
    """Frames to one endpoint; made by `open_http_transport`.

    `parameter_headers` says which arguments of which tool are mirrored into headers
    (MCP transports, "Custom Headers from Tool Parameters"): tool name to header name
    to property path. Whoever lists the tools keeps it.
    """

    def __init__(self, endpoint: HttpEndpoint, nursery: trio.Nursery) -> None:
        self._endpoint = endpoint
        self._nursery = nursery
        self.origin = endpoint.origin
        self.parameter_headers: dict[str, Mapping[str, tuple[str, ...]]] = {}
        self._send, self._receive = trio.open_memory_channel[list[InFrame]](READ_AHEAD)
        self._reader: DirectReader | None = None
        self.wait_taken: WaitTaken | None = None
        self.handshake_status: int | None = None
        self._session = HttpSession(
            endpoint, nursery, self._deliver_main, self._note_unheard, self._note_silent
        )
        self.on_renewed: Callable[[], None] | None = None
        self.on_unheard: Callable[[str], None] | None = None
        self.on_silent: Callable[[str], None] | None = None
        self._messages = MessageSender(endpoint, nursery, self._session)
        self._pending: dict[RequestId, PendingRequest] = {}
        self._closed = False

    @property
    def pausing(self) -> Callable[[], AbstractContextManager[None]]:
        """What is entered while a person is asked to let the client in."""
        return self._endpoint.pausing

    @pausing.setter
    def pausing(self, pausing: Callable[[], AbstractContextManager[None]]) -> None:
        self._endpoint.pausing = pausing

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        counts = f"{len(self._pending)} requests and {self._messages.unsent} messages under way"
        return f"<HttpTransport to {self.origin}: {state}, {counts}>"

    # The frames of the client.

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Start a POST for each of `frames`; their order is kept where it matters. Checkpoints."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError
        for frame in frames:
            self.send_now(frame)
        await trio.lowlevel.checkpoint()  # behind, so that the tasks have their first turn in the same round

    def send_now(self, frame: OutFrame) -> bool:
        """Start a POST for `frame`; False if the transport is closed."""
        if self._closed:
            return False
        if isinstance(frame, Request):
            self._start(frame)
        elif isinstance(frame, Notification) and frame.method == "notifications/cancelled":
            self._cancel(frame)
        else:
            self._messages.start(frame)
        return True

    def _start(self, request: Request) -> None:
        pending = PendingRequest(request, mirror_request(request))
        self._pending[request.id] = pending
        if request.method == "initialize":
            self._session.begin(request)
        self._nursery.start_soon(self._run, pending)

    def _cancel(self, frame: Notification) -> None:
        """Cancel a request in the way of its era, unless it is no longer in flight."""
        if isinstance(frame.params, msgspec.UnsetType):
            return
        ident = msgspec.json.decode(frame.params, type=CancelledParams).request_id
        pending = self._pending.get(ident)
        if pending is None or pending.is_over:
            return
        is_unsent = pending.state is RequestState.WAITING
        pending.note(RequestEvent.CANCEL)
        if pending.is_modern or is_unsent:
            pending.scope.cancel()  # closing the stream is the cancellation
        else:
            pending.scope.deadline = trio.current_time() + CANCEL_SECONDS
            self._messages.start(frame, pending.sent)

    # The frames of the server.

    async def deliver_frames(self, accept: Accept, wait_room: WaitRoom) -> None:
        """Let `accept` take each frame in the task that has read it; see `DirectTransport`."""
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
        """Wait for frames and take all that have come; checkpoints. While nobody does, no socket is read."""
        frames = await self._receive.receive()  # a list that nobody else holds
        try:
            for _ in range(READ_AHEAD):
                frames += self._receive.receive_nowait()
        except trio.WouldBlock:
            pass
        return frames

    async def _deliver_events(self, pending: PendingRequest, frames: list[InFrame]) -> None:
        """Deliver frames of a request's stream, which may stay open for a while behind the answer."""
        await self._deliver(pending, frames)
        if pending.state is RequestState.ANSWERED:
            pending.scope.deadline = trio.current_time() + LINGER_SECONDS

    async def _deliver(self, pending: PendingRequest, frames: list[InFrame]) -> None:
        """Hand over what came for `pending`; checkpoints if the reader is behind."""
        is_modern = pending.is_modern
        if is_modern and pending.is_over:
            return
        frames, answer = claim_frames(
            flatten(frames), pending.request.id, self._pending, is_modern=is_modern, url=self._endpoint.url
        )
        if answer is not None:
            pending.note(RequestEvent.ANSWER)
            if pending.request.method == "initialize" and isinstance(answer, Response):
                self._session.agree(answer)
        if not is_modern and any(
            isinstance(frame, ProgressRun) and as_number(frame.token) != pending.request.id
            for frame in frames
        ):
            await let_read(self._session.main)
        await self._hand_over(frames)

    async def _deliver_main(self, frames: list[InFrame]) -> None:
        """Hand over what came on the stream of a session."""
        for frame in frames:
            pending = self._pending.get(as_number(frame.token)) if isinstance(frame, ProgressRun) else None
            if pending is not None:
                await let_read(pending.answer)
        await self._hand_over(frames, is_shared=True)

    async def _hand_over(self, frames: list[InFrame], *, is_shared: bool = False) -> None:
        reader = self._reader
        if reader is None:
            await self._send.send(frames)
            return
        while not reader.has_room:
            await reader.wait_room()
        reader.take(frames)
        waiting = None if self.wait_taken is None else self.wait_taken(is_shared=is_shared)
        if waiting is not None:
            await waiting

    # The life of a request.

    async def _run(self, pending: PendingRequest) -> None:
        """Carry one request to its answer, or to the reason why there is none."""
        is_unsent, unauthorized = False, None
        try:
            with pending.scope:
                if pending.is_modern:
                    headers = mirror_arguments(pending.request, pending.headers, self.parameter_headers)
                    await self._ask(pending, headers)
                else:
                    await self._ask_in_session(pending)
        except UnreachableError as error:
            pending.failure = str(error)
            # A request of which a part was written is none for the server; one that it refused was not done.
            is_unsent = not pending.sent.is_set() or pending.state is RequestState.REFUSED
            if isinstance(error, UnauthorizedError):
                unauthorized, is_unsent = error.failure, True
        except UnmirroredError as error:
            await self._deliver(pending, [ErrorResponse(ErrorObject(INVALID_PARAMS, str(error)))])
        finally:
            self._pending.pop(pending.request.id, None)
            pending.sent.set()  # if it was not sent, it never will be: nobody needs to wait for it
            if pending.request.method == "initialize" and self._session.version is None:
                self._session.abandon()
        if not pending.is_over:
            pending.note(RequestEvent.LOSE)
            reason = pending.failure or f"{self._endpoint.url} ended the stream before the answer"
            await self._hand_over([Lost((pending.request.id,), reason, is_unsent, unauthorized)])

    async def _ask(self, pending: PendingRequest, headers: Mapping[str, str]) -> None:
        """Send the request and deliver what is answered, unless its session turns out to have ended."""
        request = pending.request
        pending.note(RequestEvent.ASK)
        is_repeatable = request.method in REPEATABLE
        async with self._endpoint.ask(
            "POST", headers, encode_message(request), pending.sent, is_repeatable=is_repeatable
        ) as answer:
            if SESSION_HEADER in headers:
                answer, is_gone = await read_refusal(answer)
                if is_gone:
                    if answer.code != 404:  # which says so for sure
                        url, limit = self._endpoint.url, self._endpoint.limit
                        pending.refusal = await read_answer(request, answer, url, limit)
                    pending.note(RequestEvent.REFUSE)
                    return
            pending.note(RequestEvent.BEGIN)
            pending.answer = answer
            if request.method == "initialize":
                self.handshake_status = answer.code
                if answer.is_success:
                    self._session.note_answer(answer)
            if answer.is_stream:
                await answer.read_events(pending.position, partial(self._deliver_events, pending))
            else:
                frame = await read_answer(request, answer, self._endpoint.url, self._endpoint.limit)
                await self._deliver(pending, [frame])

    async def _ask_in_session(self, pending: PendingRequest) -> None:
        """Send a legacy request; once more in a new session if the server has ended the old one."""
        is_handshake = pending.request.method == "initialize"
        if not is_handshake:
            await self._session.wait_ready()
        generation = self._session.generation
        try:
            await self._ask(pending, {} if is_handshake else self._session.headers())
            if pending.state is RequestState.REFUSED:
                pending.failure, pending.scope.deadline = None, math.inf  # see `_lose_session`
                await self._renew_session(pending, generation)
            if pending.state is RequestState.REFUSED:  # and not cancelled meanwhile
                await self._ask(pending, self._session.headers())
        except UnreachableError as error:
            if pending.position.last_event_id is None or isinstance(error, WastefulError):
                raise
        if pending.state is RequestState.REFUSED and pending.refusal is not None:
            await self._deliver(pending, [pending.refusal])
        if pending.state is RequestState.REFUSED:
            raise UnreachableError(f"{self._endpoint.url} ended the session, and the new one as well")
        if not pending.is_over and pending.position.last_event_id is not None:
            deliver = partial(self._deliver_events, pending)
            await self._session.resume(pending.position, deliver, lambda: pending.is_over)

    async def _renew_session(self, pending: PendingRequest, generation: int) -> None:
        """Start a new session; without one, the refusal of the request is its answer."""
        try:
            if await self._session.renew(generation, self._lose_session) and self.on_renewed is not None:
                self.on_renewed()
        except UnreachableError:
            if pending.refusal is None:
                raise
            await self._deliver(pending, [pending.refusal])

    def _note_unheard(self, reason: str) -> None:
        if self.on_unheard is not None:
            self.on_unheard(reason)

    def _note_silent(self, reason: str) -> None:
        if self.on_silent is not None:
            self.on_silent(reason)

    def _lose_session(self) -> None:
        """End the requests of a session that is gone; those that the server refuses are asked again."""
        for pending in self._pending.values():
            if not pending.is_modern and pending.state in (RequestState.ASKED, RequestState.BEGUN):
                pending.failure = f"{self._endpoint.url} has ended the session"
                grace = 0 if pending.state is RequestState.BEGUN else REFUSE_SECONDS
                pending.scope.deadline = trio.current_time() + grace

    async def aclose(self) -> None:
        """Let what is on its way leave, end every request and the session; bounded, checkpoints."""
        self._closed = True
        try:
            with trio.move_on_after(CLOSE_SECONDS):
                await trio.lowlevel.checkpoint()
                for pending in list(self._pending.values()):
                    if pending.state is not RequestState.CANCELLED:
                        await pending.sent.wait()
                await self._messages.wait_all_sent()
            for pending in self._pending.values():
                pending.note(RequestEvent.CANCEL)
                pending.scope.cancel()
            await self._session.aclose()
        finally:
            self._nursery.cancel_scope.cancel()  # first, so that none of its tasks finds a closed channel
            self._send.close()
            self._receive.close()


@asynccontextmanager
async def open_http_transport(
    url: str,
    *,
    max_frame_bytes: int,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    http_client: httpx2.AsyncClient | None = None,
    ssl_context: ssl.SSLContext | None = None,
    allow_redirects_to: Collection[str] | None = None,
    authorizer: Authorizer | None = None,
) -> AsyncIterator[HttpTransport]:
    """A transport to the MCP endpoint `url` for as long as the block lasts; checkpoints.

    `headers` go with every request, `auth` is what httpx2 takes for it. `http_client` is
    used and left open; it must allow as many connections as there are calls at a time.
    `authorizer` gives each request its token. Nothing is sent before the first frame. Raises ValueError
    unless `url` is one, and TypeError unless `headers` are headers.
    """
    async with (
        open_endpoint(
            url,
            limit=max_frame_bytes,
            headers=headers,
            auth=auth,
            http_client=http_client,
            ssl_context=ssl_context,
            allow_redirects_to=allow_redirects_to,
            authorizer=authorizer,
        ) as endpoint,
        open_service_nursery() as nursery,
    ):
        transport = HttpTransport(endpoint, nursery)
        try:
            yield transport
        finally:
            # Shielded: cancellations still leave and the session still ends; each step is bounded.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 3 * CLOSE_SECONDS):
                await transport.aclose()
