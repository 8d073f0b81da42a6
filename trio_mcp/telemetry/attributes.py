"""The names and attributes of spans and metrics, by OpenTelemetry's semantic conventions for MCP.

Owns which facts of a call become which attribute, and that what a peer has chosen is neither long nor makes
metrics grow without bound. Names of our own begin with "trio_mcp.".
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from trio_mcp.instruments import ObservedCall, ObservedSession, ObservedTask, Transport
from trio_mcp.wire.errors import INVALID_PARAMS, METHOD_NOT_FOUND

Attributes: TypeAlias = dict[str, str | int | float]

MAX_CHARACTERS: Final = 256
"""What a peer has chosen is cut to so many characters."""

METHOD: Final = "mcp.method.name"
PROTOCOL_VERSION: Final = "mcp.protocol.version"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "rpc.response.status_code"
TOOL_NAME: Final = "gen_ai.tool.name"

_TARGETS: Final = {
    "tools/call": TOOL_NAME,
    "prompts/get": "gen_ai.prompt.name",
}
"""Methods whose target is a part of the span's name, with the attribute that names it."""

_NETWORK: Final[Mapping[Transport, Mapping[str, str]]] = {
    "stdio": {"network.transport": "pipe"},
    "http": {"network.transport": "tcp", "network.protocol.name": "http"},
    "sse": {"network.transport": "tcp", "network.protocol.name": "http"},
    "websocket": {"network.transport": "tcp", "network.protocol.name": "websocket"},
}

_UNKNOWN_TARGET: Final = frozenset({INVALID_PARAMS, METHOD_NOT_FOUND})
"""Errors of a call whose target may not exist: a client may invent as many names as it likes."""


def cut(text: str) -> str:
    """The beginning of a text that a peer has chosen."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."


def name_span(call: ObservedCall) -> str:
    """The method, with the tool or prompt behind it."""
    if call.method not in _TARGETS or call.target is None:
        return call.method
    return f"{call.method} {cut(call.target)}"


def describe_call(call: ObservedCall) -> Attributes:
    """What is known of a call when it starts."""
    attributes: Attributes = {
        METHOD: call.method,
        "jsonrpc.request.id": cut(str(call.id)),
        **_NETWORK.get(call.transport, {}),
        **_describe_peer(call),
    }
    if call.protocol_version:
        attributes[PROTOCOL_VERSION] = call.protocol_version
    if call.target is not None:
        attributes[_TARGETS.get(call.method, "mcp.resource.uri")] = cut(call.target)
    if call.method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    session = call.session
    if session is not None and session.id is not None:
        # Whoever knows the id may use the session, so that a digest stands for it.
        attributes["mcp.session.id"] = sha256(session.id.encode()).hexdigest()[:32]
    return attributes


def describe_error(call: ObservedCall) -> Attributes:
    """How a call has failed; empty for one that has not, or that nobody wanted the answer of."""
    match call.outcome:
        case "tool_error":
            return {ERROR_TYPE: "tool_error"}
        case "error" if call.error_code is not None:
            code = str(call.error_code)
            return {ERROR_TYPE: code, STATUS_CODE: code}
        case "error" | "lost":
            return {ERROR_TYPE: "_OTHER" if call.error is None else type(call.error).__qualname__}
    return {}


def measure_call(call: ObservedCall) -> Attributes:
    """The attributes of the metrics of a call, of which there are few different ones."""
    attributes: Attributes = {METHOD: call.method, **_NETWORK.get(call.transport, {}), **describe_error(call)}
    if call.protocol_version:
        attributes[PROTOCOL_VERSION] = call.protocol_version
    is_known = call.side == "client" or call.error_code not in _UNKNOWN_TARGET
    if call.target is not None and call.method in _TARGETS and is_known:
        attributes[_TARGETS[call.method]] = cut(call.target)
    return attributes


def measure_session(session: ObservedSession) -> Attributes:
    """The attributes of the duration of a session."""
    attributes: Attributes = dict(_NETWORK.get(session.transport, {}))
    if session.protocol_version is not None:
        attributes[PROTOCOL_VERSION] = session.protocol_version
    return attributes


def describe_task(task: ObservedTask) -> Attributes:
    """What is known of a task when it begins."""
    return {TOOL_NAME: task.tool, "trio_mcp.task.id": task.id}


def _describe_peer(call: ObservedCall) -> Attributes:
    if not call.peer:
        return {}
    if call.side == "server":
        return {"client.address": call.peer}
    try:
        parts = urlsplit(call.peer)
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    port = port or {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme)
    address: Attributes = {} if host is None else {"server.address": host}
    return address if not address or port is None else {**address, "server.port": port}
