"""One run of a handler that asks its client in the modern era: its questions, and the answers so far.

Owns the keys of questions, and the end of the run by a question that has no answer yet. `input_rounds.py`
tells how the rounds of a call follow each other. It is imported when a call first asks.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Protocol

import msgspec
import trio
from msgspec import Raw

from trio_mcp.errors import NotSupportedByEra, RequestCancelled
from trio_mcp.schema.flaws import encode_json
from trio_mcp.server.question_place import Place
from trio_mcp.server.round_memory import RoundMemory
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.messages import (
    CallToolParams,
    GetPromptParams,
    InputRequiredResult,
    ReadResourceParams,
    Result,
)

logger = logging.getLogger("trio_mcp.server")

QUIET_TURNS: Final = 8
"""A run ends when the handler's tasks have asked nothing more for so many scheduling rounds."""

DIGEST_CHARACTERS: Final = 12
"""Of the digest in a key that the handler did not choose: enough to tell the questions of one call apart."""


class RoundState(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is sealed between two rounds; `call` names the call, `expires` is in seconds since 1970.

    `answers` are the client's by the key of the question, `asked` the keys of those that it is asked now,
    `remembered` the results of `Context.once`, and `floor` the largest progress that was sent. `forwarded` is
    what the server needs to go on that has asked, if the handler hands on the questions of another one.
    """

    id: str
    call: str
    expires: float
    answers: dict[str, dict[str, Any]] = {}
    asked: list[str] = []
    remembered: dict[str, Raw] = {}
    floor: float | None = None
    forwarded: str | None = None


class Worker(Protocol):
    """What runs the handler: the request, or the task that it could have become."""

    @property
    def scope(self) -> trio.CancelScope:
        """The scope around the handler."""

    @property
    def task_name(self) -> str:
        """The name of the Trio task in which the handler runs."""


class InputRound:
    """One run of the handler of one request, with the client's answers and what was sealed before it."""

    def __init__(
        self,
        request: ServerRequest,
        seal: Callable[[ServerRequest, RoundState], str],
        answers: Mapping[str, dict[str, Any]],
        state: RoundState | None = None,
    ) -> None:
        self._seal = seal
        self._request = request
        self._answers = dict(answers)
        self._state = state
        self._asked: set[str] = set()  # in this run, by their keys on the wire
        self._contents: dict[str, str] = {}  # the digest of what each key of the handler asks
        self._pending: dict[str, Raw] = {}  # the questions without an answer
        self._counts: dict[str, int] = {}
        self._stirs = 0
        self._ended = trio.Event()
        self._memory = RoundMemory({} if state is None else state.remembered)
        self._forwarded: str | None = None

    def __repr__(self) -> str:
        state = "ended" if self._ended.is_set() else "going on"
        return f"<InputRound {state}: {len(self._answers)} answers, {len(self._pending)} questions>"

    async def ask(
        self, place: Place, method: str, params: dict[str, Any], key: str | None, worker: Worker
    ) -> Any:
        """The client's answer; if there is none yet, end this run by cancelling the `worker`. Checkpoints.

        Raises ValueError if the same key has named another question in this run, and RequestCancelled in a
        task that is none of the handler's, which goes on when the run has ended.
        """
        if not isinstance(self._request.params, (CallToolParams, GetPromptParams, ReadResourceParams)):
            raise NotSupportedByEra(
                f"in protocol {self._request.era.version} a server cannot ask within {self._request.method!r}"
            )
        question = encode_json({"method": method, "params": params})
        name = self._name_question(place, method, question, key)
        if name in self._answers:
            await trio.lowlevel.checkpoint()
            return self._answers[name]
        if self._ended.is_set():  # in a shield, or in a task outside of the call
            return await _leave(worker)
        self._pending[name] = question
        self._stirs += 1
        try:
            await self._wait_quiet()
            if not self._ended.is_set():
                worker.scope.cancel()
                self._ended.set()
        finally:
            if not self._ended.is_set():  # the handler itself has given up this question
                del self._pending[name]
        return await _leave(worker)

    @property
    def forwarded(self) -> str | None:
        """What was kept by `forward` in the round before; None if nothing was."""
        return None if self._state is None else self._state.forwarded

    @property
    def new_answers(self) -> dict[str, dict[str, Any]]:
        """The answers that this round has brought, by the keys of the questions."""
        asked = self._answers if self._state is None else self._state.asked
        return {key: self._answers[key] for key in asked if key in self._answers}

    async def forward(self, questions: Mapping[str, Raw], forwarded: str, worker: Worker) -> NoReturn:
        """End this run with the questions of another server, by its own keys; `forwarded` is kept.

        The next round finds that, and its answers in `new_answers`. Nothing else of this run is kept.
        """
        self._pending = dict(questions)
        self._forwarded = forwarded
        worker.scope.cancel()
        self._ended.set()
        await _leave(worker)

    def refuse_within_once(self) -> None:
        """Raise LocalProtocolError if the caller is in a function of `once`."""
        self._memory.refuse_within("ask the client")

    async def once(self, place: Place, key: str, fn: Callable[[], Any], result_type: Any) -> Any:
        """See `Context.once`; checkpoints."""
        return await self._memory.once(self.name_place(place) + key, fn, result_type)

    @property
    def has_ended(self) -> bool:
        """Whether its questions have ended the run."""
        return self._ended.is_set()

    def conclude(self) -> Result | None:
        """The questions that end this run, or None if something else has ended it.

        Called when the handler has finished. Raises ProtocolError if the state becomes too large.
        """
        if not self._ended.is_set():
            return None
        before = self._state
        floor = self._request.call_queue.settle_progress()
        if before is not None and before.floor is not None:
            floor = max(floor, before.floor)
        known = self._asked if before is None else self._asked.union(before.answers, before.asked)
        self._warn_of_unasked()
        names = sorted(self._pending)  # Trio runs tasks in any order
        state = RoundState(
            id="",
            call="",
            expires=0,
            # The server that has asked keeps by itself what it was answered.
            answers={}
            if self._forwarded is not None
            else {key: answer for key, answer in self._answers.items() if key in known},
            asked=names,
            remembered=self._memory.results,
            floor=None if floor == -math.inf else floor,
            forwarded=self._forwarded,
        )
        return InputRequiredResult(
            result_type="input_required",
            input_requests={name: self._pending[name] for name in names},
            request_state=self._seal(self._request, state),
        )

    def name_place(self, place: Place) -> str:
        """What the keys of a handler begin with: nothing, unless another handler has called it.

        Calls of one tool with the same arguments are numbered.
        """
        if place.parent is None:
            return ""
        if place.prefix is None:
            digest = _digest(b"" if place.arguments is None else bytes(place.arguments))
            above = self.name_place(place.parent)
            place.prefix = self._number(f"{above}{place.path[-1]}-{digest}") + "/"
        return place.prefix

    def _name_question(self, place: Place, method: str, question: Raw, key: str | None) -> str:
        """The key of a question on the wire; what is asked again gets a number.

        Without a key of its own it is named by what it asks, and not by its turn alone: the tasks of a
        handler take turns in any order, and an answer must not become that to another question.
        """
        digest = _digest(bytes(question))
        above = self.name_place(place)
        base = f"{above}{method.partition('/')[0]}-{digest}" if key is None else above + key
        if self._contents.setdefault(base, digest) != digest:
            raise ValueError(f"two questions of this call have the key {key!r}: each needs one of its own")
        name = self._number(base)
        while name in self._asked:  # the handler has chosen a key with a number
            name = self._number(base)
        self._asked.add(name)
        return name

    def _number(self, name: str) -> str:
        """The name itself the first time, then with a number."""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name}-{count}"

    async def _wait_quiet(self) -> None:
        """Let the handler's other tasks ask as well, until none does and no `once` works; checkpoints."""
        while True:
            stirs = self._stirs
            for _ in range(QUIET_TURNS):
                await trio.lowlevel.checkpoint()
            if self._ended.is_set() or (stirs == self._stirs and not self._memory.is_busy):
                return
            await self._memory.wait_idle()

    def _warn_of_unasked(self) -> None:
        """Say that the client was asked in vain, if its answers answer no question of this run."""
        if self._state is None or self._forwarded is not None:
            return
        unasked = [key for key in self._state.asked if key in self._answers and key not in self._asked]
        if unasked and len(unasked) == len(self._state.asked):
            logger.warning(
                "%s asks something else than in the round before (then: %s): a question whose text changes "
                "needs a key=, and what must not change between the rounds belongs into ctx.once",
                self._request.method,
                ", ".join(map(repr, unasked)),
            )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]


async def _leave(worker: Worker) -> NoReturn:
    """End the asking task after the run has ended; checkpoints.

    In a shield and in a task that serves a worker thread, that is by trio.Cancelled as well.
    """
    await trio.lowlevel.checkpoint()
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    root = trio.lowlevel.current_root_task()
    while task is not None and task.parent_nursery is not None:
        above = task.parent_nursery.parent_task
        if task.name == worker.task_name or (above is root and task is trio.lowlevel.current_task()):
            await _raise_cancelled()
        task = above
    raise RequestCancelled("the call has ended to ask its client; its handler is run again with the answers")


async def _raise_cancelled() -> NoReturn:
    """Raise trio.Cancelled, also outside of the scope that was cancelled."""
    cancelled: BaseException | None = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            cancelled = error
            raise
    assert cancelled is not None, "the scope was cancelled"
    raise cancelled
