"""How the connection of a client is opened and closed.

Owns the order of that: transport, session, era, log level; and the second connection to a server that
ended at the first message. Knows no verb of a client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from trio_mcp.client.era_cache import EraCache
from trio_mcp.client.fault_report import ErrorHandler
from trio_mcp.client.link import Link
from trio_mcp.client.log_queue import LogHandler
from trio_mcp.client.negotiation import ProbeLost, negotiate
from trio_mcp.client.server_requests import Answering
from trio_mcp.client.session import ClientSession
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Target, UrlOptions, open_target
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout, ConnectionLost
from trio_mcp.outgoing.transport import MirroringTransport
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.eras import LATEST_LEGACY, Era
from trio_mcp.wire.messages import Implementation, LoggingLevel


@attrs.frozen
class Connector:
    """What a client connects to and with; the arguments of `open_client` say more of each."""

    target: Target
    settings: ClientSettings
    options: UrlOptions
    info: Implementation
    log_handler: LogHandler | None
    log_level: LoggingLevel
    on_error: ErrorHandler | None
    answering: Answering
    era_cache: EraCache | None

    @asynccontextmanager
    async def open(self, pinned: Era | None) -> AsyncIterator[Link]:
        """Connect for as long as the block lasts, in the era that is `pinned` or else found; checkpoints.

        Raises what `open_client` raises.
        """
        async with AsyncExitStack() as stack:
            yield await self._enter(stack, pinned)

    async def _enter(self, stack: AsyncExitStack, pinned: Era | None) -> Link:
        try:
            return await stack.enter_async_context(self._open_once(pinned))
        except ProbeLost as first:
            # Some legacy servers end at a first message that is not initialize.
            try:
                return await stack.enter_async_context(self._open_once(LATEST_LEGACY))
            except ConnectionLost as second:
                second.add_note(
                    "It was connected to twice, as it may be a legacy server that ended at the probe."
                )
                if str(second) == str(first):
                    raise second from None  # the same words twice say no more
                raise

    @asynccontextmanager
    async def _open_once(self, pinned: Era | None) -> AsyncIterator[Link]:
        """Connect and agree on an era; raises as `open`, and ProbeLost."""
        async with (
            open_target(self.target, self.settings, self.options) as transport,
            open_unwrapping_nursery() as nursery,
        ):
            session = ClientSession(transport, self.settings, self.log_handler, self.answering, self.on_error)
            session.start(nursery)
            leaving_well = False
            try:
                mirror = transport if isinstance(transport, MirroringTransport) else None
                origin = None if mirror is None else mirror.origin
                agreement = await negotiate(session, self.info, pinned, origin, self.era_cache)
                level = None if self.log_handler is None else self.log_level
                link = Link(session, agreement, self.info, level, mirror)
                if level is not None and not agreement.era.modern and "logging" in agreement.capabilities:
                    await self._set_log_level(link, level)
                yield link
                leaving_well = True
            finally:
                session.finish(abandon_logs=not leaving_well)

    async def _set_log_level(self, link: Link, level: LoggingLevel) -> None:
        with trio.move_on_after(self.settings.handshake_timeout) as setting:
            await link.set_log_level(level)
        if setting.cancelled_caught:
            timeout = describe_seconds(self.settings.handshake_timeout)
            raise CallTimeout(f"no answer to logging/setLevel within {timeout}")
