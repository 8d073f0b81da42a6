"""What questions to the client have in common: its capabilities, and the reading of its answer.

How a question travels is in `question_route.py`; what can be asked in `elicitation.py`, `sampling.py` and
`roots.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trio_mcp.errors import ProtocolError, RemoteProtocolError
from trio_mcp.session.request import ServerRequest


def has_capability(request: ServerRequest, name: str, part: str) -> bool:
    """Whether the client declared that `part` of the capability `name`."""
    declared = request.meta.client_capabilities.get(name)
    return isinstance(declared, Mapping) and part in declared


def convert_answer(answer: Any, answer_type: type[Any]) -> Any:
    """The client's answer as a value of `answer_type`.

    Raises ProtocolError if it is an error, and RemoteProtocolError if it is malformed.
    """
    if isinstance(answer, ProtocolError):
        raise answer
    try:
        return msgspec.convert(answer, answer_type)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"the client gave a malformed answer: {error}") from None
