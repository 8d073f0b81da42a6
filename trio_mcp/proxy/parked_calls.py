"""Calls that go on at an upstream server of a legacy revision while their client answers a question.

Such a server asks within the call, and waits. A modern client is asked by the end of its request, and brings
the answer with the next one, so the call waits here for it, with the connection. Owns the calls that wait,
and for how long. Refuses to know what is called.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import trio
from msgspec import Raw

from trio_mcp.client.call_answer import Question, Questions
from trio_mcp.errors import ProtocolError
from trio_mcp.handlers.sink import Progress
from trio_mcp.proxy.downstream import Downstream, strip_questions_meta
from trio_mcp.proxy.relayed_progress import RelayedProgress
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
from trio_mcp.wire.messages import LogParams

MAX_PARKED: Final = 1000
"""How many calls may wait for an answer at once: each has a connection of its own."""

MAX_LOGGED: Final = 256
"""How many log messages are kept for the next request of a call; older ones are dropped."""

MARK: Final = "parked:"
"""What begins the name of such a call in the state that its client brings back."""


class _Asked:
    """A question without an answer, and the answer."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.answered = trio.Event()
        self.answer: dict[str, Any] = {}


class ParkedCall:
    """One call, and the request of its client that is attached to it now, if one is."""

    def __init__(self) -> None:
        self.name = MARK + secrets.token_urlsafe(16)
        self.scope = trio.CancelScope()
        self._attached: Downstream | None = None
        self._progress: RelayedProgress | None = None
        self._asked: dict[str, _Asked] = {}
        self._count = 0
        self._logged: deque[LogParams] = deque(maxlen=MAX_LOGGED)
        self._result: Raw | None = None
        self._failure: BaseException | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "waits for its client" if self._attached is None else "has a request"
        return f"<ParkedCall {state}, {len(self._asked)} questions>"

    async def run(self, work: Callable[[], Awaitable[Raw]]) -> None:
        """Do the work, and keep what comes of it for the request that is attached then."""
        try:
            with self.scope:
                self._result = await work()
            if self.scope.cancelled_caught:
                self._failure = ProtocolError(INTERNAL_ERROR, "the call was given up")
        except Exception as error:  # raised by `attend`, in the task of a request
            self._failure = error
        self._changed.unpark_all()

    async def receive(self, update: Progress) -> None:
        """Report an update by the request that is attached; waits while none is."""
        while self._progress is None:
            await self._changed.park()
        await self._progress.receive(update)

    def take_log(self, message: LogParams) -> None:
        """Hand on a log message by the request that is attached, or keep it for the next; never waits."""
        if self._attached is None:
            self._logged.append(message)
        else:
            self._attached.take_log(message)

    async def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Let the client be asked by the end of its request, and wait for the answer; checkpoints."""
        self._count += 1
        key = f"question-{self._count}"
        given = strip_questions_meta(params)
        given.pop("elicitationId", None)  # which no modern client knows
        asked = self._asked[key] = _Asked(Question(method, given))
        self._changed.unpark_all()
        try:
            await asked.answered.wait()
        finally:
            del self._asked[key]
        return asked.answer

    async def attend(self, downstream: Downstream, answers: Mapping[str, dict[str, Any]], ttl: float) -> Raw:
        """Go on as a part of a request that brings `answers`, and return the result; checkpoints.

        If the client is asked, the request ends, and the call waits `ttl` seconds for another. Raises what
        the call raises. If the request is cancelled otherwise, so is the call.
        """
        self.scope.deadline = math.inf
        for key, answer in answers.items():
            if key in self._asked:
                self._asked[key].answer = answer
                self._asked[key].answered.set()
        while self._logged:
            downstream.take_log(self._logged.popleft())
        self._attached, self._progress = downstream, RelayedProgress(downstream)
        self._changed.unpark_all()
        try:
            while True:
                open_questions = {
                    key: one.question for key, one in self._asked.items() if not one.answered.is_set()
                }
                if self._failure is not None:
                    raise self._failure
                if self._result is not None:
                    return self._result
                if open_questions:
                    break
                await self._changed.park()
        except trio.Cancelled:
            self.scope.cancel()
            raise
        finally:
            self._attached = self._progress = None
        self.scope.deadline = trio.current_time() + ttl
        await downstream.hand_on(Questions("input_required", open_questions), self.name)
        raise AssertionError("the request has ended")


class ParkedCalls:
    """The calls of one upstream server that may wait; their work runs in `nursery`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._calls: dict[str, ParkedCall] = {}

    def __repr__(self) -> str:
        return f"<ParkedCalls: {len(self._calls)}>"

    def start(self, call: ParkedCall, work: Callable[[], Awaitable[Raw]]) -> None:
        """Start the work of a call; raises ProtocolError if there are too many."""
        if len(self._calls) >= MAX_PARKED:
            raise ProtocolError(INTERNAL_ERROR, f"overloaded: {MAX_PARKED} calls may ask their clients")
        self._calls[call.name] = call
        self._nursery.start_soon(self._run, call, work)

    def find(self, name: str) -> ParkedCall:
        """The call of that name; raises ProtocolError if it has waited for too long."""
        call = self._calls.get(name)
        if call is None:
            text = "the call that has asked this does not wait for an answer any more: make it again"
            raise ProtocolError(INVALID_PARAMS, text)
        return call

    async def _run(self, call: ParkedCall, work: Callable[[], Awaitable[Raw]]) -> None:
        try:
            await call.run(work)
        finally:
            # Kept until its request has been told, which needs no name.
            self._calls.pop(call.name, None)
