"""An MCP endpoint as an ASGI application: HTTP of both eras, and WebSocket.

Owns the routing of requests and every refusal with its status. Knows of methods only
what the HTTP transport says: which headers repeat them, and that a legacy session
begins with `initialize`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final, TypeAlias

import attrs
import trio

from trio_mcp.session.server_session import Application
from trio_mcp.session.serving import serve_request, serve_transport
from trio_mcp.transports.asgi.admission import Admission
from trio_mcp.transports.asgi.legacy_session import LegacySession, LegacySessions
from trio_mcp.transports.asgi.modern_response import ModernResponse
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.request import accepts, is_longer, read_headers, read_peer, take_body
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive, Scope, Send
from trio_mcp.wire.codec import decode_message, encode_messages, make_error
from trio_mcp.wire.eras import ERAS
from trio_mcp.wire.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    ProtocolError,
)
from trio_mcp.wire.frames import (
    Batch,
    ErrorResponse,
    InFrame,
    Malformed,
    Notification,
    ProgressRun,
    Request,
)
from trio_mcp.wire.http import (
    EVENT_ID_HEADER,
    EVENT_STREAM,
    JSON,
    SESSION_HEADER,
    VERSION_HEADER,
    check_headers,
)
from trio_mcp.wire.incoming_request import IncomingRequest, read_request
from trio_mcp.wire.origin import Doorkeeper

logger = logging.getLogger("trio_mcp")

Authenticate: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Gives the principal of an ASGI scope, or None where nobody is authenticated."""

_Answer: TypeAlias = Coroutine[Any, Any, None]

_METHODS: Final = "POST, GET, DELETE"

MAX_ADDRESSES: Final = 64
"""How many addresses of this host are remembered; more are only seen where somebody makes them up."""

NOT_SERVING: Final = (
    "the MCP server is not running: run the ASGI application with lifespan support, "
    "or open the server with open_server and mount asgi_app(running)"
)


@attrs.frozen
class Serving:
    """What an endpoint serves, and the nursery for what outlives a request."""

    application: Application
    nursery: trio.Nursery
    refusals: Counter[str]


@attrs.frozen
class _Call:
    """One HTTP request, with what has to be looked up often."""

    scope: Scope
    receive: Receive
    reply: Reply
    headers: Mapping[str, str]
    peer: str
    principal: str | None
    serving: Serving


class Endpoint:
    """Answers what comes for one MCP endpoint, while it serves something."""

    def __init__(
        self,
        path: str,
        settings: HttpSettings,
        *,
        allowed_hosts: Collection[str] | None,
        allowed_origins: Collection[str] | None,
        cors_origins: frozenset[str],
        authenticate: Authenticate | None,
    ) -> None:
        self.path = path
        self.settings = settings
        self._allowed_hosts = allowed_hosts
        self._allowed_origins = allowed_origins
        self._doorkeepers: dict[str, Doorkeeper] = {}
        self._cors_origins = cors_origins
        self._authenticate = authenticate
        self._serving: Serving | None = None
        self._sessions = LegacySessions(settings)
        self._load = Admission(settings)
        self.refusals: Counter[str] = Counter()

    def start(self, serving: Serving) -> None:
        """Serve `serving` from now on."""
        self._serving = serving
        self.refusals = serving.refusals

    def shut_down(self) -> None:
        """Take no more requests, and let those that are answered now end; does not wait."""
        self._serving = None
        self._load.end_all()
        self._sessions.end_all()

    async def serve_nothing(self, scope: Scope, send: Send) -> None:
        """Tell a request for another path that there is nothing; checkpoints."""
        self.refusals["path"] += 1
        if scope["type"] == "http":
            await Reply(send).refuse(404, INVALID_REQUEST, f"the MCP endpoint is {self.path}")
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; checkpoints."""
        call = await self._admit(scope, receive, send)
        if call is None:
            return
        peer = call.peer
        self._load.enter(peer)
        try:
            answer = await self._route(call, call.serving)
            del call  # an answer may take long, and needs nothing of this
            if answer is not None:
                await answer
        finally:
            self._load.leave(peer)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> _Call | None:
        """The request, or None where it was refused whatever it says."""
        headers = read_headers(scope)
        reply = Reply(send, self._cors_headers(headers))
        peer = read_peer(scope)
        refusal = self._refuse_at_door(scope, headers)
        if refusal is not None:
            await self._refuse(reply, "door", 403, refusal)
            return None
        principal = None if self._authenticate is None else self._authenticate(scope)
        serving = self._serving
        if serving is None:
            await self._refuse_unserved(reply)
            return None
        overload = self._load.refusal(peer)
        if overload is not None:
            await self._refuse_overload(reply, "streams", overload)
            return None
        return _Call(scope, receive, reply, headers, peer, principal, serving)

    async def _route(self, call: _Call, serving: Serving) -> _Answer | None:
        method = call.scope["method"]
        if method == "POST":
            return await self._post(call, serving)
        if method == "GET" and SESSION_HEADER in call.headers:
            return await self._listen(call)
        if method == "DELETE" and SESSION_HEADER in call.headers:
            session = await self._find_session(call)
            if session is not None:
                session.end()
                await call.reply.answer(204)
        elif method == "OPTIONS" and self._cors_origins:
            allowed = {"access-control-allow-methods": _METHODS, "access-control-max-age": "600"}
            wanted = call.headers.get("access-control-request-headers")
            if wanted:
                allowed["access-control-allow-headers"] = wanted
            await call.reply.answer(204, headers=allowed)
        else:
            reason = f"{method} is not for this endpoint without the header Mcp-Session-Id"
            await self._refuse(call.reply, "method", 405, reason, headers={"allow": _METHODS})
        return None

    async def _post(self, call: _Call, serving: Serving) -> _Answer | None:
        accepted = call.headers.get("accept", "*/*")
        if not (accepts(accepted, JSON) and accepts(accepted, EVENT_STREAM)):
            await self._refuse(call.reply, "accept", 406, f"the client must accept {JSON} and {EVENT_STREAM}")
            return None
        if call.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            await self._refuse(call.reply, "content type", 415, f"the body must be {JSON}")
            return None
        body = await self._read_body(call)
        if body is None:
            return None
        if self._serving is not serving:
            await self._refuse_unserved(call.reply)  # the server has ended while the body was on its way
            return None
        message: InFrame | IncomingRequest = decode_message(body)
        version = call.headers.get(VERSION_HEADER)
        is_modern = version is not None and version in ERAS and ERAS[version].modern
        if isinstance(message, Request):
            message = read_request(message)
            if message.names_modern_version or (is_modern and message.frame.method != "initialize"):
                return await self._answer_modern(message, call, serving)
        if isinstance(message, Malformed) and SESSION_HEADER not in call.headers:
            self.refusals["malformed"] += 1
            await call.reply.refuse(400, message.code, message.reason, ident=message.id)
        elif is_modern and isinstance(message, (Notification, ProgressRun)):
            await call.reply.answer(202)  # this revision has none that means anything over HTTP
        elif version is not None and version not in ERAS:
            await self._refuse_version(call.reply, version)
        else:
            return await self._answer_legacy(message, call, serving)
        return None

    async def _answer_modern(self, request: IncomingRequest, call: _Call, serving: Serving) -> _Answer | None:
        ident = request.frame.id
        try:
            check_headers(call.headers, request)
            serving.application.check_headers(call.headers, request)
        except ProtocolError as error:
            self.refusals["headers"] += 1
            await call.reply.refuse(400, error.code, error.message, ident=ident)
            return None
        exchange = ModernResponse(ident, call.receive, call.reply, self.settings)
        scopes = self._load.scopes
        return serve_request(serving.application, request, exchange, call.principal, scopes)

    async def _answer_legacy(
        self, message: InFrame | IncomingRequest, call: _Call, serving: Serving
    ) -> _Answer | None:
        if SESSION_HEADER in call.headers:
            session = await self._find_session(call)
            if session is not None:
                return await self._answer_in_session(session, message, call)
        elif isinstance(message, IncomingRequest) and message.frame.method == "initialize":
            refusal = self._sessions.refusal(call.peer)
            if refusal is not None:
                await self._refuse_overload(call.reply, "sessions", refusal)
                return None
            session = await self._sessions.open(
                serving.application, serving.nursery, call.principal, call.peer
            )
            return session.begin(message, call.receive, call.reply)
        else:
            reason = "the header Mcp-Session-Id is missing; a session begins with initialize"
            await self._refuse(call.reply, "session", 400, reason)
        return None

    async def _answer_in_session(
        self, session: LegacySession, message: InFrame | IncomingRequest, call: _Call
    ) -> _Answer | None:
        if isinstance(message, (IncomingRequest, Malformed)) or (
            isinstance(message, Batch) and (_wants_answer(message) or not session.takes_batches)
        ):
            return session.answer(message, call.receive, call.reply)
        session.accept(message)
        await call.reply.answer(202)
        return None

    async def _listen(self, call: _Call) -> _Answer | None:
        if not accepts(call.headers.get("accept", "*/*"), EVENT_STREAM):
            await self._refuse(call.reply, "accept", 406, f"the client must accept {EVENT_STREAM}")
            return None
        session = await self._find_session(call)
        if session is None:
            return None
        event_id = call.headers.get(EVENT_ID_HEADER)
        if event_id is None:
            return session.listen(call.receive, call.reply)
        found = session.find(event_id)
        if found is None:
            # 404 would end the session at the client; 405 is what a GET without a stream gets.
            reason = f"nothing is to come behind the event {event_id!r} in this session"
            await self._refuse(call.reply, "event", 405, reason, headers={"allow": _METHODS})
            return None
        stream, number = found
        return session.carry(stream, call.receive, call.reply, number)

    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket connection, with the semantics of stdio; checkpoints."""
        headers, peer, serving = read_headers(scope), read_peer(scope), self._serving
        is_refused = self._refuse_at_door(scope, headers) is not None or self._load.refusal(peer) is not None
        if is_refused or serving is None:
            self.refusals["websocket"] += 1
            await send({"type": "websocket.close", "code": 1008})
            return
        principal = None if self._authenticate is None else self._authenticate(scope)
        self._load.enter(peer)
        try:
            with trio.CancelScope() as ended:
                self._load.scopes.add(ended)
                await self._converse(scope, receive, send, serving, principal)
        finally:
            self._load.scopes.discard(ended)
            self._load.leave(peer)

    async def _converse(
        self, scope: Scope, receive: Receive, send: Send, serving: Serving, principal: str | None
    ) -> None:
        # Imported here: only servers that meet a WebSocket need it.
        from trio_mcp.transports.asgi.websocket import AsgiWebSocketTransport

        transport = AsgiWebSocketTransport(scope, receive, send, max_frame_bytes=self.settings.max_body_bytes)
        try:
            await transport.accept()
        except trio.BrokenResourceError:
            return  # the client has left already
        await serve_transport(serving.application, transport, principal)

    async def _find_session(self, call: _Call) -> LegacySession | None:
        version = call.headers.get(VERSION_HEADER)
        if version is not None and version not in ERAS:
            await self._refuse_version(call.reply, version)
            return None
        session = self._sessions.find(call.headers[SESSION_HEADER], call.principal)
        if session is None:
            # Of a stranger's session it is said that there is none.
            await self._refuse(call.reply, "session", 404, "no such session: begin anew with initialize")
        return session

    async def _refuse_version(self, reply: Reply, version: str) -> None:
        self.refusals["version"] += 1
        data = {"supported": list(ERAS), "requested": version}
        error = ProtocolError(UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", data)
        await reply.answer(400, encode_messages([ErrorResponse(make_error(error))])[0])

    async def _refuse_unserved(self, reply: Reply) -> None:
        await self._refuse(reply, "not serving", 503, NOT_SERVING, INTERNAL_ERROR)

    async def _refuse_overload(self, reply: Reply, kind: str, reason: str) -> None:
        await self._refuse(reply, kind, 503, f"overloaded: {reason}", INTERNAL_ERROR, {"retry-after": "1"})

    async def _refuse(
        self,
        reply: Reply,
        kind: str,
        status: int,
        reason: str,
        code: int = INVALID_REQUEST,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.refusals[kind] += 1
        logger.debug("refused with %d: %s", status, reason)
        await reply.refuse(status, code, reason, headers=headers)

    async def _read_body(self, call: _Call) -> bytes | None:
        """The body, or None where it was refused or the client has gone."""
        limit = self.settings.max_body_bytes
        declared = call.headers.get("content-length", "")
        body: bytes | None = None
        is_whole = False
        if not is_longer(declared, limit):
            with trio.move_on_after(self.settings.body_timeout) as scope:
                body, is_whole = await take_body(call.receive, limit)
            if scope.cancelled_caught:
                reason = f"the body did not arrive within {self.settings.body_timeout:g} seconds"
                await self._refuse(call.reply, "slow body", 408, reason, PARSE_ERROR)
                return None
            if is_whole:
                return body
        if body is None:
            await self._refuse(call.reply, "body", 413, f"the body is longer than {limit} bytes", PARSE_ERROR)
        return None

    def _refuse_at_door(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        server = scope.get("server")
        host = str(server[0]) if server and server[1] is not None else ""
        keeper = self._doorkeepers.get(host)
        if keeper is None:
            if len(self._doorkeepers) >= MAX_ADDRESSES:
                self._doorkeepers.clear()
            keeper = Doorkeeper.for_bind(host, self._allowed_hosts, self._allowed_origins)
            self._doorkeepers[host] = keeper
        origin = headers.get("origin")
        if origin is not None and self._cors_origins & {origin, "*"}:
            origin = None
        return keeper.refusal(headers.get("host"), origin)

    def _cors_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        origin = headers.get("origin")
        if origin is None or not self._cors_origins & {origin, "*"}:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": SESSION_HEADER,
            "vary": "origin",
        }


def _wants_answer(batch: Batch) -> bool:
    return any(isinstance(member, (Request, Malformed)) for member in batch.frames)
