"""Frames to and from a server over HTTP+SSE (MCP transports 2024-11-05): one event stream, and a POST each.

Owns the stream, the endpoint that it names, and the messages that are under way. Refuses to know methods,
except that nothing passes between the end of the handshake and its acceptance, and that a cancellation
follows its request. Such a stream cannot be resumed: with it the connection ends.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import msgspec
import trio

from trio_mcp.concurrency.nursery import open_service_nursery
from trio_mcp.errors import ConnectionLost, MCPError
from trio_mcp.outgoing.transport import PeerEndedError
from trio_mcp.transports.http.address import parse_address
from trio_mcp.transports.http.answer_frames import read_answer
from trio_mcp.transports.http.endpoint import HttpEndpoint
from trio_mcp.transports.http.response import StreamPosition, UnauthorizedError, UnreachableError
from trio_mcp.transports.http.server_url import open_endpoint
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.codec import encode_message
from trio_mcp.wire.frames import InFrame, Lost, Notification, OutFrame, Request, RequestId
from trio_mcp.wire.messages import CancelledParams

if TYPE_CHECKING:
    import httpx2

    from trio_mcp.transports.http.authorizer import Authorizer

logger = logging.getLogger("trio_mcp.transports")

CLOSE_SECONDS: Final = 1.0
"""How long messages that are under way at the end may take to leave."""

ACCEPT_SECONDS: Final = 30.0
"""How long a server may take to accept a message that has no answer, and others may wait for that."""

NO_RESUMPTION: Final = "HTTP+SSE of 2024-11-05 cannot resume it"


class NoEventStreamError(ConnectionLost):
    """A URL gave no event stream that names its endpoint, so no server of HTTP+SSE is there."""


class SseEvents:
    """The event stream of one session, read in a task of its own; `located` is set at its first event."""

    def __init__(self, server: HttpEndpoint) -> None:
        self._server = server
        self._send, self._receive = trio.open_memory_channel[list[InFrame]](0)
        self.located = trio.Event()
        self.endpoint: str | None = None
        self.end = f"{server.url} closed the event stream before its first event"
        """Why nothing more comes, once nothing does."""
        self.failure: MCPError | None = None
        """The same, if the server wants a token and none was got."""

    async def read(self) -> None:
        """Read the stream to its end; checkpoints."""
        try:
            async with self._server.ask("GET", {}) as answer:
                if not answer.is_stream:
                    self.end = f"{self._server.url} answered {answer.status} to GET, and no event stream"
                    return
                await answer.read_events(StreamPosition(), self._send.send, self._note_endpoint)
        except UnreachableError as error:
            self.end = f"{error}; {NO_RESUMPTION}" if self.located.is_set() else str(error)
            self.failure = error.failure if isinstance(error, UnauthorizedError) else None
        finally:
            self.located.set()
            self._send.close()

    def _note_endpoint(self, endpoint: str | None) -> None:
        self.endpoint = endpoint
        if endpoint is None:
            self.end = f"the first event of {self._server.url} does not name its endpoint"
        else:
            self.end = f"{self._server.url} closed the event stream; {NO_RESUMPTION}"
        self.located.set()

    async def receive(self) -> list[InFrame]:
        """Wait for frames; checkpoints. Raises PeerEndedError at the end of the stream."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise PeerEndedError(self.end) from None

    async def hand_over(self, frames: list[InFrame]) -> None:
        """Let `receive` return frames that came another way; checkpoints."""
        with suppress(trio.ClosedResourceError):  # nothing is received any more, so every request has failed
            await self._send.send(frames)

    def close(self) -> None:
        """Let nothing be received any more."""
        self._send.close()
        self._receive.close()


class SseTransport:
    """Frames by an event stream, and by POSTs to its endpoint; made by `open_sse_transport`."""

    def __init__(
        self, events: SseEvents, server: HttpEndpoint, messages: HttpEndpoint, nursery: trio.Nursery
    ) -> None:
        self._server = server
        self._events = events
        self._messages = messages
        self._nursery = nursery
        self._ready = trio.Event()  # unset while the server accepts the end of the handshake
        self._ready.set()
        self._requests: dict[RequestId, trio.Event] = {}  # set when the POST of each is over
        self._unsent = 0
        self._all_sent = trio.lowlevel.ParkingLot()
        self._closed = False

    @property
    def pausing(self) -> Callable[[], AbstractContextManager[None]]:
        """What is entered while a person is asked to let the client in."""
        return self._messages.pausing

    @pausing.setter
    def pausing(self, pausing: Callable[[], AbstractContextManager[None]]) -> None:
        self._server.pausing = self._messages.pausing = pausing

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<SseTransport to {self._messages.origin}: {state}, {self._unsent} messages under way>"

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Start a POST for each of `frames`; their order is kept where it matters. Checkpoints."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError
        for frame in frames:
            self._start(frame)
        await trio.lowlevel.checkpoint()

    async def receive_frames(self) -> Sequence[InFrame]:
        """Wait for frames; checkpoints. While nobody does, the event stream is not read."""
        return await self._events.receive()

    def _start(self, frame: OutFrame) -> None:
        after: trio.Event | None = None
        if isinstance(frame, Request):
            self._requests[frame.id] = trio.Event()
            after = self._ready
        elif isinstance(frame, Notification):
            after = self._ready
            if frame.method == "notifications/initialized":
                self._ready = trio.Event()
            elif frame.method == "notifications/cancelled":
                after = self._find_cancelled(frame, after)
        self._unsent += 1
        self._nursery.start_soon(self._send, frame, after)

    def _find_cancelled(self, frame: Notification, ready: trio.Event) -> trio.Event:
        """What a cancellation has to follow: the POST of its request, or `ready` if that is over."""
        if isinstance(frame.params, msgspec.UnsetType):
            return ready
        ident = msgspec.json.decode(frame.params, type=CancelledParams).request_id
        return self._requests.get(ident, ready)

    async def _send(self, frame: OutFrame, after: trio.Event | None) -> None:
        ready = self._ready
        try:
            if after is not None and not after.is_set():
                with trio.move_on_after(ACCEPT_SECONDS):
                    await after.wait()
            if isinstance(frame, Request):
                await self._post_request(frame)
            else:
                with trio.move_on_after(ACCEPT_SECONDS):
                    await self._post(frame)
        finally:
            if isinstance(frame, Notification) and frame.method == "notifications/initialized":
                ready.set()
            if isinstance(frame, Request):
                self._requests.pop(frame.id).set()
            self._unsent -= 1
            if not self._unsent:
                self._all_sent.unpark_all()

    async def _post_request(self, request: Request) -> None:
        """Post a request; what refuses it is its answer, which otherwise comes by the event stream."""
        url, limit = self._messages.url, self._messages.limit
        sent = trio.Event()
        try:
            async with self._messages.ask("POST", {}, encode_message(request), sent) as answer:
                if answer.is_success:
                    await answer.read_body()  # of a few words, so that the connection can be used again
                    return
                refusal = await read_answer(request, answer, url, limit)
        except UnauthorizedError as error:
            refusal = Lost((request.id,), str(error), True, error.failure)
        except UnreachableError as error:
            refusal = Lost((request.id,), str(error), not sent.is_set())
        await self._events.hand_over([refusal])

    async def _post(self, frame: OutFrame) -> None:
        try:
            async with self._messages.ask("POST", {}, encode_message(frame)) as answer:
                if answer.is_success:
                    await answer.read_body()
                else:
                    logger.warning("%s answered %s to a message", self._messages.url, answer.status)
        except UnreachableError as error:
            logger.warning("a message was not sent: %s", error)

    async def aclose(self) -> None:
        """Let what is under way leave, and close the stream, which ends the session; bounded, checkpoints."""
        self._closed = True
        try:
            with trio.move_on_after(CLOSE_SECONDS):
                await trio.lowlevel.checkpoint()
                while self._unsent:
                    await self._all_sent.park()
        finally:
            self._nursery.cancel_scope.cancel()  # first, so that none of its tasks finds a closed channel
            self._events.close()


@asynccontextmanager
async def open_sse_transport(
    url: str,
    *,
    max_frame_bytes: int,
    patience: float,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    http_client: httpx2.AsyncClient | None = None,
    ssl_context: ssl.SSLContext | None = None,
    allow_redirects_to: Collection[str] | None = None,
    authorizer: Authorizer | None = None,
) -> AsyncIterator[SseTransport]:
    """A transport to the event stream at `url` for as long as the block lasts; checkpoints.

    The options are those of `open_http_transport`. Raises NoEventStreamError unless the stream names an
    endpoint of the same origin within `patience` seconds, ValueError unless `url` is one, and TypeError
    unless `headers` are headers.
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
        ) as server,
        open_service_nursery() as nursery,
    ):
        events = SseEvents(server)
        nursery.start_soon(events.read)
        try:
            endpoint = await _wait_endpoint(events, server, patience)
            async with open_endpoint(
                endpoint,
                limit=max_frame_bytes,
                headers=headers,
                auth=auth,
                http_client=http_client or server.general_client,
                ssl_context=ssl_context,
                allow_redirects_to=allow_redirects_to,
                authorizer=authorizer,
            ) as messages:
                transport = SseTransport(events, server, messages, nursery)
                try:
                    yield transport
                finally:
                    # Shielded: cancellations still leave; each step is bounded.
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * CLOSE_SECONDS):
                        await transport.aclose()
        finally:
            nursery.cancel_scope.cancel()


@contextmanager
def _standing_still(scope: trio.CancelScope) -> Iterator[None]:
    """While the block lasts, the deadline of `scope` does not come nearer."""
    since, deadline = trio.current_time(), scope.deadline
    scope.deadline = math.inf
    try:
        yield
    finally:
        scope.deadline = deadline + trio.current_time() - since


async def _wait_endpoint(events: SseEvents, server: HttpEndpoint, patience: float) -> str:
    """The URL to post to; raises NoEventStreamError, and AuthorizationError if no token was got."""
    with trio.move_on_after(patience) as waiting:
        server.pausing = partial(_standing_still, waiting)
        await events.located.wait()
    server.pausing = nullcontext
    if events.failure is not None:
        raise events.failure
    if not events.located.is_set():
        seconds = describe_seconds(patience)
        raise NoEventStreamError(f"{server.url} sent no event within {seconds}, and so not its endpoint")
    if events.endpoint is None:
        raise NoEventStreamError(events.end)
    try:
        endpoint = urljoin(server.url, events.endpoint)
        address = parse_address(endpoint)
    except ValueError as error:
        raise NoEventStreamError(f"{server.url} named an endpoint that is no URL: {error}") from None
    if address.origin != server.origin or address.has_credentials:
        # Else any server could have us post to hosts that only we can reach, with the caller's headers.
        raise NoEventStreamError(
            f"{server.url} named an endpoint of another origin, which nothing is sent to: {endpoint!r}"
        )
    return endpoint
