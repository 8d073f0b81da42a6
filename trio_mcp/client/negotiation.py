"""How a client finds out which protocol era a server speaks (MCP versioning, "Backward Compatibility").

Owns the probe with server/discover, the legacy handshake and the choice between them. Over HTTP an
answer decides. On any other wire a server that does not answer the probe may be legacy, so after a
while both are tried, and the first good answer counts. Knows no other method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_mcp.client.era_cache import EraCache
from trio_mcp.client.outcome import Outcome, read_error, unwrap
from trio_mcp.client.session import ClientSession
from trio_mcp.client.timeouts import CallTimer
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout, ConnectionLost, ProtocolError, RemoteProtocolError
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.eras import ERAS, LATEST_LEGACY, LATEST_MODERN, Era
from trio_mcp.wire.errors import (
    HEADER_MISMATCH,
    MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from trio_mcp.wire.frames import ErrorResponse
from trio_mcp.wire.messages import (
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_PROTOCOL_VERSION,
    META_SERVER_INFO,
    DiscoverResult,
    Implementation,
    InitializeParams,
    InitializeResult,
    Params,
)
from trio_mcp.wire.tasks import EXTENSION
from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly

_MODERN_ERRORS: Final = frozenset({HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION})

_PASSING: Final = frozenset({401, 403, 407, 408, 425, 429})
"""HTTP statuses of a request that may be let in at another time, beside all from 500 on."""


class ProbeLost(ConnectionLost):
    """The connection ended while nothing but the probe had been asked, as some legacy servers end it."""


@attrs.frozen
class Agreement:
    """The agreed protocol era, and the server's description of itself."""

    era: Era
    server_info: Implementation | None
    capabilities: Mapping[str, Any]
    instructions: str | None


def modern_meta(era: Era, client_info: Implementation, capabilities: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `_meta` of every modern request (MCP base protocol, "Per-request protocol fields")."""
    return {
        META_PROTOCOL_VERSION: era.version,
        META_CLIENT_INFO: client_info,
        META_CLIENT_CAPABILITIES: {
            **capabilities,
            "extensions": {**capabilities.get("extensions", {}), EXTENSION: {}},
        },
    }


def find_era(protocol: str) -> Era | None:
    """Return the era of the revision `protocol`, or None for "auto"; raises ValueError for an unknown one."""
    if protocol == "auto":
        return None
    era = ERAS.get(protocol)
    if era is None:
        raise ValueError(f'protocol must be "auto" or one of {", ".join(ERAS)}, not {protocol!r}')
    return era


async def negotiate(
    session: ClientSession,
    client_info: Implementation,
    pinned: Era | None,
    origin: str | None = None,
    era_cache: EraCache | None = None,
) -> Agreement:
    """Agree on an era; checkpoints. `origin` is that of a server behind HTTP, which `era_cache` may know.

    Raises CallTimeout after `handshake_timeout` seconds, ConnectionLost (ProbeLost if the server may
    be legacy, and has to be connected to again), and ProtocolError or RemoteProtocolError if there is
    no common era.
    """
    # The time that a person takes to let the client in does not count.
    timer = CallTimer("the handshake", math.inf, session.settings.handshake_timeout)
    with timer.scope, session.pauses.shaking_hands(timer):
        if pinned is None and origin is None:
            return await _probe(session, client_info)
        if pinned is None:
            return await _negotiate_origin(session, client_info, origin, era_cache)
        if pinned.modern:
            return _read_discover(await _discover(session, client_info, pinned), pinned)
        return await _initialize(session, client_info, pinned)
    raise CallTimeout(f"no handshake within {describe_seconds(session.settings.handshake_timeout)}")


async def _negotiate_origin(
    session: ClientSession, client_info: Implementation, origin: str | None, era_cache: EraCache | None
) -> Agreement:
    """Agree over HTTP, where only an answer decides: every request is answered, or its connection breaks."""
    if era_cache is None or origin is None:
        era_cache, origin = EraCache(), ""
    if origin in era_cache:
        try:
            return await _initialize(session, client_info, LATEST_LEGACY)
        except (ProtocolError, RemoteProtocolError):
            era_cache.discard(origin)  # the server has changed, or there is none
    outcome = await _discover(session, client_info, LATEST_MODERN)
    if isinstance(outcome, ConnectionLost):
        try:
            return await _initialize(session, client_info, LATEST_LEGACY)
        except (ProtocolError, RemoteProtocolError, ConnectionLost):
            raise outcome from None
    agreement = await _settle(session, client_info, outcome)
    if not agreement.era.modern and not _is_passing(outcome):
        era_cache.add(origin)
    return agreement


def _is_passing(outcome: Outcome) -> bool:
    """Whether an answer is an HTTP status that speaks of the moment, not of the server's era."""
    if not isinstance(outcome, ErrorResponse):
        return False
    data = read_error(outcome.error).data
    status = data.get("status") if isinstance(data, dict) else None
    return isinstance(status, int) and (status >= 500 or status in _PASSING)


async def _probe(session: ClientSession, client_info: Implementation) -> Agreement:
    outcome: Outcome | None = None
    initialized: Agreement | ProtocolError | None = None
    answered = trio.Event()

    async def ask() -> None:
        nonlocal outcome
        outcome = await _discover(session, client_info, LATEST_MODERN)
        answered.set()

    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.move_on_after(session.settings.probe_timeout):
            await answered.wait()
        was_silent = outcome is None
        if was_silent:
            initialized = await _initialize_unless(session, client_info, answered)
            nursery.cancel_scope.cancel()
            if isinstance(initialized, Agreement):
                return initialized
    assert outcome is not None, "either the probe was answered or the handshake was"
    if isinstance(outcome, ConnectionLost):
        if (session.left_unread and not was_silent) or initialized is not None:
            raise outcome  # it never read the probe, or answered after it, so it would end again
        raise ProbeLost(str(outcome))
    return await _settle(session, client_info, outcome)


async def _initialize_unless(
    session: ClientSession, client_info: Implementation, answered: trio.Event
) -> Agreement | ProtocolError | None:
    """Do the legacy handshake; return None, or the error that answered it, if the probe's outcome counts."""
    agreement: Agreement | ProtocolError | None = None
    async with open_unwrapping_nursery() as nursery:

        async def stop_when_answered() -> None:
            await answered.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop_when_answered)
        try:
            agreement = await _initialize(session, client_info, LATEST_LEGACY)
        except ProtocolError as error:
            agreement = error  # not a legacy server but a modern one that is slow to start
            await answered.wait()
        except ConnectionLost:
            await answered.wait()
        nursery.cancel_scope.cancel()
    return agreement


async def _settle(session: ClientSession, client_info: Implementation, outcome: Outcome) -> Agreement:
    """Act on the answer to the probe (MCP stdio, "Backward Compatibility")."""
    if isinstance(outcome, ErrorResponse):
        if outcome.error.code not in _MODERN_ERRORS:
            return await _initialize(session, client_info, LATEST_LEGACY)
        supported = _supported(outcome)
    else:
        raw = unwrap(outcome)
        try:
            supported = _decode(raw, DiscoverResult).supported_versions
        except RemoteProtocolError:
            # Some legacy servers answer every method with a result.
            return await _initialize(session, client_info, LATEST_LEGACY)
    era = next((era for version, era in ERAS.items() if version in supported), None)
    if era is None:
        raise RemoteProtocolError(
            f"no common protocol version: the server has {', '.join(supported)}, "
            f"this client {', '.join(ERAS)}"
        )
    if not era.modern:
        return await _initialize(session, client_info, era)
    if isinstance(outcome, ErrorResponse):
        outcome = await _discover(session, client_info, era)
    return _read_discover(outcome, era)


async def _discover(session: ClientSession, client_info: Implementation, era: Era) -> Outcome:
    params = Params(meta=modern_meta(era, client_info, session.answering.capabilities(modern=True)))
    return await _ask(session, "server/discover", params)


async def _ask(session: ClientSession, method: str, params: Params, *, cancellable: bool = True) -> Outcome:
    call = session.begin(method, params)
    try:
        return await call.wait()
    finally:
        session.end(call, cancellable=cancellable)


def _read_discover(outcome: Outcome, era: Era) -> Agreement:
    result = _decode(unwrap(outcome), DiscoverResult)
    if era.version not in result.supported_versions:
        raise RemoteProtocolError(
            f"the server does not serve {era.version}, only {', '.join(result.supported_versions)}"
        )
    info = (result.meta or {}).get(META_SERVER_INFO)
    try:
        server_info = None if info is None else msgspec.convert(info, Implementation)
    except msgspec.ValidationError:
        server_info = None  # self-reported and for display only, so not worth a failure
    return Agreement(era, server_info, result.capabilities or {}, result.instructions)


async def _initialize(session: ClientSession, client_info: Implementation, era: Era) -> Agreement:
    params = InitializeParams(
        protocol_version=era.version,
        capabilities=session.answering.capabilities(modern=False),
        client_info=client_info,
    )
    # MCP lifecycle: initialize must not be cancelled.
    outcome = await _ask(session, "initialize", params, cancellable=False)
    result = _decode(unwrap(outcome), InitializeResult)
    agreed = ERAS.get(result.protocol_version)
    if agreed is None or agreed.modern:
        raise RemoteProtocolError(
            f"the server wants protocol {result.protocol_version!r}, which is not served here"
        )
    session.notify("notifications/initialized", Params())
    return Agreement(agreed, result.server_info, result.capabilities or {}, result.instructions)


def _supported(frame: ErrorResponse) -> list[str]:
    error = read_error(frame.error)
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    if not isinstance(supported, list) or not all(isinstance(version, str) for version in supported):
        raise error
    return supported


def _decode(raw: msgspec.Raw, result_type: type[Any]) -> Any:
    try:
        return msgspec.json.decode(raw, type=result_type)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:
        return read_tolerantly(raw, result_type, f"the server's {result_type.__name__}")
    except UNREADABLE as error:
        raise RemoteProtocolError(f"the server sent a malformed {result_type.__name__}: {error}") from None
