"""A client that has instruments: what it asks for, and what comes of it, is told to them.

Owns which moments of a connection and of its requests are told. A client without instruments has a
`ClientSession` in its place, and does not import this module.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgspec

from trio_mcp.client.connector import Connector
from trio_mcp.client.link import Link
from trio_mcp.client.outcome import read_error
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.session import ClientSession
from trio_mcp.errors import CallTimeout, ConnectionLost
from trio_mcp.instruments import Instruments, ObservedCall, ObservedSession, check_instrument
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.transports.kinds import find_kind
from trio_mcp.wire.eras import Era
from trio_mcp.wire.frames import ErrorResponse, InFrame, ProgressRun, RequestId, Response, as_number
from trio_mcp.wire.messages import META_PROTOCOL_VERSION, Params


class _ToolResult(msgspec.Struct):
    """What tells whether a tool has failed."""

    is_error: Any = msgspec.field(name="isError", default=False)


class InstrumentedClientSession(ClientSession):
    """A `ClientSession` that tells `instruments` of its requests; `observed` is what is told of itself."""

    def __init__(
        self, instruments: Instruments, observed: ObservedSession, transport: FrameTransport, *args: Any
    ) -> None:
        super().__init__(transport, *args)
        self.observed = observed
        self._instruments = instruments
        self._observed_calls: dict[RequestId, ObservedCall] = {}

    def begin(self, method: str, params: Params, *args: Any, **options: Any) -> PendingCall:
        """As that of the base class."""
        meta = {} if isinstance(params.meta, msgspec.UnsetType) else params.meta
        version = meta.get(META_PROTOCOL_VERSION) or self.observed.protocol_version
        target = getattr(params, "name", None) or getattr(params, "uri", None)
        call = ObservedCall(
            side="client",
            method=method,
            target=target if isinstance(target, str) else None,
            id=self._last_id + 1,
            protocol_version=str(version or getattr(params, "protocol_version", "")),
            transport=self.observed.transport,
            session=self.observed,
            meta={},
            peer=self.observed.peer,
        )
        self._instruments.start_call(call)
        if call.meta:
            params.meta = {**meta, **call.meta}
        try:
            pending = super().begin(method, params, *args, **options)
        except BaseException as error:
            call.outcome, call.error = "error", error
            self._instruments.end_call(call)
            raise
        self._observed_calls[pending.id] = call
        return pending

    def end(self, call: PendingCall, **options: Any) -> None:
        """As that of the base class."""
        super().end(call, **options)
        self._end(call)

    def keep(self, call: PendingCall) -> None:
        """As that of the base class: the request has been answered with a task."""
        super().keep(call)
        self._end(call)

    def _end(self, pending: PendingCall) -> None:
        call = self._observed_calls.pop(pending.id, None)
        if call is None:  # it was answered with a task, and its end was told then
            return
        outcome = pending.outcome
        if isinstance(outcome, Response):
            has_failed = call.method == "tools/call" and _is_failure(outcome.result)
            call.outcome = "tool_error" if has_failed else "result"
        elif isinstance(outcome, ErrorResponse):
            call.outcome, call.error = "error", read_error(outcome.error)
            call.error_code, call.error_message = outcome.error.code, outcome.error.message
        elif outcome is not None:
            call.outcome = "lost" if isinstance(outcome, ConnectionLost) else "error"
            call.error = outcome
        elif pending.timer is not None and pending.timer.scope.cancel_called:
            call.outcome, call.error = "lost", CallTimeout(f"{call.method} was not answered in time")
        else:
            call.outcome = "cancelled"
        self._instruments.end_call(call)

    def _accept(self, frame: InFrame) -> None:
        if isinstance(frame, ProgressRun) and self._instruments.observes_progress:
            token = frame.token if type(frame.token) is int else as_number(frame.token)
            call = self._observed_calls.get(token)
            for progress, total, message, exact in frame.updates if call is not None else ():
                assert call is not None
                self._instruments.report(call, progress if exact is None else exact, total, message)
        super()._accept(frame)


@attrs.frozen
class InstrumentedConnector(Connector):
    """A `Connector` whose connections are told to `instruments`."""

    instruments: Instruments = attrs.field(kw_only=True)

    def make_session(self, transport: FrameTransport, *args: Any) -> ClientSession:
        """Makes the session over a new connection."""
        kind, peer = find_kind(transport), _find_address(self.target)
        observed = ObservedSession(side="client", transport=kind, peer=peer)
        return InstrumentedClientSession(self.instruments, observed, transport, *args)

    @asynccontextmanager
    async def _open_once(self, pinned: Era | None) -> AsyncIterator[Link]:
        """As that of the base class."""
        async with Connector._open_once(self, pinned) as link:
            assert isinstance(link.session, InstrumentedClientSession)
            observed = link.session.observed
            observed.protocol_version = link.era.version
            observed.peer_info = link.agreement.server_info
            self.instruments.open_session(observed)
            try:
                yield link
            finally:
                self.instruments.end_session(observed)


def find_connector(instruments: Sequence[object]) -> Callable[..., Connector]:
    """What makes the connector of a client with `instruments`; raises TypeError for what is none."""
    for instrument in instruments:
        check_instrument(instrument)
    return partial(InstrumentedConnector, instruments=Instruments(instruments))


def _is_failure(result: msgspec.Raw) -> bool:
    try:
        return msgspec.json.decode(result, type=_ToolResult).is_error is True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False  # whoever has called finds out what is wrong


def _find_address(target: Any) -> str | None:
    """The origin of a URL, which has no secrets; None for any other target."""
    if not isinstance(target, str) or "://" not in target:
        return None
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
