"""The HTTP requests of HTTP+SSE (MCP transports 2024-11-05): GET of the event stream, and POST of a message.

Owns the two paths, the open streams by their ids, and which requests are refused. Refuses to know methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, quote

import trio

from trio_mcp.session.serving import serve_transport
from trio_mcp.transports.asgi.admission import Places
from trio_mcp.transports.asgi.body import Body
from trio_mcp.transports.asgi.body_reader import BodyReader
from trio_mcp.transports.asgi.call import Answer, HttpCall, Serving
from trio_mcp.transports.asgi.refusals import Refusals
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.request import accepts, wait_disconnect
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.sse_stream import SseStream
from trio_mcp.transports.asgi.types import Scope
from trio_mcp.transports.buffered_bytes import TooMuchBufferedError
from trio_mcp.wire.frames import Malformed
from trio_mcp.wire.http import EVENT_STREAM
from trio_mcp.wire.sse import encode_event

STREAM: Final = "/sse"
MESSAGES: Final = "/messages"

_ID: Final = "session_id"


class SseRoutes:
    """Routes the requests of HTTP+SSE, whose paths stand beside that of the endpoint."""

    def __init__(
        self,
        path: str,
        settings: HttpSettings,
        places: Places,
        refusals: Refusals,
        bodies: BodyReader,
        scopes: set[trio.CancelScope],
    ) -> None:
        folder = path.rpartition("/")[0]
        self.stream_path = folder + STREAM
        """The path of event streams, which clients know a server by."""
        self._paths = {self.stream_path: STREAM, folder + MESSAGES: MESSAGES}
        if path in self._paths:
            raise ValueError(f"path must not be {path!r}, which sse=True serves HTTP+SSE at")
        self._settings = settings
        self._places = places
        self._refusals = refusals
        self._bodies = bodies
        self._scopes = scopes
        self._streams: dict[str, SseStream] = {}

    def find(self, scope: Scope) -> str | None:
        """The one of the two paths that a request is for, in full or below a mount; None for others."""
        root, path = scope.get("root_path", ""), scope["path"]
        rest = path.removeprefix(root) if root else path
        return self._paths.get(path.rstrip("/")) or self._paths.get(rest.rstrip("/"))

    async def route(self, call: HttpCall, path: str) -> Answer | None:
        """Open a stream, or hand a message to one; checkpoints. Returns the rest of the work, if any."""
        method = call.scope["method"]
        wanted = "GET" if path == STREAM else "POST"
        if method != wanted:
            reason = f"{method} is not for this path of HTTP+SSE, which takes {wanted}"
            await self._refusals.refuse(call.reply, "method", 405, reason, headers={"allow": wanted})
            return None
        return await (self._open(call) if path == STREAM else self._post(call))

    async def _open(self, call: HttpCall) -> Answer | None:
        if not accepts(call.headers.get("accept", "*/*"), EVENT_STREAM):
            await self._refusals.refuse(call.reply, "accept", 406, f"the client must accept {EVENT_STREAM}")
            return None
        refusal = self._places.refusal(call.peer)
        if refusal is not None:
            await self._refusals.refuse_overload(call.reply, "sessions", refusal)
            return None
        stream = SseStream(call.receive, call.reply, self._settings, call.permit)
        where = f"{_messages_path(call.scope)}?{_ID}={stream.id}"
        return self._serve(stream, where, call.serving, call.reply, call.headers, call.peer)

    async def _serve(
        self,
        stream: SseStream,
        where: str,
        serving: Serving,
        reply: Reply,
        headers: Mapping[str, str],
        peer: str,
    ) -> None:
        """Serve one session until its client closes the stream, or the server ends; checkpoints."""
        self._streams[stream.id] = stream
        self._places.enter(peer)
        try:
            with trio.CancelScope() as ended:
                self._scopes.add(ended)
                await reply.send_events(b"event: endpoint\n" + encode_event(where.encode()))
                await serve_transport(serving.application, stream, stream.permit, headers, peer)
        finally:
            stream.close()
            self._scopes.discard(ended)
            self._places.leave(peer)
            del self._streams[stream.id]

    async def _post(self, call: HttpCall) -> Answer | None:
        body = await self._bodies.read(call, is_answered=False)
        if body is None:
            return None
        ident = parse_qs(call.scope.get("query_string", b"").decode("latin-1")).get(_ID)
        if ident is None:
            reason = f"{_ID} is missing: post to the URI of the event endpoint"
            await self._refusals.refuse(call.reply, "session", 400, reason)
            return None
        stream = self._streams.get(ident[0])
        if stream is None or stream.owner != call.owner:
            # The same is said of a stranger's session, so that nobody learns whether there is one.
            await self._refuse_gone(call.reply)
        else:
            return self._hand_over(stream, body, call)
        return None

    async def _hand_over(self, stream: SseStream, body: Body, call: HttpCall) -> None:
        frame = body.decode()
        if len(body.data) > self._settings.max_values:
            await trio.lowlevel.checkpoint()  # each decoding of a long text takes a turn of its own
        has_turn: bool | None = None
        try:
            with self._bodies.claim(call.peer) as claim:
                claim.hold(len(body.data))
                async with trio.open_nursery() as nursery:

                    async def leave() -> None:
                        await wait_disconnect(call.receive)
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(leave)
                    has_turn = await stream.wait_turn()
                    nursery.cancel_scope.cancel()
            # Before the message is taken: some clients are disturbed if its answer overtakes this one.
            if has_turn and isinstance(frame, Malformed):
                await self._refusals.refuse_malformed(call.reply, frame)  # the session answers it as well
            elif has_turn:
                await call.reply.answer(202)
            elif has_turn is not None:
                await self._refuse_gone(call.reply)
        except TooMuchBufferedError as error:
            await self._refusals.refuse_overload(call.reply, "buffered", str(error))
        finally:
            if has_turn:
                stream.take(frame)

    async def _refuse_gone(self, reply: Reply) -> None:
        reason = "no such session: open the event stream anew"
        await self._refusals.refuse(reply, "session", 404, reason)


def _messages_path(scope: Scope) -> str:
    """The path of messages as the client sees it, beside that of the event stream which it has asked for."""
    root, path = scope.get("root_path", ""), scope["path"]
    full = path if path.startswith(root) else root + path
    return quote(full.rstrip("/").removesuffix(STREAM) + MESSAGES)
