"""The outcome of a request: a result, an error that the server answered, or why there is no answer.

Owns the one function that turns an outcome into a result or an exception, and the exception for scopes that
a connection lacks. Knows no method.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from trio_mcp.errors import InsufficientScope, MCPError, ProtocolError
from trio_mcp.wire.errors import INSUFFICIENT_SCOPE, REQUIRED_SCOPES, URL_ELICITATION_REQUIRED
from trio_mcp.wire.frames import ErrorObject, ErrorResponse, Response
from trio_mcp.wire.url_elicitation import read_required

Outcome: TypeAlias = Response | ErrorResponse | MCPError


class MissingScopesError(InsufficientScope, ProtocolError):
    """The server's answer that the token lacks scopes, which are `required`, where no other can be sent.

    Over WebSocket that is every request, for the token of the handshake holds for the whole connection; over
    HTTP it is one that has been carried out in part before its handler asked for a scope.
    """

    def __init__(self, code: int, message: str, data: Any) -> None:
        ProtocolError.__init__(self, code, message, data)
        self.error = "insufficient_scope"
        self.issuer = None
        try:
            self.required = frozenset(msgspec.convert(data, _Required).scopes)
        except msgspec.ValidationError:
            self.required = frozenset()

    def __str__(self) -> str:
        names = ", ".join(repr(scope) for scope in sorted(self.required))
        which = f"that also has {names}" if names else "with more scopes"
        advice = f"OAuth(scopes=[{names}])" if names else "OAuth(scopes=...)"
        return (
            f"{ProtocolError.__str__(self)}; no better token can be sent for this request: "
            f"connect again with one {which}, for example by auth={advice}"
        )


class _Required(msgspec.Struct):
    scopes: list[str] = msgspec.field(name=REQUIRED_SCOPES)


def unwrap(outcome: Outcome) -> msgspec.Raw:
    """Return the result of a request.

    Raises ProtocolError if the server answered with an error, and the MCPError itself if there
    is no answer.
    """
    if isinstance(outcome, Response):
        return outcome.result
    if isinstance(outcome, ErrorResponse):
        raise read_error(outcome.error)
    raise outcome


def read_error(error: ErrorObject) -> ProtocolError:
    """Return the exception for an error as it came over the wire."""
    data = None if isinstance(error.data, msgspec.UnsetType) else msgspec.json.decode(error.data)
    if error.code == INSUFFICIENT_SCOPE:
        return MissingScopesError(error.code, error.message, data)
    if error.code == URL_ELICITATION_REQUIRED:
        return read_required(error.code, error.message, data)
    return ProtocolError(error.code, error.message, data)
