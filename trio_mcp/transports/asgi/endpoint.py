"""An MCP endpoint as an ASGI application: HTTP of both eras, HTTP+SSE if it is wanted, and WebSocket.

Owns the way of a request: `serve_http` admits it, routes it, and runs the answer. Refuses to know
methods, except that `initialize` is never modern; the application compares their headers.
Legacy requests continue in `legacy_routes`, those of HTTP+SSE in `sse_routes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import trio

from trio_mcp.session.permit import Permit
from trio_mcp.session.serving import serve_request, serve_transport
from trio_mcp.transports.asgi.access import METHODS, Access
from trio_mcp.transports.asgi.admission import make_response_places, make_session_places
from trio_mcp.transports.asgi.body_reader import BodyReader
from trio_mcp.transports.asgi.call import Answer, HttpCall, Serving
from trio_mcp.transports.asgi.guard import Denial, Guard
from trio_mcp.transports.asgi.legacy_routes import LegacyRoutes
from trio_mcp.transports.asgi.legacy_session import LegacySessions
from trio_mcp.transports.asgi.modern_response import ModernResponse
from trio_mcp.transports.asgi.refusals import Refusals
from trio_mcp.transports.asgi.reply import Reply
from trio_mcp.transports.asgi.request import read_headers, read_peer
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.asgi.types import Receive, Scope, Send
from trio_mcp.wire.eras import ERAS
from trio_mcp.wire.errors import INVALID_REQUEST, ProtocolError
from trio_mcp.wire.frames import InFrame, Malformed, Notification, ProgressRun, Request
from trio_mcp.wire.http import SESSION_HEADER, VERSION_HEADER, check_headers
from trio_mcp.wire.incoming_request import IncomingRequest, read_request

if TYPE_CHECKING:
    from trio_mcp.transports.asgi.entrance import Entrance
    from trio_mcp.transports.asgi.sse_routes import SseRoutes


class Endpoint:
    """Answers the requests to one MCP endpoint; without a server it refuses them."""

    def __init__(
        self,
        path: str,
        settings: HttpSettings,
        *,
        allowed_hosts: Collection[str] | None,
        allowed_origins: Collection[str] | None,
        cors_origins: frozenset[str],
        guard: Guard | None,
        sse: bool = False,
    ) -> None:
        self.path = path
        self.settings = settings
        self._access = Access(allowed_hosts, allowed_origins, cors_origins, is_guarded=guard is not None)
        self._serving: Serving | None = None
        self._places = make_session_places(settings)
        self._sessions = LegacySessions(settings, self._places)
        self._load = make_response_places(settings)
        self._scopes: set[trio.CancelScope] = set()  # of what is being answered; the end cancels them
        self._refusals = Refusals()
        self._bodies = BodyReader(settings, self._refusals)
        self._legacy = LegacyRoutes(self._sessions, self._refusals)
        self._sse: SseRoutes | None = None
        if sse:
            # Imported here: only servers of the oldest clients need it.
            from trio_mcp.transports.asgi.sse_routes import SseRoutes

            self._sse = SseRoutes(path, settings, self._places, self._refusals, self._bodies, self._scopes)
        self._entrance: Entrance | None = None
        if guard is not None:
            # Imported here: only servers that ask who their clients are need it.
            from trio_mcp.transports.asgi.entrance import Entrance

            paths = [path] if self._sse is None else [path, self._sse.stream_path]
            self._entrance = Entrance(guard, self._access, self._refusals, paths)

    def __repr__(self) -> str:
        state = "not serving" if self._serving is None else "serving"
        responses, sessions = len(self._load), len(self._places)
        return f"<Endpoint {self.path} {state}, {responses} responses, {sessions} sessions>"

    @property
    def refusals(self) -> Counter[str]:
        """How often a request was refused, by the kind of reason."""
        return self._refusals.counts

    def start(self, serving: Serving) -> None:
        """Serve `serving` from now on."""
        self._serving = serving
        self._refusals.counts = serving.refusals

    def shut_down(self) -> None:
        """Refuse further requests, and cancel those that are being answered; does not wait."""
        self._serving = None
        for scope in self._scopes:
            scope.cancel()
        self._sessions.end_all()

    async def serve_nothing(self, scope: Scope, send: Send) -> None:
        """Refuse a request for another path; checkpoints."""
        self.refusals["path"] += 1
        if scope["type"] == "http":
            await Reply(send).refuse(404, INVALID_REQUEST, f"the MCP endpoint is {self.path}")
        else:
            await send({"type": "websocket.close", "code": 1008})

    def find_sse(self, scope: Scope) -> str | None:
        """The path of HTTP+SSE that a request is for, or None."""
        return None if self._sse is None else self._sse.find(scope)

    def find_metadata(self, scope: Scope) -> str | None:
        """The path of the endpoint whose metadata a request for another path wants, or None."""
        return None if self._entrance is None else self._entrance.find_metadata(scope)

    async def serve_metadata(self, scope: Scope, send: Send, path: str) -> None:
        """Answer a request for the metadata of `path`; checkpoints."""
        assert self._entrance is not None, "it has found the path"
        await self._entrance.serve_metadata(scope, send, path)

    async def serve_http(
        self, scope: Scope, receive: Receive, send: Send, sse_path: str | None = None
    ) -> None:
        """Answer one HTTP request, to the endpoint or to a path of HTTP+SSE; checkpoints."""
        call = await self._admit(scope, receive, send)
        if call is None:
            return
        peer = call.peer
        self._load.enter(peer)
        try:
            if self._entrance is not None:
                call = await self._entrance.admit(call, is_sse=sse_path is not None)
                if call is None:
                    return
                if self._serving is not call.serving:
                    await self._refusals.refuse_unserved(call.reply)  # it ended while the guard was asked
                    return
            answer = await self._route(call) if sse_path is None else await self._route_sse(call, sse_path)
            del call  # an answer may take long, and needs nothing of this
            if answer is not None:
                await answer
        finally:
            self._load.leave(peer)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> HttpCall | None:
        """Let a request in, or refuse it and return None, before its body is read; checkpoints if refused."""
        headers = read_headers(scope)
        reply = Reply(send, self._access.cors_headers(headers))
        peer = read_peer(scope)
        refusal = self._access.refusal(scope, headers)
        if refusal is not None:
            await self._refusals.refuse(reply, "door", 403, refusal)
            return None
        serving = self._serving
        if serving is None:
            await self._refusals.refuse_unserved(reply)
            return None
        overload = self._load.refusal(peer)
        if overload is not None:
            await self._refusals.refuse_overload(reply, "streams", overload)
            return None
        return HttpCall(scope, receive, reply, headers, peer, None, serving)

    async def _route(self, call: HttpCall) -> Answer | None:
        method = call.scope["method"]
        if method == "POST":
            return await self._post(call)
        if method == "GET" and SESSION_HEADER in call.headers:
            return await self._legacy.get(call)
        if method == "DELETE" and SESSION_HEADER in call.headers:
            await self._legacy.delete(call)
        elif method == "OPTIONS" and self._access.has_cors:
            await call.reply.answer(204, headers=self._access.preflight_headers(call.headers))
        else:
            reason = f"{method} is not for this endpoint without the header Mcp-Session-Id"
            await self._refusals.refuse(call.reply, "method", 405, reason, headers={"allow": METHODS})
        return None

    async def _route_sse(self, call: HttpCall, path: str) -> Answer | None:
        assert self._sse is not None, "it has found the path"
        if call.scope["method"] == "OPTIONS" and self._access.has_cors:
            await call.reply.answer(204, headers=self._access.preflight_headers(call.headers))
            return None
        return await self._sse.route(call, path)

    async def _post(self, call: HttpCall) -> Answer | None:
        body = await self._bodies.read(call)
        if body is None:
            return None
        if self._serving is not call.serving:
            await self._refusals.refuse_unserved(call.reply)  # it ended while the body was on its way
            return None
        if SESSION_HEADER not in call.headers and body.is_batch:
            reason = "only sessions of 2025-03-26 have batches"  # which is not worth decoding it
            await self._refusals.refuse_malformed(call.reply, Malformed(INVALID_REQUEST, reason))
            return None
        message: InFrame | IncomingRequest = body.decode()
        if len(body.data) > self.settings.max_values:
            await trio.lowlevel.checkpoint()  # each decoding of a long text takes a turn of its own
        version = call.headers.get(VERSION_HEADER)
        is_modern = version is not None and version in ERAS and ERAS[version].modern
        if isinstance(message, Request):
            message = read_request(message)
            if message.names_modern_version or (is_modern and message.frame.method != "initialize"):
                return await self._answer_modern(message, call)
        if isinstance(message, Malformed) and SESSION_HEADER not in call.headers:
            await self._refusals.refuse_malformed(call.reply, message)
        elif is_modern and isinstance(message, (Notification, ProgressRun)):
            await call.reply.answer(202)  # this revision has none with a meaning over HTTP
        elif version is not None and version not in ERAS:
            await self._refusals.refuse_version(call.reply, version)
        else:
            return await self._legacy.post(message, call)
        return None

    async def _answer_modern(self, request: IncomingRequest, call: HttpCall) -> Answer | None:
        ident, application = request.frame.id, call.serving.application
        try:
            check_headers(call.headers, request)
            application.check_headers(call.headers, request)
        except ProtocolError as error:
            await self._refusals.refuse_headers(call.reply, error, ident)
            return None
        exchange = ModernResponse(ident, call.receive, call.reply, self.settings)
        return serve_request(
            application, request, exchange, call.permit, call.headers, self._scopes, call.peer
        )

    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket connection, with the semantics of stdio; checkpoints."""
        headers: Mapping[str, str] = read_headers(scope)
        peer, serving = read_peer(scope), self._serving
        is_refused = self._access.refusal(scope, headers) is not None or self._load.refusal(peer) is not None
        if is_refused or serving is None:
            self.refusals["websocket"] += 1
            await send({"type": "websocket.close", "code": 1008})
            return
        permit: Permit | Denial | None = None
        ended = trio.CancelScope()
        self._load.enter(peer)
        try:
            self._scopes.add(ended)
            with ended:
                if self._entrance is not None:
                    permit = await self._entrance.admit_websocket(scope, headers, send)
                    headers = self._entrance.without_secrets(headers)
                if isinstance(permit, Denial):
                    return
                await self._converse(scope, receive, send, serving, permit, headers, peer)
        finally:
            self._scopes.discard(ended)
            self._load.leave(peer)

    async def _converse(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        serving: Serving,
        permit: Permit | None,
        headers: Mapping[str, str],
        peer: str,
    ) -> None:
        # Imported here: only servers that meet a WebSocket need it.
        from trio_mcp.transports.asgi.websocket import AsgiWebSocketTransport

        limit, max_values = self.settings.max_body_bytes, self.settings.max_values
        transport = AsgiWebSocketTransport(scope, receive, send, max_frame_bytes=limit, max_values=max_values)
        try:
            await transport.accept()
        except trio.BrokenResourceError:
            return  # the client has left already
        await serve_transport(serving.application, transport, permit, headers, peer)
