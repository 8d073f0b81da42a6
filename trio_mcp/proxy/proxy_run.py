"""One upstream server of a proxy that runs: its connections, and who uses them now.

Owns which connection a request goes by. Refuses to know what is asked.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import trio
from msgspec import Raw

from trio_mcp.client.link import Link
from trio_mcp.client.server_requests import Answering
from trio_mcp.proxy.downstream import Downstream, RelayedAnswering
from trio_mcp.proxy.entries import Entry
from trio_mcp.proxy.parked_calls import MARK, ParkedCall, ParkedCalls
from trio_mcp.proxy.relay import Relay
from trio_mcp.proxy.relayed_logs import LogTaker, RelayedLogs
from trio_mcp.proxy.relayed_progress import RelayedProgress
from trio_mcp.proxy.sessions import Asker, UpstreamSession, UpstreamSessions, require_link
from trio_mcp.proxy.upstream import Lists, Upstream

NoteTask: TypeAlias = Callable[[str], None]
"""Is told the id of the task that the upstream server has made of a call."""

Work: TypeAlias = Callable[[Link, Relay, NoteTask], Awaitable[Raw]]
"""Makes a request by a connection, and returns its encoded result."""


class UpstreamRun:
    """The connections to one upstream server, for as long as the proxy runs; `nursery` has what they do."""

    def __init__(
        self,
        entry: Entry,
        lists: Lists,
        follow: Callable[[Link], Awaitable[None]],
        nursery: trio.Nursery,
        *,
        is_required: bool,
    ) -> None:
        """`lists` take what the server offers, and `follow` runs while a connection lasts."""
        connect = partial(entry.connect, Answering(), {})
        self.upstream = Upstream(entry.name, connect, lists, self._note_link, follow, is_required)
        self._entry = entry
        self._logs = RelayedLogs()
        self._sessions = UpstreamSessions(entry.name, entry.connect, nursery)
        self._parked = ParkedCalls(nursery)

    def __repr__(self) -> str:
        return f"<UpstreamRun of {self.upstream!r}>"

    def _note_link(self, link: Link) -> None:
        """Take note of a new connection."""
        self._logs.begin(link)

    async def forward(self, downstream: Downstream, work: Work) -> Raw:
        """Do the work on behalf of a request, by the connection that it needs; checkpoints.

        Raises what the work raises, and ProtocolError if there is no connection.
        """
        main = self.upstream.link
        headers = await self._find_headers(downstream)
        can_be_shared = main.era.modern or self._entry.is_borrowed or not downstream.capabilities
        if can_be_shared and not headers:
            await self._logs.want(main, downstream.log_level)
            relay = _make_relay(downstream)
            with self._logs.relaying(downstream, relay.take_log):
                return await _do(work, _on_behalf(main, downstream), relay, _forget_task)
        if downstream.hands_on_rounds and not downstream.may_become_task and not main.era.modern:
            return await self._park(downstream, work, headers)
        relay = _make_relay(downstream)
        async with self._lend(downstream, downstream.ask, relay.take_log, headers) as session:
            link = _on_behalf(require_link(self.upstream.name, session), downstream)
            return await _do(work, link, relay, partial(_note_task, session, downstream))

    async def _find_headers(self, downstream: Downstream) -> Mapping[str, str]:
        """What of a request's headers the program wants to be handed on."""
        forward = self._entry.forward_headers
        if forward is None:
            return {}
        if not callable(forward):
            given = downstream.context.headers
            return {name: given[name] for name in forward if name in given}
        found = forward(downstream.context)
        return await found if inspect.isawaitable(found) else found

    async def _park(self, downstream: Downstream, work: Work, headers: Mapping[str, str]) -> Raw:
        """Do the work so that it goes on while the client answers a question in its next request."""
        ttl = downstream.state_ttl
        kept, answers = downstream.read_round()
        if kept is not None and kept.startswith(MARK):
            return await self._parked.find(kept).attend(downstream, answers, ttl)
        call = ParkedCall()

        relay = Relay(call.receive if downstream.wants_progress else None, call.take_log)

        async def run() -> Raw:
            async with self._lend(downstream, call.ask, relay.take_log, headers) as session:
                link = _on_behalf(require_link(self.upstream.name, session), downstream)
                return await _do(work, link, relay, partial(_note_task, session, downstream))

        self._parked.start(call, run)
        return await call.attend(downstream, {}, ttl)

    @asynccontextmanager
    async def _lend(
        self, downstream: Downstream, ask: Asker, take_log: LogTaker, headers: Mapping[str, str]
    ) -> AsyncIterator[UpstreamSession]:
        async with self._sessions.lend(downstream, ask, take_log, headers) as session:
            if session.link is not None:
                await session.logs.want(session.link, downstream.log_level)
            yield session


def _make_relay(downstream: Downstream) -> Relay:
    report = RelayedProgress(downstream).receive if downstream.wants_progress else None
    return Relay(report, downstream.take_log)


async def _do(work: Work, link: Link, relay: Relay, note_task: NoteTask) -> Raw:
    raw = await work(link, relay, note_task)
    relay.finish()
    return raw


def _on_behalf(link: Link, downstream: Downstream) -> Link:
    return link.on_behalf(RelayedAnswering(downstream=downstream), downstream.make_meta(link))


def _forget_task(task_id: str) -> None:
    """The questions of a task are answered where its result is waited for."""


def _note_task(session: UpstreamSession, downstream: Downstream, task_id: str) -> None:
    session.tasks[task_id] = downstream
