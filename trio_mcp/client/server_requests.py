"""Answering the requests of a server: elicitation, sampling, roots and ping.

Owns which handler answers what, one task for each request, and the boundary at which a handler's failure
becomes an error response. The form of each answer is in `elicitation.py`, `sampling.py` and `roots.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_mcp.client.call_pauses import CallPauses
from trio_mcp.client.elicitation import ElicitationHandler, ElicitUrlHandler, answer_form, answer_url
from trio_mcp.client.roots import RootList
from trio_mcp.client.sampling import SamplingHandler, answer_sampling
from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.errors import ProtocolError
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import encode_value, make_error
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND
from trio_mcp.wire.frames import (
    ErrorObject,
    ErrorResponse,
    OutFrame,
    Request,
    RequestId,
    Response,
    as_number,
    as_other_type,
)
from trio_mcp.wire.messages import META_ASKING, EmptyResult
from trio_mcp.wire.progress_codec import META_RELATED_TASK

logger = logging.getLogger("trio_mcp.client")

MAX_REQUESTS: Final = 64
"""How many requests of a server may be answered at once: each may be shown to a person."""


@attrs.frozen
class Answering:
    """The handlers of one client; `takes_tools` says that its model uses tools.

    `extension` is that of its authorization, which a client of the modern era declares.
    """

    elicitation: ElicitationHandler | None = None
    sampling: SamplingHandler | None = None
    url: ElicitUrlHandler | None = None
    roots: RootList | None = None
    takes_tools: bool = False
    extension: str | None = None

    def capabilities(self, *, modern: bool) -> dict[str, Any]:
        """The capabilities that the client declares because it has these handlers."""
        declared: dict[str, Any] = {}
        if self.url is not None:
            forms = self.elicitation is not None
            declared["elicitation"] = {"form": {}, "url": {}} if forms else {"url": {}}
        elif self.elicitation is not None:
            declared["elicitation"] = {}  # forms, also for revisions that have nothing else
        if self.sampling is not None:
            declared["sampling"] = {"tools": {}} if self.takes_tools else {}
        if self.roots is not None:
            declared["roots"] = {} if modern else {"listChanged": True}
        if self.extension is not None and modern:
            declared["extensions"] = {self.extension: {}}
        return declared

    def can_answer(self, question: Any) -> bool:
        """Whether there is a handler for a question, which has a `method` and perhaps `params`."""
        if not isinstance(question, Mapping):
            return False
        method, params = question.get("method"), question.get("params")
        if method == "elicitation/create" and isinstance(params, Mapping) and params.get("mode") == "url":
            return self.url is not None
        handlers = {
            "elicitation/create": self.elicitation,
            "sampling/createMessage": self.sampling,
            "roots/list": self.roots,
        }
        return handlers.get(str(method)) is not None

    async def answer(self, method: str, params: Any) -> dict[str, Any]:
        """Return the result of a server's request; checkpoints if the handler does.

        Raises ProtocolError for a method that has no handler and for bad parameters.
        """
        if method == "roots/list" and self.roots is not None:
            return await self.roots.answer()
        if not isinstance(params, Mapping):
            raise ProtocolError(INVALID_PARAMS, f"{method} needs parameters")
        if method == "elicitation/create" and (self.elicitation is not None or self.url is not None):
            return await self._elicit(params)
        if method == "sampling/createMessage" and self.sampling is not None:
            return await answer_sampling(self.sampling, params, takes_tools=self.takes_tools)
        raise ProtocolError(METHOD_NOT_FOUND, f"this client does not serve {method!r}")

    async def _elicit(self, params: Mapping[str, Any]) -> dict[str, Any]:
        mode = params.get("mode", "form")
        if mode == "form" and self.elicitation is not None:
            return await answer_form(self.elicitation, params)
        if mode == "url" and self.url is not None:
            return await answer_url(self.url, params)
        raise ProtocolError(INVALID_PARAMS, f"this client has not declared elicitation with mode {mode!r}")


class ServerRequests:
    """The requests of one server that are being answered, each in a task of its own.

    `pauses` are the timers of calls, which stand still while a question is open.
    """

    def __init__(self, answering: Answering, put: Callable[[OutFrame], None], pauses: CallPauses) -> None:
        self._answering = answering
        self._put = put
        self._pauses = pauses
        self._nursery: trio.Nursery | None = None  # while requests are taken
        self._scopes: dict[RequestId, trio.CancelScope] = {}
        self._asking: dict[RequestId, RequestId] = {}  # the call that a request belongs to, if it says so

    def __len__(self) -> int:
        return len(self._scopes)

    def open(self, nursery: trio.Nursery) -> None:
        """Take requests from now on; `nursery` gets the tasks that answer them."""
        self._nursery = nursery

    def close(self) -> None:
        """Take no more requests, and cancel those that are being answered."""
        self._nursery = None
        for scope in self._scopes.values():
            scope.cancel()

    def accept(self, frame: Request) -> None:
        """Answer a request, or start the task that does; never waits."""
        if frame.method == "ping":
            self._put(Response(frame.id, encode_value(EmptyResult())))
        elif frame.id in self._scopes:
            self._refuse(frame, INVALID_REQUEST, f"request id {frame.id!r} is already in use")
        elif self._nursery is not None and len(self._scopes) < MAX_REQUESTS:
            # Registered here, not in the task, so that a cancellation that follows at once finds it.
            # Shielded, as the rest of the session: `close` cancels it when the client's block has ended.
            scope = self._scopes[frame.id] = trio.CancelScope(shield=True)
            self._nursery.start_soon(self._answer, frame, scope)
        else:
            self._refuse(frame, INTERNAL_ERROR, f"{len(self._scopes)} questions are open already")

    def cancel(self, ident: RequestId | None) -> bool:
        """Cancel the answering of a request; False if there is none with this id."""
        if ident is None:
            return False
        scope = self._scopes.get(ident) or self._scopes.get(as_other_type(ident))
        if scope is None:
            return False
        scope.cancel()
        return True

    def close_for(self, call: RequestId) -> None:
        """Cancel the answering of what was asked for a call that is over, and answer nothing."""
        for ident, asking in self._asking.items():
            if asking == call:
                self._scopes[ident].cancel()

    async def _answer(self, frame: Request, scope: trio.CancelScope) -> None:
        answer: Response | ErrorResponse | None = None
        try:
            with scope:
                params = {} if isinstance(frame.params, msgspec.UnsetType) else _decode(frame.params)
                call, task_id = _find_asking(params)
                if call is not None:
                    self._asking[frame.id] = call
                with self._pauses.pausing(call, task_id):
                    result = await self._answering.answer(frame.method, params)
                answer = Response(frame.id, encode_json(_related(params, result)))
        except ProtocolError as error:
            answer = ErrorResponse(make_error(error), frame.id)
        except BaseException as error:  # noqa: ASYNC103  # a user's code may raise anything; see contain_failure
            answer = ErrorResponse(ErrorObject(INTERNAL_ERROR, f"{frame.method} failed"), frame.id)
            contain_failure(error, f"the handler of {frame.method}", logger)
        finally:
            self._scopes.pop(frame.id, None)
            self._asking.pop(frame.id, None)
        if answer is not None:
            self._put(answer)

    def _refuse(self, frame: Request, code: int, message: str) -> None:
        self._put(ErrorResponse(ErrorObject(code, message), frame.id))


def _decode(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(INVALID_PARAMS, str(error)) from None


def _meta(params: Any) -> Mapping[str, Any]:
    meta = params.get("_meta") if isinstance(params, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def _find_asking(params: Any) -> tuple[RequestId | None, str | None]:
    """The call and the task that a question belongs to, as far as it says so."""
    call = _meta(params).get(META_ASKING)
    related = _meta(params).get(META_RELATED_TASK)
    task_id = related.get("taskId") if isinstance(related, Mapping) else None
    return (
        as_number(call) if isinstance(call, (int, str)) else None,
        task_id if isinstance(task_id, str) else None,
    )


def _related(params: Any, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result, marked with the task that the question belongs to (2025-11-25)."""
    related = _meta(params).get(META_RELATED_TASK)
    return result if related is None else {**result, "_meta": {META_RELATED_TASK: related}}
