"""What an HTTP answer means to the session: the frames in it, and which of them answers the request.

Owns what becomes of HTTP errors, of bodies that are no message and of answers with a wrong id. Reads no
socket but through the response that it is given, and keeps nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Container
from typing import Final

from msgspec import UNSET

from trio_mcp.transports.http.response import HttpResponse
from trio_mcp.wire.codec import decode_message, encode_value
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR
from trio_mcp.wire.frames import (
    ErrorObject,
    ErrorResponse,
    InFrame,
    Malformed,
    Request,
    RequestId,
    Response,
    as_number,
    is_same_id,
)
from trio_mcp.wire.http import JSON
from trio_mcp.wire.value_count import MAX_ANSWER_VALUES

logger = logging.getLogger("trio_mcp.transports")


_GONE: Final = re.compile(
    rb"(?:no valid|invalid|unknown|expired|unrecogni[sz]ed) (?:mcp[ -])?session"
    rb"|session(?:[ -]?id)?\b[^.;]{0,60}\b(?:not found|unknown|invalid|expired|not valid|gone|terminated|"
    rb"closed|no longer|does not exist|not exist|unrecogni[sz]ed)"
    rb"|server (?:is )?not initialized",
    re.IGNORECASE,
)
"""How servers say with 400 that they do not have the session, for example because they were restarted."""


async def read_refusal(answer: HttpResponse) -> tuple[HttpResponse, bool]:
    """The answer to a request of a session, and whether it says that there is no such session.

    That is 404 (MCP transports, "Session Management"), or 400 with such words. Checkpoints if it
    waits for the body. Raises UnreachableError if that breaks off.
    """
    if answer.code != 400:
        return answer, answer.code == 404
    body = await answer.read_body() or b""

    async def chunks() -> AsyncIterator[bytes]:  # noqa: ASYNC124, ASYNC900  # it holds no resource
        yield body

    return answer.with_chunks(chunks()), _GONE.search(body[:2000]) is not None


async def read_answer(request: Request, answer: HttpResponse, url: str, limit: int) -> InFrame:
    """The one message that answers a request; an HTTP error that holds none becomes one.

    Checkpoints if it waits for the body. Raises UnreachableError if that breaks off.
    """
    body = await answer.read_body()
    if body is None:
        return Malformed(PARSE_ERROR, f"an answer longer than {limit} bytes", request.id)
    is_answer = answer.is_success and answer.content_type == JSON and body.strip()
    frame = decode_message(body, MAX_ANSWER_VALUES)
    if is_answer and isinstance(frame, Malformed):
        return Malformed(frame.code, frame.reason, request.id, kind="answer")
    if isinstance(frame, ErrorResponse):
        # Whatever its id says: servers that could not tell which request it was make one up.
        return ErrorResponse(frame.error, request.id)
    if is_answer:
        return frame
    message = f"{url} answered {answer.status} to {request.method}"
    if answer.is_success:
        message += f" with a body of type {answer.content_type or 'unknown'}"
    data = encode_value({"status": answer.code})
    return ErrorResponse(ErrorObject(INTERNAL_ERROR, message, data), request.id)


def claim_frames(
    frames: list[InFrame], ident: RequestId, others: Container[RequestId], *, is_modern: bool, url: str
) -> tuple[list[InFrame], InFrame | None]:
    """The frames of one request's stream as the session is to see them, and the answer if it is among them.

    `others` are the other requests whose answer a stream of the legacy eras may bring. Any other answer
    is taken for this request's, and fails it. What follows a modern answer is dropped, because nothing may
    follow it.
    """
    claimed: list[InFrame] = []
    answer: InFrame | None = None
    for frame in frames:
        if isinstance(frame, Malformed) and frame.lost:
            # What could not be kept may have been this request's answer, but no other's.
            frame = Malformed(frame.code, frame.reason, ident, kind="answer")
        elif isinstance(frame, Malformed) and frame.kind != "request" and frame.id is not UNSET:
            frame = Malformed(frame.code, frame.reason, ident, kind="answer")
        elif isinstance(frame, ErrorResponse) and not isinstance(frame.id, (int, str)):
            frame = ErrorResponse(frame.error, ident)
        elif isinstance(frame, Request) and is_modern:
            # Nor could it be answered (MCP 2026-07-28 transports, "Receiving Messages").
            logger.warning("%s asked for %s, as no modern server may", url, frame.method)
            continue
        elif isinstance(frame, (Response, ErrorResponse)) and frame.id != ident:
            frame = _claim_answer(frame, ident, others, is_modern=is_modern)
        claimed.append(frame)
        if isinstance(frame, (Response, ErrorResponse, Malformed)) and frame.id == ident:
            answer = answer or frame
            if is_modern:
                break
    return claimed, answer


def _claim_answer(
    frame: Response | ErrorResponse, ident: RequestId, others: Container[RequestId], *, is_modern: bool
) -> InFrame:
    """An answer on the stream of the request `ident` that does not have its id."""
    if is_same_id(frame.id, ident):
        return (
            Response(ident, frame.result)
            if isinstance(frame, Response)
            else ErrorResponse(frame.error, ident)
        )
    if not is_modern and isinstance(frame.id, (int, str)) and as_number(frame.id) in others:
        return frame
    reason = f"an answer with the id {frame.id!r} to the request {ident!r}"
    return Malformed(INVALID_REQUEST, reason, ident, kind="answer")
