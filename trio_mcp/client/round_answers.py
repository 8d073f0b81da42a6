"""Answering the questions that a server asks instead of a result (MCP multi round-trip requests).

Owns that the questions of one round are answered at the same time, and the boundary at which a failure of a
handler ends. Refuses to know what was called.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET

from trio_mcp.client.call_answer import Question, Questions
from trio_mcp.client.server_requests import MAX_REQUESTS, Answering
from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import ProtocolError, RemoteProtocolError
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import CallToolParams, GetPromptParams, ReadResourceParams

logger = logging.getLogger("trio_mcp.client")

MAX_ROUNDS: Final = 100
"""How often a server may ask for input before it answers one request: more than a person would answer."""


async def answer_round(
    answering: Answering,
    questions: Questions,
    params: CallToolParams | GetPromptParams | ReadResourceParams,
) -> None:
    """Put the answers to `questions` into the parameters of the next request; checkpoints if a handler does.

    Raises ProtocolError for a question that this client does not answer, and RemoteProtocolError for more
    than `MAX_REQUESTS` of them.
    """
    asked = questions.input_requests or {}
    if len(asked) > MAX_REQUESTS:
        raise RemoteProtocolError(f"the server asks {len(asked)} questions at once; {MAX_REQUESTS} at most")
    params.input_responses = await _answer_all(answering, asked)
    params.request_state = UNSET if questions.request_state is None else questions.request_state


async def _answer_all(answering: Answering, questions: Mapping[str, Question]) -> dict[str, Any]:
    if len(questions) == 1:
        ((key, question),) = questions.items()
        return {key: await _answer(answering, question)}
    answers: dict[str, Any] = {}

    async def answer(key: str, question: Question) -> None:
        answers[key] = await _answer(answering, question)

    # The server has asked them at the same time, so one may wait for another.
    async with open_unwrapping_nursery() as nursery:
        for key, question in questions.items():
            nursery.start_soon(answer, key, question)
    return answers


async def _answer(answering: Answering, question: Question) -> Any:
    """The client's answer; a form whose handler fails is answered as cancelled."""
    method = question.method
    try:
        answer = await answering.answer(method, question.params or {})
        encode_json(answer)  # raises ValueError for what is not JSON
    except ProtocolError:
        raise
    except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything; see contain_failure
        contain_failure(error, f"the handler of {method}", logger)
    else:
        return answer
    if method == "elicitation/create":
        return {"action": "cancel"}
    raise ProtocolError(INTERNAL_ERROR, f"{method} failed")
