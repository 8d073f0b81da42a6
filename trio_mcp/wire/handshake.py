"""How a server finds the era of a request (MCP versioning).

Owns the legacy handshake as a state table and the reading of the modern
per-request `_meta`. A request that carries a modern `_meta` is served
statelessly whatever the handshake says; everything else needs `initialize`.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from trio_mcp.wire.eras import ERAS, LATEST_LEGACY, Era
from trio_mcp.wire.errors import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    ProtocolError,
)
from trio_mcp.wire.frames import ProgressToken
from trio_mcp.wire.incoming_request import IncomingRequest
from trio_mcp.wire.messages import (
    LOGGING_LEVELS,
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_DEADLINE,
    META_LOG_LEVEL,
    META_PROGRESS_TOKEN,
    META_PROTOCOL_VERSION,
    Implementation,
    InitializeParams,
    LoggingLevel,
)

logger = logging.getLogger("trio_mcp.wire")


class Handshake(enum.Enum):
    """The state of the legacy handshake."""

    AWAITED = "awaiting initialize"
    ANSWERED = "initialize answered"
    READY = "ready"


MOVES: Final[Mapping[tuple[Handshake, str], Handshake]] = {
    (Handshake.AWAITED, "initialize"): Handshake.ANSWERED,
    (Handshake.ANSWERED, "notifications/initialized"): Handshake.READY,
    # A client that has started anew on the same wire, such as behind a proxy that keeps the server.
    (Handshake.ANSWERED, "initialize"): Handshake.ANSWERED,
    (Handshake.READY, "initialize"): Handshake.ANSWERED,
}
MOST_SECONDS: Final = 1e12
"""About thirty thousand years; a longer deadline counts as this one."""

_BEFORE_HANDSHAKE: Final = frozenset({"initialize", "ping"})


class RequestMeta(msgspec.Struct, frozen=True):
    """The `_meta` of a request, and the client that sent it.

    `progress_token` is UNSET if the client wants no progress; 0 and "" are tokens. `log_level` is
    the lowest level that this request wants, or None. `seconds_left` is how long the client waits
    for the answer, or None if it does not say. `values` is the whole `_meta`. `trace` is the W3C context of
    what the server does for the request; None if nobody traces it there.
    """

    progress_token: ProgressToken | UnsetType = UNSET
    client_info: Implementation | None = None
    client_capabilities: Mapping[str, Any] = {}
    log_level: LoggingLevel | None = None
    values: Mapping[str, Any] = {}
    seconds_left: float | None = None
    trace: Mapping[str, str] | None = None


class ServerHandshake:
    """Finds the era of each request on one connection; keeps the state of its handshake."""

    __slots__ = ("_client_capabilities", "_client_info", "_era", "state")

    def __init__(self) -> None:
        self.state = Handshake.AWAITED
        self._era: Era | None = None
        self._client_info: Implementation | None = None
        self._client_capabilities: Mapping[str, Any] = {}

    @property
    def era(self) -> Era | None:
        """The era that `initialize` settled, or None before it."""
        return self._era

    def classify(self, request: IncomingRequest) -> tuple[Era, RequestMeta]:
        """The era that `request` belongs to, and its typed `_meta`.

        Raises ProtocolError with the error answer if the request cannot be served.
        """
        if request.meta_problem is not None:
            raise request.meta_problem
        method = request.frame.method
        if request.names_modern_version:
            era, meta = _read_modern(request.meta)
        else:
            era, meta = self._read_legacy(method, request.meta)
        if method not in era.requests:  # this error comes before one about the parameters
            raise ProtocolError(METHOD_NOT_FOUND, f"method {method!r} does not exist in {era.version}")
        if request.problem is not None:
            raise request.problem
        return era, meta

    def initialize(self, params: InitializeParams) -> Era:
        """Settle the era of the session that begins (MCP lifecycle, "Version Negotiation")."""
        moved = MOVES[self.state, "initialize"]
        asked = ERAS.get(params.protocol_version)
        era = LATEST_LEGACY if asked is None or asked.modern else asked
        self.state, self._era = moved, era
        self._client_info, self._client_capabilities = params.client_info, params.capabilities or {}
        return era

    def notified(self, method: str) -> bool:
        """Apply a notification to the state; False if it changes nothing, because it is not legal in it."""
        moved = MOVES.get((self.state, method))
        if moved is None:
            return False
        self.state = moved
        return True

    def _read_legacy(self, method: str, values: Mapping[str, Any]) -> tuple[Era, RequestMeta]:
        era = self._era
        if era is None:
            if method not in _BEFORE_HANDSHAKE:
                raise ProtocolError(
                    INVALID_PARAMS,
                    f"{method!r} needs {META_PROTOCOL_VERSION!r} in its _meta, or initialize first",
                )
            era = LATEST_LEGACY
        return era, RequestMeta(
            _read_token(values),
            self._client_info,
            self._client_capabilities,
            None,
            values,
            _read_seconds_left(values),
        )


def _read_token(values: Mapping[str, Any]) -> ProgressToken | UnsetType:
    token = values.get(META_PROGRESS_TOKEN)
    if token is None:
        return UNSET
    if type(token) is int or type(token) is str:
        return token
    raise ProtocolError(INVALID_PARAMS, "_meta.progressToken must be a string or an integer")


def _read_seconds_left(values: Mapping[str, Any]) -> float | None:
    seconds = values.get(META_DEADLINE)
    if seconds is None:
        return None
    if type(seconds) in (int, float) and 0 < seconds < math.inf:
        return float(min(seconds, MOST_SECONDS))
    raise ProtocolError(INVALID_PARAMS, f"_meta {META_DEADLINE!r} must be a number of seconds larger than 0")


def _read_modern(values: Mapping[str, Any]) -> tuple[Era, RequestMeta]:
    version = values[META_PROTOCOL_VERSION]
    if type(version) is not str:
        raise ProtocolError(INVALID_PARAMS, f"_meta {META_PROTOCOL_VERSION!r} must be a string")
    era = ERAS.get(version)
    if era is None or not era.modern:
        raise ProtocolError(
            UNSUPPORTED_PROTOCOL_VERSION,
            "Unsupported protocol version",
            {"supported": list(ERAS), "requested": version},
        )
    capabilities = values.get(META_CLIENT_CAPABILITIES)
    if not isinstance(capabilities, dict):
        raise ProtocolError(INVALID_PARAMS, f"_meta needs {META_CLIENT_CAPABILITIES!r}, an object")
    level = values.get(META_LOG_LEVEL)
    if level is not None and level not in LOGGING_LEVELS:
        raise ProtocolError(
            INVALID_PARAMS, f"_meta {META_LOG_LEVEL!r} must be one of {', '.join(LOGGING_LEVELS)}"
        )
    info = values.get(META_CLIENT_INFO)
    try:
        client = None if info is None else msgspec.convert(info, Implementation)
    except msgspec.ValidationError as error:
        logger.warning("%s is left out: %s", META_CLIENT_INFO, error)  # it is for display only
        client = None
    return era, RequestMeta(
        _read_token(values), client, capabilities, level, values, _read_seconds_left(values)
    )
