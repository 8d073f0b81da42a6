"""How the requests of a proxy's clients are handed on to one upstream server.

Owns what is sent and what is made of the answer, which is handed back as it came. Refuses to know how the
connection is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Raw

from trio_mcp.client.call_answer import Questions
from trio_mcp.client.forwarded_call import ForwardedCall, ForwardedRequest
from trio_mcp.client.link import Link
from trio_mcp.client.prompts import make_completion_params
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.errors import ProtocolError, RemoteProtocolError
from trio_mcp.proxy.downstream import Downstream
from trio_mcp.proxy.failures import explained
from trio_mcp.proxy.parked_calls import MARK
from trio_mcp.proxy.proxy_run import NoteTask, Work
from trio_mcp.proxy.relay import Relay
from trio_mcp.server.context import Context
from trio_mcp.wire.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND
from trio_mcp.wire.faithful import read_faithfully
from trio_mcp.wire.messages import (
    META_SERVER_INFO,
    CallToolParams,
    CallToolResult,
    CompleteParams,
    GetPromptParams,
    PromptReference,
    ReadResourceParams,
    ResourceTemplateReference,
    Result,
)
from trio_mcp.wire.progress_codec import META_RELATED_TASK, PROGRESS_META
from trio_mcp.wire.prompts import CompleteResult, Completion, GetPromptResult
from trio_mcp.wire.resources import ReadResourceResult
from trio_mcp.wire.tolerant import UNREADABLE

S = TypeVar("S", bound=Result)

_UNKNOWN: Final = re.compile(r"not found|unknown|no such|nothing", re.IGNORECASE)

_OWN_META: Final = frozenset({META_SERVER_INFO, META_RELATED_TASK, PROGRESS_META})
"""The members of a result's `_meta` that each server writes by itself."""


class Lender(Protocol):
    """The connections to an upstream server of a proxy that runs."""

    async def forward(self, downstream: Downstream, work: Work) -> Raw:
        """Do the work by the connection that a request needs; raises ProtocolError if there is none."""


class LinkForwarder:
    """Hands requests on to the server `name`; `find_lender` finds its connections by the context of one."""

    def __init__(self, name: str, find_lender: Callable[[Context], Lender]) -> None:
        self.name = name
        self._find_lender = find_lender

    def __repr__(self) -> str:
        return f"<LinkForwarder to {self.name!r}>"

    async def call_tool(self, context: Context, name: str, arguments: Raw | None) -> CallToolResult:
        """Call a tool and return its result as it is; checkpoints. Raises ProtocolError."""
        downstream = Downstream(context)
        params = CallToolParams(name=name, arguments=UNSET if arguments is None else arguments)

        async def work(link: Link, relay: Relay, note_task: NoteTask) -> Raw:
            async def become_task(snapshot: TaskSnapshot) -> None:
                note_task(snapshot.id)
                await downstream.become_task(snapshot.ttl)

            _continue(downstream, params)
            call = ForwardedCall(
                link,
                params,
                relay.sink,
                on_begin=relay.begin,
                on_questions=partial(_hand_on, downstream),
                on_task=become_task,
                idempotency_key=downstream.idempotency_key if link.knows_keys else None,
            )
            as_task = downstream.wants_task and link.era.tasks != "none"
            return await call.forward(as_task=as_task, ttl=downstream.ttl)

        with explained(self.name):
            raw = await self._find_lender(context).forward(downstream, work)
            return _read(_with_content(raw), CallToolResult, f"result of the tool {name!r}")

    async def get_prompt(self, context: Context, name: str, arguments: Mapping[str, Any]) -> GetPromptResult:
        """Get a prompt and return its messages as they are; checkpoints. Raises ProtocolError."""
        params = GetPromptParams(name=name, arguments=dict(arguments) or None)
        raw = await self._request(context, "prompts/get", params, f"prompt {name!r}")
        with explained(self.name):
            return _read(raw, GetPromptResult, f"prompt {name!r}")

    async def read_resource(self, context: Context, uri: str) -> ReadResourceResult:
        """Read a resource and return the result as it is; checkpoints. Raises ProtocolError."""
        try:
            raw = await self._request(
                context, "resources/read", ReadResourceParams(uri=uri), f"resource {uri!r}"
            )
        except ProtocolError as error:
            # Each revision has a code of its own for a resource that there is not; one has it in common with
            # what is wrong with the parts of a URI.
            is_unknown = error.code == RESOURCE_NOT_FOUND or (
                error.code == INVALID_PARAMS and error.data == {"uri": uri} and _UNKNOWN.search(error.message)
            )
            if not is_unknown:
                raise
            code = Downstream(context).request.era.unknown_resource
            raise ProtocolError(code, error.message, error.data) from None
        with explained(self.name):
            return _read(raw, ReadResourceResult, f"resource {uri!r}")

    async def complete(
        self,
        context: Context,
        ref: PromptReference | ResourceTemplateReference,
        argument: Mapping[str, str],
        known: Mapping[str, str],
    ) -> Completion:
        """Complete an argument; checkpoints. Raises ProtocolError."""
        params = make_completion_params(ref, argument, known)
        what = f"completion of {params.argument.name!r}"
        raw = await self._request(context, "completion/complete", params, what)
        with explained(self.name):
            return _read(raw, CompleteResult, what).completion

    async def _request(
        self,
        context: Context,
        method: str,
        params: CompleteParams | GetPromptParams | ReadResourceParams,
        what: str,
    ) -> Raw:
        downstream = Downstream(context)

        async def work(link: Link, relay: Relay, note_task: NoteTask) -> Raw:
            if not isinstance(params, CompleteParams):
                _continue(downstream, params)
            request = ForwardedRequest(
                link,
                method,
                params,
                what,
                relay.sink,
                on_begin=relay.begin,
                on_questions=partial(_hand_on, downstream),
            )
            return await request.run()

        with explained(self.name):
            return await self._find_lender(context).forward(downstream, work)


def _continue(downstream: Downstream, params: CallToolParams | GetPromptParams | ReadResourceParams) -> None:
    """Go on with what the upstream server has asked in the round before, if it has."""
    kept, answers = downstream.read_round()
    if kept is None:
        if answers:
            params.input_responses = answers
    elif not kept.startswith(MARK):
        state = msgspec.json.decode(kept, type=str | None)
        params.request_state = UNSET if state is None else state
        params.input_responses = answers


async def _hand_on(downstream: Downstream, questions: Questions) -> None:
    """Let the client answer in its next request, if it can do that; returns if it is asked now."""
    if downstream.hands_on_rounds:
        await downstream.hand_on(questions, msgspec.json.encode(questions.request_state).decode())


def _with_content(raw: Raw) -> Raw:
    """A tool's result with the content that it must have; several servers leave it out."""
    if b'"content"' in bytes(raw):
        return raw
    try:
        members = msgspec.json.decode(raw, type=dict[str, Raw])
    except UNREADABLE:
        return raw  # which is told where it is read
    return Raw(msgspec.json.encode({"content": [], **members}))


def _read(raw: Raw, kind: type[S], what: str) -> S:
    try:
        result = read_faithfully(raw, kind, f"the {what}")
    except UNREADABLE as error:
        raise RemoteProtocolError(f"the server sent a malformed {what}: {error}") from None
    if result.result_type not in (None, "complete"):
        raise RemoteProtocolError(f"the server answered with the unknown type {result.result_type!r}")
    result.result_type = None
    if result.meta is not None:
        result.meta = {name: one for name, one in result.meta.items() if name not in _OWN_META} or None
    return result
