"""The answers to a task's questions, as a store keeps them for the process that runs the task.

Owns how an answer that is an error stands among results. Knows no store and no question.
"""

from __future__ import annotations

from typing import Any, Final

from trio_mcp.errors import ProtocolError
from trio_mcp.session.connection import read_answer
from trio_mcp.wire.frames import ErrorResponse, Response

REFUSED: Final = "io.github.trio-mcp/error"
"""The member by which an answer is an error; no result has it."""


def write_refusal(error: ProtocolError) -> dict[str, Any]:
    """The error that a client answered, as an answer that can be stored."""
    return {REFUSED: {"code": error.code, "message": error.message, "data": error.data}}


def write_answer(answer: Any) -> Any:
    """An answer that came as JSON or as a message, as JSON that can be stored."""
    if not isinstance(answer, (Response, ErrorResponse)):
        return answer
    try:
        return read_answer(answer)
    except ProtocolError as error:
        return write_refusal(error)


def read_stored_answer(answer: Any) -> Any:
    """The result of an answer that is JSON; raises ProtocolError if it is an error."""
    refused = answer.get(REFUSED) if isinstance(answer, dict) else None
    if not isinstance(refused, dict):
        return answer
    code, message = refused.get("code"), refused.get("message")
    if not isinstance(code, int):
        return answer
    raise ProtocolError(code, str(message), refused.get("data"))
