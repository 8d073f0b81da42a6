"""The request of a client of a proxy: what the upstream server may learn of it, and how its client is asked.

Owns what of a request is handed on: its capabilities, its `_meta`, its wishes for a task. Refuses to know
connections.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec
from msgspec import UNSET

from trio_mcp.client.call_answer import Questions
from trio_mcp.client.link import Link
from trio_mcp.client.server_requests import Answering
from trio_mcp.errors import ProtocolError
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.server.client_questions import has_capability
from trio_mcp.server.context import Context, parts_of
from trio_mcp.server.input_round import InputRound
from trio_mcp.server.question_route import ask_client
from trio_mcp.server.task_choice import declares_tasks, read_ttl
from trio_mcp.server.task_run import RunState
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import (
    META_ASKING,
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_DEADLINE,
    META_IDEMPOTENCY_KEY,
    META_LOG_LEVEL,
    META_PROGRESS_TOKEN,
    META_PROTOCOL_VERSION,
    META_WANTS_TASK,
    CallToolParams,
    GetPromptParams,
    LoggingLevel,
    LogParams,
    ReadResourceParams,
)
from trio_mcp.wire.progress_codec import META_RELATED_TASK
from trio_mcp.wire.tasks import EXTENSION

logger = logging.getLogger("trio_mcp.proxy")

OWN_META: Final = frozenset(
    {
        META_CLIENT_CAPABILITIES,
        META_CLIENT_INFO,
        META_DEADLINE,
        META_IDEMPOTENCY_KEY,
        META_LOG_LEVEL,
        META_PROGRESS_TOKEN,
        META_PROTOCOL_VERSION,
        META_RELATED_TASK,
        META_WANTS_TASK,
    }
)
"""The members of a request's `_meta` that belong to one connection; all others are handed on."""

_QUESTIONS: Final = {
    "elicitation": "elicitation/create",
    "sampling": "sampling/createMessage",
    "roots": "roots/list",
}


def strip_questions_meta(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a question without what says for which request of the upstream server it is."""
    given = {name: value for name, value in params.items() if name != "_meta"}
    meta = params.get("_meta")
    if isinstance(meta, Mapping):
        kept = {name: one for name, one in meta.items() if name not in (META_ASKING, META_RELATED_TASK)}
        if kept:
            given["_meta"] = kept
    return given


def _asks_list(params: Mapping[str, Any]) -> bool:
    """Whether a question is a form that asks for several of some choices."""
    schema = params.get("requestedSchema")
    fields = schema.get("properties") if isinstance(schema, Mapping) else None
    return isinstance(fields, Mapping) and any(
        isinstance(one, Mapping) and one.get("type") == "array" for one in fields.values()
    )


class Downstream:
    """The request in which a handler of the proxy runs."""

    __slots__ = ("_calls", "_run", "context", "request")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.request, self._run, self._calls = parts_of(context)

    def __repr__(self) -> str:
        return f"<Downstream of {self.request.method} {self.request.id!r}>"

    # What the upstream server may learn.

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the client can be asked, by its own account and by its revision."""
        declared, questions = self.request.meta.client_capabilities, self.request.era.questions
        found = {
            name: declared[name]
            for name, method in _QUESTIONS.items()
            if method in questions and isinstance(declared.get(name), Mapping)
        }
        if "roots" in found:
            found["roots"] = {}  # that they change is not handed on
        return found

    @property
    def log_level(self) -> LoggingLevel | None:
        """The lowest level of the log messages that the client wants, or None if it wants none."""
        return self.request.log_level

    def take_log(self, message: LogParams) -> None:
        """Hand on a log message behind what the request has sent, if the client wants it; never waits.

        Raises one of the decoder's errors for data that cannot be read.
        """
        request = self.request
        if not request.wants_log(message.level):
            return
        if request.call_queue.frames >= request.call_queue.outbox.frame_limit:
            logger.warning("a client reads slowly: log messages of an upstream server are dropped")
            return
        request.put_log(message.level, msgspec.json.decode(message.data), message.logger)

    def make_meta(self, link: Link) -> dict[str, Any]:
        """The `_meta` of a request to the upstream server on behalf of this one."""
        given = self.request.meta.values
        meta = {name: value for name, value in given.items() if name not in OWN_META}
        if link.era.modern:
            meta.update(link.meta)
            # A legacy client says with each call whether it wants a task, and is answered directly otherwise.
            takes_tasks = not self.request.era.modern or declares_tasks(self.request)
            extensions: dict[str, Any] = {EXTENSION: {}} if takes_tasks else {}
            meta[META_CLIENT_CAPABILITIES] = {**self.capabilities, "extensions": extensions}
            meta.pop(META_LOG_LEVEL, None)
            if self.log_level is not None:
                meta[META_LOG_LEVEL] = self.log_level
        return meta

    @property
    def idempotency_key(self) -> str | None:
        """The key of a call that has one."""
        key = self.request.meta.values.get(META_IDEMPOTENCY_KEY)
        return key if isinstance(key, str) and not self._calls.path else None

    # Progress.

    @property
    def wants_progress(self) -> bool:
        """Whether anybody sees what the handler reports."""
        return self.request.call_queue.has_token or self._run is not None or bool(self._calls.path)

    @property
    def reporter(self) -> ProgressReporter | None:
        """The progress of the request, whose stages may be those of another server; None for a child call."""
        found = self.context.progress().reporter
        return found if isinstance(found, ProgressReporter) and not self._calls.path else None

    @property
    def state_ttl(self) -> float:
        """How many seconds a client may take to answer a question of a round."""
        return float(self._calls.server.settings.state_ttl)

    # Tasks.

    @property
    def is_task(self) -> bool:
        """Whether the request has become a task."""
        return self.request.task is not None and not self._calls.path

    @property
    def wants_task(self) -> bool:
        """Whether the client has asked for a task, and gets one."""
        if self._run is None or self._calls.path or not isinstance(self.request.params, CallToolParams):
            return False
        if self.request.era.modern:
            return META_WANTS_TASK in self.request.meta.values
        return self.request.params.task is not UNSET

    @property
    def ttl(self) -> float | None:
        """How long the client wants its task to be kept, in seconds."""
        return read_ttl(self.request) if self.wants_task else None

    async def become_task(self, ttl: float | None) -> None:
        """Make a task of the request, if it may become one, to be kept for `ttl` seconds; checkpoints."""
        run = self._run
        if run is None or self._calls.path or self.request.task is not None:
            return
        if run.state is RunState.PROMOTABLE:
            run.live.note_ttl(ttl)
            await run.promote()

    # Questions.

    @property
    def hands_on_rounds(self) -> bool:
        """Whether the questions of a round go to the client as they are, with the end of this request."""
        return self.request.era.modern and not self._calls.path and self.request.task is None

    @property
    def may_become_task(self) -> bool:
        """Whether the request can still become a task, which can ask while it goes on."""
        return self._run is not None and self._run.state is RunState.PROMOTABLE and not self._calls.path

    def read_round(self) -> tuple[str | None, dict[str, dict[str, Any]]]:
        """What `hand_on` has kept in the round before, and the new answers; None and nothing in a first.

        A client may also bring answers without a state.
        """
        found = self.request.round
        if not isinstance(found, InputRound) or not self.hands_on_rounds or not self._continues:
            return None, {}
        return found.forwarded, found.new_answers

    @property
    def _continues(self) -> bool:
        params = self.request.params
        if not isinstance(params, (CallToolParams, GetPromptParams, ReadResourceParams)):
            return False
        return params.request_state is not UNSET or params.input_responses is not UNSET

    async def hand_on(self, questions: Questions, kept: str) -> None:
        """End this request with `questions`, which its client answers in the next; `kept` is found then.

        Never returns: the handler is cancelled, as by a question of its own.
        """
        found = self._calls.rounds.find(self.request)
        worker = self._run.live if self._run is not None and self._run.has_begun else self.request
        asked = {
            key: encode_value({"method": question.method, "params": question.params or {}})
            for key, question in (questions.input_requests or {}).items()
        }
        await found.forward(asked, kept, worker)

    async def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the client what the upstream server asks, and return its answer as it is; checkpoints.

        Raises ProtocolError if it cannot be asked, and with the error that it answers; ConnectionLost.
        """
        given = strip_questions_meta(params)
        if not self.request.era.asks_lists and _asks_list(given):
            text = f"in protocol {self.request.era.version} a form cannot ask for a list"
            raise ProtocolError(INVALID_PARAMS, text)
        is_url = given.get("mode") == "url"
        if is_url and not self.request.era.identifies_urls:
            given.pop("elicitationId", None)
        elif is_url:
            given.setdefault("elicitationId", secrets.token_urlsafe(16))
        answer = await ask_client(
            self.request, self._run, self._calls, method, given, None, self._find_needs(method, given)
        )
        if isinstance(answer, ProtocolError):
            raise answer
        return answer if isinstance(answer, dict) else {}

    def _find_needs(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the client must have declared to be asked this; None for what the method always needs."""
        if method == "elicitation/create":
            if params.get("mode") == "url":
                return {"elicitation": {"url": {}}}
            names_modes = any(has_capability(self.request, "elicitation", mode) for mode in ("form", "url"))
            return {"elicitation": {"form": {}} if names_modes else {}}
        if method == "sampling/createMessage" and ("tools" in params or "toolChoice" in params):
            return {"sampling": {"tools": {}}}
        return None


@attrs.frozen
class RelayedAnswering(Answering):
    """Answers the questions of an upstream server by asking the client of one request."""

    downstream: Downstream = attrs.field(kw_only=True)

    def capabilities(self, *, modern: bool) -> dict[str, Any]:
        """The capabilities of the client that is asked."""
        return self.downstream.capabilities

    def can_answer(self, question: Any) -> bool:
        """Whether the client can be asked a question."""
        method = question.get("method") if isinstance(question, Mapping) else None
        return any(_QUESTIONS[name] == method for name in self.downstream.capabilities)

    async def answer(self, method: str, params: Any) -> dict[str, Any]:
        """Ask the client; checkpoints. Raises ProtocolError."""
        return await self.downstream.ask(method, params if isinstance(params, Mapping) else {})
