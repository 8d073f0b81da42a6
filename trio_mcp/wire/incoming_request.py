"""A request as a server has read it: the frame, its typed parameters and its `_meta`, decoded once.

Owns the decoding of parameters, and the error answers for bad ones. The first that sees a request,
an HTTP endpoint or a session, makes one and hands it down. Refuses to know what a `_meta` means:
that is in `handshake`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trio_mcp.wire.eras import PARAMS
from trio_mcp.wire.errors import INVALID_PARAMS, ProtocolError
from trio_mcp.wire.frames import Request
from trio_mcp.wire.messages import META_PROTOCOL_VERSION, CallToolParams, Params
from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly


class IncomingRequest(msgspec.Struct, frozen=True):
    """A request and its decoded parameters.

    `params` have the type that `PARAMS` gives for the method, and `meta` is their `_meta`. If they
    cannot be decoded as that type, `problem` is the error answer and `params` is empty; then `meta`
    was decoded alone, and if that failed too, `meta` is empty and `meta_problem` is the error answer.
    """

    frame: Request
    params: Params
    meta: Mapping[str, Any]
    problem: ProtocolError | None = None
    meta_problem: ProtocolError | None = None

    @property
    def names_modern_version(self) -> bool:
        """Whether the `_meta` names a protocol version, as that of every modern request does."""
        return META_PROTOCOL_VERSION in self.meta


class _MetaOnly(msgspec.Struct):
    meta: dict[str, Any] | UnsetType | None = msgspec.field(name="_meta", default=UNSET)


_decoders: Final[dict[str, msgspec.json.Decoder[Any]]] = {}  # each is made when its method comes first
_other_decoder = msgspec.json.Decoder(Params)  # for methods that no era has
_meta_decoder = msgspec.json.Decoder(_MetaOnly)
_NOTHING: Final[Mapping[str, Any]] = {}


def read_request(frame: Request) -> IncomingRequest:
    """Decode the parameters of `frame`; never raises for what a peer sent."""
    decoder = _decoders.get(frame.method) or _find_decoder(frame.method)
    try:
        params = decoder.decode(b"{}" if frame.params is UNSET else frame.params)
    except (msgspec.MsgspecError, RecursionError) as error:
        try:
            params = read_tolerantly(_without_nulls(frame.params), PARAMS.get(frame.method, Params), "params")
        except UNREADABLE:
            return _read_flawed(frame, _describe(frame, error))
    if isinstance(params, CallToolParams):  # it keeps these members encoded
        if _is_null(params.arguments):
            params.arguments = UNSET
        if _is_null(params.task):
            params.task = UNSET
    return IncomingRequest(frame, params, _NOTHING if params.meta is UNSET else params.meta)


def _find_decoder(method: str) -> msgspec.json.Decoder[Any]:
    params = PARAMS.get(method)
    if params is None:
        return _other_decoder
    decoder = _decoders[method] = msgspec.json.Decoder(params)
    return decoder


def _is_null(member: Raw | UnsetType) -> bool:
    return not isinstance(member, UnsetType) and len(member) == 4 and bytes(member) == b"null"


def _without_nulls(params: Raw | UnsetType) -> bytes:
    """The parameters without the members that are null: for an optional one that means absent."""
    if isinstance(params, UnsetType):
        return b"{}"
    members = msgspec.json.decode(params, type=dict[str, Raw])
    return msgspec.json.encode({name: raw for name, raw in members.items() if bytes(raw) != b"null"})


def _read_flawed(frame: Request, problem: ProtocolError) -> IncomingRequest:
    """Decode the `_meta` alone: whether its era has the method is answered before a bad parameter."""
    if frame.params is UNSET:
        return IncomingRequest(frame, Params(), _NOTHING, problem)
    try:
        meta = _meta_decoder.decode(frame.params).meta
    except (msgspec.MsgspecError, RecursionError) as error:
        return IncomingRequest(frame, Params(), _NOTHING, problem, _describe(frame, error))
    return IncomingRequest(frame, Params(), meta or _NOTHING, problem)


def _describe(frame: Request, error: Exception) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, f"parameters of {frame.method!r}: {error}")
