"""Connections of their own for clients that can be asked, to an upstream server of a legacy revision.

Such a server does not say with a question for which client of the proxy it asks. So a client that can be
asked gets connections that nobody else uses, and what it can be asked is declared there: a legacy client one
for its session, a modern one as many as it makes requests at once. Owns when they are opened and closed.
Refuses to know what is asked.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import attrs
import msgspec
import trio

from trio_mcp.client.link import Link
from trio_mcp.client.server_requests import Answering
from trio_mcp.errors import ProtocolError
from trio_mcp.proxy.downstream import Downstream, strip_questions_meta
from trio_mcp.proxy.entries import Connect
from trio_mcp.proxy.failures import unavailable
from trio_mcp.proxy.relayed_logs import LogTaker, RelayedLogs
from trio_mcp.session.connection import ServerConnection
from trio_mcp.wire.errors import INTERNAL_ERROR, METHOD_NOT_FOUND
from trio_mcp.wire.frames import Notification
from trio_mcp.wire.progress_codec import META_RELATED_TASK

logger = logging.getLogger("trio_mcp.proxy")

MAX_SESSIONS: Final = 1000
"""How many such connections one proxy has to a server at most: each may be a process there."""

IDLE_SECONDS: Final = 60.0
"""How long a connection of a principal is kept for the next request, which may come by another wire."""

Asker: TypeAlias = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Asks the client of a request, and returns its answer."""


@attrs.define(eq=False)
class UpstreamSession:
    """One connection for one client; `requests` are those that are made by it, with who asks for each."""

    key: Hashable
    """Whose it is: the name of a principal, or the wire of the client."""
    home: ServerConnection
    capabilities: Mapping[str, Any]
    headers: Mapping[str, str] = attrs.field(repr=False)
    is_shared: bool
    requests: dict[Downstream, Asker] = attrs.field(factory=dict)
    tasks: dict[str, Downstream] = attrs.field(factory=dict)
    """The requests of which the server has made a task, by its id."""
    logs: RelayedLogs = attrs.field(factory=RelayedLogs)
    link: Link | None = None
    staying: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self.link is None or self.link.session.is_lost or self.staying.cancel_called

    def suits(self, wanted: _Wanted) -> bool:
        """Whether a request can be made by it."""
        is_same = self.capabilities == wanted.capabilities and self.headers == wanted.headers
        return is_same and not self.is_lost

    async def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the client what the server asks; checkpoints. Raises ProtocolError."""
        if not self.requests:
            # For example roots/list, which servers ask when a session begins.
            if not self.is_shared or self.home.is_lost:
                raise ProtocolError(METHOD_NOT_FOUND, "there is nobody now who could answer")
            answer = await self.home.ask(method, strip_questions_meta(params))
            return answer if isinstance(answer, dict) else {}
        return await self._find_asker(params)(method, params)

    def _find_asker(self, params: Mapping[str, Any]) -> Asker:
        meta = params.get("_meta")
        related = meta.get(META_RELATED_TASK) if isinstance(meta, Mapping) else None
        task_id = related.get("taskId") if isinstance(related, Mapping) else None
        known = self.tasks.get(task_id) if isinstance(task_id, str) else None
        if known is not None and known in self.requests:
            return self.requests[known]
        newest = list(reversed(self.requests))
        # A question of a task says so.
        chosen = next((one for one in newest if not one.is_task), newest[0])
        return self.requests[chosen]

    def note_page(self, params: msgspec.Raw | msgspec.UnsetType) -> None:
        """Tell the client that a page is done with, of which it has the name."""
        if self.is_shared:  # modern clients know no names of pages
            self.home.outbox.put(Notification("notifications/elicitation/complete", params))


@attrs.frozen
class SessionAnswering(Answering):
    """Answers the questions of one session by asking its client."""

    upstream_session: UpstreamSession = attrs.field(kw_only=True)

    def capabilities(self, *, modern: bool) -> dict[str, Any]:
        """What the client can be asked."""
        return dict(self.upstream_session.capabilities)

    def can_answer(self, question: Any) -> bool:
        """Whether the client can be asked; the answer says more."""
        return True

    async def answer(self, method: str, params: Any) -> dict[str, Any]:
        """Ask the client; checkpoints. Raises ProtocolError."""
        return await self.upstream_session.ask(method, params if isinstance(params, Mapping) else {})


class UpstreamSessions:
    """The connections of all clients to the server `name`; they are held by tasks of `nursery`."""

    def __init__(self, name: str, connect: Connect, nursery: trio.Nursery) -> None:
        self._name = name
        self._connect = connect
        self._nursery = nursery
        self._number = 0
        self._watched: set[ServerConnection] = set()
        self._shared: dict[ServerConnection, UpstreamSession] = {}
        self._opening: dict[ServerConnection, trio.Lock] = {}
        self._idle: dict[Hashable, list[UpstreamSession]] = {}

    def __repr__(self) -> str:
        return f"<UpstreamSessions of {self._name!r}: {self._number} connections>"

    @asynccontextmanager
    async def lend(
        self, downstream: Downstream, ask: Asker, take_log: LogTaker, headers: Mapping[str, str]
    ) -> AsyncIterator[UpstreamSession]:
        """A connection for a request, for as long as the block lasts; checkpoints.

        `ask` asks its client, and `take_log` takes the log messages for it. `headers` are sent with each
        request. Raises what connecting raises, and ProtocolError if there are too many connections.
        """
        wanted = _Wanted(downstream, headers)
        if downstream.request.era.modern:
            session = await self._find_idle(wanted, ask)
        else:
            session = await self._find_shared(wanted, ask)
        session.requests[downstream] = ask
        session.staying.deadline = math.inf
        try:
            with session.logs.relaying(downstream, take_log):
                yield session
        finally:
            del session.requests[downstream]
            for task_id in [key for key, one in session.tasks.items() if one is downstream]:
                del session.tasks[task_id]
            self._give_back(session)

    async def _find_idle(self, wanted: _Wanted, ask: Asker) -> UpstreamSession:
        idle = self._idle.get(wanted.key, [])
        while idle:
            session = idle.pop()
            if session.suits(wanted):
                await trio.lowlevel.checkpoint()
                return session
            session.staying.cancel()
        return await self._open(wanted, ask, is_shared=False)

    async def _find_shared(self, wanted: _Wanted, ask: Asker) -> UpstreamSession:
        if wanted.home.is_lost:  # the request is a task that goes on
            return await self._open(wanted, ask, is_shared=False)
        lock = self._opening.setdefault(wanted.home, trio.Lock())
        async with lock:
            session = self._shared.get(wanted.home)
            if session is None or not session.suits(wanted):
                if session is not None and not session.requests:
                    session.staying.cancel()
                session = await self._open(wanted, ask, is_shared=True)
                if not wanted.home.is_lost:
                    self._shared[wanted.home] = session
            return session

    async def _open(self, wanted: _Wanted, ask: Asker, *, is_shared: bool) -> UpstreamSession:
        if self._number >= MAX_SESSIONS:
            raise ProtocolError(INTERNAL_ERROR, f"overloaded: {MAX_SESSIONS} connections are open")
        home = wanted.home
        if wanted.key is home and home not in self._watched and not home.is_lost:
            self._watched.add(home)
            home.watch_loss(lambda: self._forget(home))
        session = UpstreamSession(wanted.key, home, wanted.capabilities, wanted.headers, is_shared)
        session.requests[wanted.downstream] = ask  # the server may ask as soon as it is connected
        try:
            await self._nursery.start(self._hold, session)
        finally:
            del session.requests[wanted.downstream]
        return session

    async def _hold(self, session: UpstreamSession, *, task_status: trio.TaskStatus[None]) -> None:
        self._number += 1
        has_started = False
        try:
            answering = SessionAnswering(upstream_session=session)
            async with self._connect(answering, session.headers) as link:
                session.link = link
                session.logs.begin(link)
                link.session.routes.on_page = session.note_page
                has_started = True
                task_status.started()
                with session.staying:
                    await link.session.life.wait_lost()
        except Exception as error:  # a target may raise anything; before the start, whoever waits gets it
            if not has_started:
                raise
            logger.warning("a connection to %r has failed: %s", self._name, error)
        finally:
            self._number -= 1
            self._drop(session)

    def _give_back(self, session: UpstreamSession) -> None:
        """Keep a connection for the next request of its client, or close it if there will be none."""
        if session.key is not session.home:
            session.staying.deadline = trio.current_time() + IDLE_SECONDS
            self._keep(session)
        elif session.is_shared:
            if not session.requests and self._shared.get(session.home) is not session:
                session.staying.cancel()
        elif session.home.is_lost:
            session.staying.cancel()
        else:
            self._keep(session)

    def _keep(self, session: UpstreamSession) -> None:
        if not session.is_lost:
            self._idle.setdefault(session.key, []).append(session)

    def _drop(self, session: UpstreamSession) -> None:
        """Forget a connection that has ended."""
        idle = self._idle.get(session.key, [])
        if session in idle:
            idle.remove(session)
        if not idle:
            self._idle.pop(session.key, None)

    def _forget(self, home: ServerConnection) -> None:
        """Close what a client that is gone does not use any more."""
        self._watched.discard(home)
        self._opening.pop(home, None)
        shared = self._shared.pop(home, None)
        for session in [*self._idle.pop(home, []), *([] if shared is None else [shared])]:
            if not session.requests:
                session.staying.cancel()


class _Wanted:
    """The connection that a request needs; `key` is whom it may be shared with: a principal, or one wire."""

    def __init__(self, downstream: Downstream, headers: Mapping[str, str]) -> None:
        connection = downstream.request.connection
        self.downstream = downstream
        self.home = connection.home
        self.capabilities = downstream.capabilities
        self.headers = headers
        is_of_principal = downstream.request.era.modern and connection.owner is not None
        self.key: Hashable = connection.owner if is_of_principal else self.home


def require_link(name: str, session: UpstreamSession) -> Link:
    """The link of a session that is lent; raises ProtocolError if it was lost meanwhile."""
    if session.link is None or session.is_lost:
        raise unavailable(name, "was lost just now")
    return session.link
