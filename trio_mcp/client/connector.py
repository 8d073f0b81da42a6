"""How the connection of a client is opened and closed.

Owns the order of that: transport, session, era, log level; and the second connection to a server that
ended at the first message, or that has only an older transport. Knows no verb of a client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar, Final

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
from trio_mcp.client.target import Target, UrlOptions, is_http, open_target
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout, ConnectionLost, ProtocolError
from trio_mcp.outgoing.transport import FrameTransport, MirroringTransport, StatusTransport
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.eras import LATEST_LEGACY, Era
from trio_mcp.wire.messages import Implementation, LoggingLevel

_OLDER_TRANSPORT: Final = frozenset({400, 404, 405})
"""How servers without Streamable HTTP answer `initialize` (MCP transports, "Backwards Compatibility")."""


class _RefusedError(Exception):
    """The server may have only the HTTP+SSE of 2024-11-05; `answer` is how it refused `initialize`."""

    def __init__(self, answer: ProtocolError) -> None:
        super().__init__(str(answer))
        self.answer = answer


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

    make_session: ClassVar[Callable[..., ClientSession]] = ClientSession
    """Makes the session over a new connection."""

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
        except _RefusedError as refused:
            return await self._enter_sse(stack, pinned, refused.answer)
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

    async def _enter_sse(self, stack: AsyncExitStack, pinned: Era | None, refusal: ProtocolError) -> Link:
        """Connect by the older transport; without its event stream, the refusal counts."""
        # Imported here: only clients that were refused need it.
        from trio_mcp.transports.http.sse_transport import NoEventStreamError

        options = attrs.evolve(self.options, transport="sse")
        try:
            return await stack.enter_async_context(attrs.evolve(self, options=options)._open_once(pinned))
        except NoEventStreamError as error:
            refusal.add_note(f"It does not have HTTP+SSE of 2024-11-05 either: {error}")
            raise refusal from None

    @asynccontextmanager
    async def _open_once(self, pinned: Era | None) -> AsyncIterator[Link]:
        """Connect and agree on an era; raises as `open`, ProbeLost, and _RefusedError."""
        if self.options.transport == "sse" and pinned is None:
            pinned = LATEST_LEGACY  # no modern revision has this transport
        async with (
            open_target(self.target, self.settings, self.options) as transport,
            open_unwrapping_nursery() as nursery,
        ):
            session = self.make_session(
                transport, self.settings, self.log_handler, self.answering, self.on_error
            )
            session.start(nursery)
            leaving_well = False
            try:
                mirror = transport if isinstance(transport, MirroringTransport) else None
                origin = None if mirror is None else mirror.origin
                try:
                    agreement = await negotiate(session, self.info, pinned, origin, self.era_cache)
                except ProtocolError as error:
                    if self._may_be_older(transport, pinned):
                        raise _RefusedError(error) from error
                    raise
                level = None if self.log_handler is None else self.log_level
                link = Link(session, agreement, self.info, level, mirror)
                if level is not None and not agreement.era.modern and "logging" in agreement.capabilities:
                    await self._set_log_level(link, level)
                yield link
                leaving_well = True
            finally:
                session.finish(abandon_logs=not leaving_well)

    def _may_be_older(self, transport: FrameTransport, pinned: Era | None) -> bool:
        """Whether a server that refused the handshake may have only the older transport."""
        if self.options.transport is not None or not is_http(self.target) or (pinned and pinned.modern):
            return False
        return isinstance(transport, StatusTransport) and transport.handshake_status in _OLDER_TRANSPORT

    async def _set_log_level(self, link: Link, level: LoggingLevel) -> None:
        with trio.move_on_after(self.settings.handshake_timeout) as setting:
            await link.set_log_level(level)
        if setting.cancelled_caught:
            timeout = describe_seconds(self.settings.handshake_timeout)
            raise CallTimeout(f"no answer to logging/setLevel within {timeout}")
