"""The outcome of a request: a result, an error that the server answered, or why there is no answer.

Owns the one function that turns an outcome into a result or an exception. Knows no method.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from trio_mcp.errors import MCPError, ProtocolError
from trio_mcp.wire.errors import URL_ELICITATION_REQUIRED
from trio_mcp.wire.frames import ErrorObject, ErrorResponse, Response
from trio_mcp.wire.url_elicitation import read_required

Outcome: TypeAlias = Response | ErrorResponse | MCPError


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
    if error.code == URL_ELICITATION_REQUIRED:
        return read_required(error.code, error.message, data)
    return ProtocolError(error.code, error.message, data)
