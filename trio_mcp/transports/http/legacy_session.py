"""The session that a legacy server keeps over HTTP (MCP 2025-11-25 transports, "Session Management").

Owns the session id, the agreed version, the gate that keeps requests behind the
handshake, the stream of the server's own messages, and the resuming of streams.
Refuses to know calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import attrs
import msgspec
import trio

from trio_mcp.transports.http.endpoint import HttpEndpoint
from trio_mcp.transports.http.response import (
    Deliver,
    HttpResponse,
    StreamPosition,
    UnreachableError,
    WastefulError,
)
from trio_mcp.wire.codec import decode_message, encode_message
from trio_mcp.wire.frames import Batch, ErrorResponse, InFrame, Notification, Request, Response
from trio_mcp.wire.http import EVENT_ID_HEADER, SESSION_HEADER, VERSION_HEADER

logger = logging.getLogger("trio_mcp.transports")

CLOSE_SECONDS: Final = 1.0
"""How long each step of the end of a session may take."""

MAX_FAILURES: Final = 3
"""How often in a row a stream may fail to open, or bring nothing, before it is given up."""

PASSING_CODES: Final = frozenset({502, 503, 504})
"""What a gateway says while its server is away, for example while that is started anew: no refusal."""

LEAST_RETRY: Final = 50
"""The shortest pause in milliseconds before a stream is opened again, also if the server asks for none."""

LISTEN_SECONDS: Final = 1.0
"""How long requests wait for the answer to GET, which some servers send with their first message only."""

LIVELY_SECONDS: Final = 5.0
"""A stream that stayed open for so long did not fail, even if it brought nothing."""


class _Agreed(msgspec.Struct, rename="camel"):
    protocol_version: str | None = None


@attrs.define(eq=False)
class HttpSession:
    """The state of one session, and of the one that replaces it when the server has ended it.

    `ready` is set except between `initialize` and the server's acceptance of
    `notifications/initialized`. `generation` counts the sessions.
    """

    _endpoint: HttpEndpoint
    _nursery: trio.Nursery
    _deliver: Deliver
    _note_unheard: Callable[[str], None]
    _note_silent: Callable[[str], None]
    id: str | None = None
    version: str | None = None
    generation: int = 0
    ready: trio.Event = attrs.field(factory=trio.Event)
    _heard: trio.Event = attrs.field(factory=trio.Event)
    _initialize: Request | None = None
    _initialized: Notification | None = None
    _listening: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _renewing: trio.Lock = attrs.field(factory=trio.Lock)
    main: HttpResponse | None = None
    """The stream of the server's own messages, while it is read."""

    def __attrs_post_init__(self) -> None:
        self.ready.set()
        self._heard.set()

    def headers(self) -> dict[str, str]:
        """What every request of the session carries; nothing before there is one."""
        headers = {}
        if self.id is not None:
            headers[SESSION_HEADER] = self.id
        if self.version is not None:
            headers[VERSION_HEADER] = self.version
        return headers

    def begin(self, initialize: Request) -> None:
        """Note the handshake, and let nothing pass until it is over."""
        self._initialize = initialize
        self.id = self.version = None
        if self.ready.is_set():
            self.ready = trio.Event()

    def note_answer(self, answer: HttpResponse) -> None:
        """Take the session id from the answer to `initialize`."""
        self.id = answer.headers.get(SESSION_HEADER)

    def agree(self, initialized: Response) -> None:
        """Take the version from the result of `initialize`."""
        try:
            self.version = msgspec.json.decode(initialized.result, type=_Agreed).protocol_version
        except (msgspec.MsgspecError, RecursionError):
            self.version = None  # the client's handshake will say what is wrong with it

    async def wait_ready(self) -> None:
        """Wait until no handshake is going on, and the server is listened to; checkpoints.

        A server that asks its client in the middle of a call may do so on the stream of its own
        messages, and some drop what they have to say while nobody reads it.
        """
        await trio.lowlevel.checkpoint()
        while not self.ready.is_set():
            await self.ready.wait()
        heard = self._heard
        if not heard.is_set():
            with trio.move_on_after(LISTEN_SECONDS):
                await heard.wait()
            heard.set()

    def abandon(self) -> None:
        """Let everything pass, because there is no session."""
        self.ready.set()

    def establish(self, initialized: Notification) -> None:
        """The server took `initialized`: let everything pass, and listen to the server."""
        self._initialized = initialized
        self._listening = trio.CancelScope()
        self._heard = trio.Event()
        self._nursery.start_soon(self._listen, self._listening)
        self.ready.set()

    async def renew(self, generation: int, lose_others: Callable[[], None]) -> bool:
        """Start a session in place of the one of that generation, once for all who ask; checkpoints.

        Returns whether this has started it. Raises UnreachableError if there is no new one.
        """
        async with self._renewing:
            if self.generation != generation:
                return False
            initialize, initialized = self._initialize, self._initialized
            if initialize is None or initialized is None:
                raise UnreachableError(f"{self._endpoint.url} has ended the session before it began")
            logger.info("%s has ended the session; a new one is started", self._endpoint.url)
            lose_others()
            self._listening.cancel()
            ended = self.id, self.version
            self.begin(initialize)
            try:
                await self._shake_hands(initialize, initialized)
            except BaseException:
                self.id, self.version = ended  # so that the next request finds out again
                self.ready.set()
                raise
            self.generation += 1
            self.establish(initialized)
            return True

    async def _shake_hands(self, initialize: Request, initialized: Notification) -> None:
        url = self._endpoint.url
        answers: list[Response | ErrorResponse] = []
        reading = trio.CancelScope()

        async def collect(frames: list[InFrame]) -> None:
            await trio.lowlevel.checkpoint()
            for frame in flatten(frames):
                if isinstance(frame, (Response, ErrorResponse)):
                    answers.append(frame)
                    reading.cancel()  # the stream may stay open behind it

        async with self._endpoint.ask("POST", {}, encode_message(initialize)) as answer:
            if answer.is_stream:
                with reading:
                    await answer.read_events(StreamPosition(), collect)
            else:
                await collect([decode_message(await answer.read_body() or b"")])
            self.note_answer(answer)
        if not answers or not isinstance(answers[0], Response):
            raise UnreachableError(
                f"{url} has ended the session and answered {answer.status} to a new handshake"
            )
        self.agree(answers[0])
        async with self._endpoint.ask("POST", self.headers(), encode_message(initialized)) as answer:
            if not answer.is_success:
                raise UnreachableError(f"{url} answered {answer.status} to the end of the handshake")

    async def resume(self, position: StreamPosition, deliver: Deliver, is_over: Callable[[], bool]) -> None:
        """Go on with a stream that ended early, until `is_over`; checkpoints.

        Returns if the server refuses ("Resumability and Redelivery"). Raises UnreachableError.
        """
        await trio.lowlevel.checkpoint()
        failures = 0
        while not is_over() and failures < MAX_FAILURES:
            await trio.sleep(max(position.retry, LEAST_RETRY) / 1000)
            started, seen = trio.current_time(), position.last_event_id
            try:
                if not await self._read_stream(position, deliver):
                    return
            except WastefulError:
                raise
            except UnreachableError:
                if failures + 1 == MAX_FAILURES:
                    raise
            brought = position.last_event_id != seen or trio.current_time() - started >= LIVELY_SECONDS
            failures = 0 if brought else failures + 1

    async def _listen(self, scope: trio.CancelScope) -> None:
        """Deliver what the server sends of its own, if it does so ("Listening for Messages")."""
        position = StreamPosition()
        with scope:
            try:
                if await self._read_first(position):
                    await self.resume(position, self._deliver, lambda: False)
                    self._note_unheard(f"{self._endpoint.url} has ended the stream of its own messages")
                else:
                    self._note_silent(f"{self._endpoint.url} has no stream for its own messages")
            except UnreachableError as error:
                self._heard.set()
                logger.info("the server's own messages are no longer heard: %s", error)
                self._note_unheard(f"the server's own messages are no longer heard: {error}")

    async def _read_first(self, position: StreamPosition) -> bool:
        """Read the first stream; one that breaks off is as good as one that ends. False without one."""
        heard = self._heard
        try:
            return await self._read_stream(position, self._deliver)
        except UnreachableError as error:
            if not heard.is_set() or isinstance(error, WastefulError):
                raise
            return True

    async def _read_stream(self, position: StreamPosition, deliver: Deliver) -> bool:
        """Read one GET stream to its end; False if the server gives none. Raises UnreachableError."""
        headers = self.headers()
        if position.last_event_id:
            headers[EVENT_ID_HEADER] = position.last_event_id
        async with self._endpoint.ask("GET", headers) as answer:
            self._heard.set()
            if answer.code in PASSING_CODES:
                raise UnreachableError(f"{self._endpoint.url} answered {answer.status} to GET")
            if not answer.is_stream:
                logger.debug("%s answered %s to GET", self._endpoint.url, answer.status)
                return False
            if deliver is self._deliver:
                self.main = answer
            try:
                await answer.read_events(position, deliver)
            finally:
                if self.main is answer:
                    self.main = None
        return True

    async def aclose(self) -> None:
        """Stop listening and end the session at the server; a failure is only logged. Checkpoints."""
        self._listening.cancel()
        await trio.lowlevel.checkpoint()
        if self.id is not None:
            with trio.move_on_after(CLOSE_SECONDS):
                await self._delete()

    async def _delete(self) -> None:
        try:
            async with self._endpoint.ask("DELETE", self.headers()):
                pass
        except UnreachableError as error:
            logger.debug("the session was not ended: %s", error)


def flatten(frames: list[InFrame]) -> list[InFrame]:
    """The frames with the members of batches in their place; the same list if there is no batch."""
    if not any(type(frame) is Batch for frame in frames):
        return frames
    flat: list[InFrame] = []
    for frame in frames:
        if isinstance(frame, Batch):
            flat += frame.frames
        else:
            flat.append(frame)
    return flat
