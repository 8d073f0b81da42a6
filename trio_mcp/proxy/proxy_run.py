"""One upstream server of a proxy that runs: its connection, and who uses it now.

Owns which connection a request goes by. Refuses to know what is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_mcp.client.link import Link
from trio_mcp.proxy.downstream import Downstream, RelayedAnswering
from trio_mcp.proxy.relayed_logs import RelayedLogs
from trio_mcp.proxy.upstream import Upstream


class UpstreamRun:
    """The connections to one upstream server, for as long as the proxy runs."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._logs = RelayedLogs()

    def __repr__(self) -> str:
        return f"<UpstreamRun of {self.upstream!r}>"

    def note_link(self, link: Link) -> None:
        """Take note of a new connection."""
        link.session.routes.on_log = self._logs.note

    @asynccontextmanager
    async def lend(self, downstream: Downstream) -> AsyncIterator[Link]:
        """The connection for a request, for as long as the block lasts.

        Raises ProtocolError if there is none.
        """
        link = self.upstream.link
        with self._logs.relaying(downstream):
            yield link.on_behalf(RelayedAnswering(downstream=downstream), downstream.make_meta(link))
