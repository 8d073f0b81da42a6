"""The HTTP requests of the legacy revisions: POST, GET and DELETE of a session.

Owns which request goes to which session and stream, and which are refused (MCP transports
2025-11-25, "Session Management"). Refuses to know methods, except that a session begins with
`initialize`.
"""

from __future__ import annotations

from trio_mcp.transports.asgi.access import METHODS
from trio_mcp.transports.asgi.call import Answer, HttpCall
from trio_mcp.transports.asgi.legacy_session import LegacySession, LegacySessions
from trio_mcp.transports.asgi.refusals import Refusals
from trio_mcp.transports.asgi.request import accepts
from trio_mcp.wire.eras import ERAS
from trio_mcp.wire.frames import Batch, InFrame, Malformed, Request
from trio_mcp.wire.http import EVENT_ID_HEADER, EVENT_STREAM, SESSION_HEADER, VERSION_HEADER
from trio_mcp.wire.incoming_request import IncomingRequest


class LegacyRoutes:
    """Routes the requests of legacy clients; `post` and `get` return the rest of the work, if any."""

    def __init__(self, sessions: LegacySessions, refusals: Refusals) -> None:
        self._sessions = sessions
        self._refusals = refusals

    async def post(self, message: InFrame | IncomingRequest, call: HttpCall) -> Answer | None:
        """Hand a message to its session, or begin a session with `initialize`; checkpoints."""
        if SESSION_HEADER in call.headers:
            session = await self._find_session(call)
            if session is not None:
                return await self._post_in_session(session, message, call)
        elif isinstance(message, IncomingRequest) and message.frame.method == "initialize":
            return await self._begin(message, call)
        else:
            reason = "the header Mcp-Session-Id is missing; a session begins with initialize"
            await self._refusals.refuse(call.reply, "session", 400, reason)
        return None

    async def _begin(self, request: IncomingRequest, call: HttpCall) -> Answer | None:
        refusal = self._sessions.refusal(call.peer)
        if refusal is not None:
            await self._refusals.refuse_overload(call.reply, "sessions", refusal)
            return None
        serving = call.serving
        session = await self._sessions.open(serving.application, serving.nursery, call.permit, call.peer)
        return session.begin(request, call)

    async def _post_in_session(
        self, session: LegacySession, message: InFrame | IncomingRequest, call: HttpCall
    ) -> Answer | None:
        if isinstance(message, Batch):
            # A session without batches answers one with a refusal.
            wants_answer = _has_request(message) or not session.takes_batches
        else:
            wants_answer = isinstance(message, Malformed)
        if wants_answer or isinstance(message, IncomingRequest):
            return session.answer(message, call)
        session.accept(message)
        await call.reply.answer(202)
        return None

    async def get(self, call: HttpCall) -> Answer | None:
        """Find the main stream of a session, or the one that the client resumes; checkpoints if refused."""
        if not accepts(call.headers.get("accept", "*/*"), EVENT_STREAM):
            await self._refusals.refuse(call.reply, "accept", 406, f"the client must accept {EVENT_STREAM}")
            return None
        session = await self._find_session(call)
        if session is None:
            return None
        event_id = call.headers.get(EVENT_ID_HEADER)
        if event_id is None:
            return session.listen(call.receive, call.reply, call.ends_at)
        found = session.find(event_id)
        if found is None:
            # 404 would end the session at the client; 405 is what a GET without a stream gets.
            reason = f"nothing is to come behind the event {event_id!r} in this session"
            await self._refusals.refuse(call.reply, "event", 405, reason, headers={"allow": METHODS})
            return None
        stream, number = found
        return session.carry(stream, call.receive, call.reply, number, call.ends_at)

    async def delete(self, call: HttpCall) -> None:
        """End a session; checkpoints."""
        session = await self._find_session(call)
        if session is not None:
            session.end()
            await call.reply.answer(204)

    async def _find_session(self, call: HttpCall) -> LegacySession | None:
        """The session that a request names, or None after it was refused; checkpoints then."""
        version = call.headers.get(VERSION_HEADER)
        if version is not None and version not in ERAS:
            await self._refusals.refuse_version(call.reply, version)
            return None
        session = self._sessions.find(call.headers[SESSION_HEADER], call.owner)
        if session is None:
            # The same is said of a stranger's session, so that nobody learns whether there is one.
            reason = "no such session: begin anew with initialize"
            await self._refusals.refuse(call.reply, "session", 404, reason)
        return session


def _has_request(batch: Batch) -> bool:
    return any(isinstance(member, (Request, Malformed)) for member in batch.frames)
