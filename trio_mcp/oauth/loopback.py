"""How the answer of an authorization server comes back to a program on the user's machine (RFC 8252, 7.3).

Owns a small HTTP server on the loopback address, for the time of one authorization. Refuses to know what the
answer means: it hands over the query of the one request that carries the right `state`.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qs

import attrs
import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery

try:
    import h11
except ImportError as error:
    raise ImportError("servers with a URL need h11: pip install 'trio-mcp[http]'") from error

LOOPBACK: Final = "127.0.0.1"

MAX_HEAD_BYTES: Final = 32 * 1024
"""The longest head of a request; a code is hardly ever longer than a kilobyte."""

MAX_CONNECTIONS: Final = 16
"""How many connections are served at once; a browser opens a few, and more wait."""

REQUEST_SECONDS: Final = 10.0
"""How long a request and its answer may take; a browser opens connections ahead and sends nothing on them."""

_RECEIVE_BYTES: Final = 8192

_RECEIVED: Final = (200, "You can close this page and return to the program.")
_REPEATED: Final = (410, "The answer has been received already. You can close this page.")
_NOT_HERE: Final = (404, "There is nothing here.")
_OTHER_HOST: Final = (421, "This server answers to another name.")
_OTHER_METHOD: Final = (405, "Only GET is answered here.")
_OTHER_STATE: Final = (400, "No authorization waits for this answer. Begin again in the program.")


@attrs.frozen
class LoopbackRedirect:
    """Receives the answer of an authorization server on a port of this machine: `OAuth(redirect=...)`.

    The redirect URI is `http://127.0.0.1:PORT` with `path`. With `port=0` the system chooses a free one each
    time, which authorization servers have to allow for loopback addresses (RFC 8252, 7.3); give a port if the
    URI was registered with one. `path` begins with "/". Raises ValueError for another path or port.
    """

    port: int = attrs.field(default=0, kw_only=True)
    path: str = attrs.field(default="/callback", kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"the port must be from 0 to 65535, not {self.port}")
        if not self.path.startswith("/") or not self.path.isprintable() or set(self.path) & set(" ?#"):
            raise ValueError(f'the path must begin with "/" and have no query, unlike {self.path!r}')

    @asynccontextmanager
    async def open_receiver(self, state: str) -> AsyncIterator[LoopbackReceiver]:
        """Listen while the block lasts, for the request that carries `state`; checkpoints.

        Raises OSError if the port cannot be had. Nothing bounds the wait: use `trio.fail_after`.
        """
        (listener,) = await trio.open_tcp_listeners(self.port, host=LOOPBACK)
        async with listener, open_unwrapping_nursery() as nursery:
            port = listener.socket.getsockname()[1]
            receiver = LoopbackReceiver(f"{LOOPBACK}:{port}", self.path, state)
            nursery.start_soon(receiver.serve, listener)  # noqa: ASYNC113  # it listens already
            yield receiver
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class LoopbackReceiver:
    """The open end of one authorization, made by `LoopbackRedirect.open_receiver`."""

    _host: str
    _path: str
    _state: str = attrs.field(repr=False)
    _query: str | None = attrs.field(default=None, init=False, repr=False)
    _received: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _is_answered: bool = attrs.field(default=False, init=False)

    @property
    def uri(self) -> str:
        """The redirect URI."""
        return f"http://{self._host}{self._path}"

    async def wait_callback(self) -> str:
        """Wait for the request that carries the state, and return its query; checkpoints."""
        await self._received.wait()
        assert self._query is not None, "it has come"
        return self._query

    async def serve(self, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        """Answer requests until cancelled."""
        places = trio.Semaphore(MAX_CONNECTIONS)

        async def answer(stream: trio.abc.Stream) -> None:
            try:
                await self._serve_connection(stream)
            finally:
                places.release()

        async with trio.open_nursery() as nursery:
            while True:
                await places.acquire()
                nursery.start_soon(answer, await listener.accept())

    async def _serve_connection(self, stream: trio.abc.Stream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        query: str | None = None
        try:
            async with stream:
                with trio.move_on_after(REQUEST_SECONDS):
                    is_head = False
                    try:
                        request = await _receive_request(http, stream)
                        if request is None:
                            return
                        (status, text), query = self._judge(request)
                        is_head = request.method == b"HEAD"
                    except h11.RemoteProtocolError as error:
                        status, text = error.error_status_hint, "This is no request that can be read."
                    await _send_page(http, stream, status, text, is_head=is_head)
        except (trio.BrokenResourceError, OSError):
            pass  # the browser has closed the connection, perhaps once it had what it wanted
        finally:
            if query is not None:  # behind the page, because the server closes as soon as the query is taken
                self._query = query
                self._received.set()

    def _judge(self, request: h11.Request) -> tuple[tuple[int, str], str | None]:
        """The answer to a request, and its query if it is the one that is waited for."""
        hosts = [value.decode("latin-1") for name, value in request.headers if name == b"host"]
        if hosts != [self._host]:
            return _OTHER_HOST, None  # a page of another site, whose name leads here (DNS rebinding)
        target = request.target.decode("latin-1")
        path, _, query = target.partition("?")
        if path != self._path:
            return _NOT_HERE, None
        if request.method != b"GET":
            return _OTHER_METHOD, None
        states = parse_qs(query, keep_blank_values=True).get("state", [])
        if len(states) != 1 or not hmac.compare_digest(states[0].encode(), self._state.encode()):
            return _OTHER_STATE, None
        if self._is_answered:
            return _REPEATED, None
        self._is_answered = True
        return _RECEIVED, query


async def _receive_request(http: h11.Connection, stream: trio.abc.Stream) -> h11.Request | None:
    """The head of the request; None if the peer closes before."""
    while True:
        event = http.next_event()
        if type(event) is h11.Request:
            return event
        if event is not h11.NEED_DATA:
            return None
        http.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))


async def _send_page(
    http: h11.Connection, stream: trio.abc.Stream, status: int, text: str, *, is_head: bool
) -> None:
    """Answer with a page that repeats nothing of the request, and that no other page can embed."""
    body = f"<!doctype html><title>Authorization</title><p>{text}</p>\n".encode()
    headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("connection", "close"),
    ]
    events: list[h11.Event] = [h11.Response(status_code=status, headers=headers)]
    if not is_head:
        events.append(h11.Data(data=body))
    events.append(h11.EndOfMessage())
    await stream.send_all(b"".join(http.send(event) or b"" for event in events))
