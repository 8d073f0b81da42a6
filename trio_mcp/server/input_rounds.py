"""The rounds of a call whose handler asks its client in the modern era.

Owns the multi round trip (MCP patterns, "Multi Round-Trip Requests"): a question without an answer ends the
run of the handler, and the server answers with its questions. The client sends the call again with its
answers, and the handler is run anew, with the answers so far by the key of each question. What must survive
travels sealed in `requestState`, so any replica with the same keys can go on.

    handler: await ctx.elicit(...)       no answer yet
      -> InputRound.ask                  notes the question, and lets the handler's other tasks ask theirs
      -> the call's scope is cancelled   every task of the handler unwinds
      -> InputRound.conclude             the answer: all questions of the round, and the sealed state
    client: the same call, with answers and state
      -> InputRounds.resume              opens the state, and refuses one that is not of this call
      -> the handler again, from its beginning; `ask` returns the answers so far

Refuses to know what is asked. Nothing here runs in a call that asks nothing.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, cast

import msgspec
import trio
from msgspec import Raw, UnsetType

from trio_mcp.errors import ProtocolError
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.settings import ServerSettings
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS
from trio_mcp.wire.messages import CallToolParams, GetPromptParams, ReadResourceParams

if TYPE_CHECKING:  # imported when a call first asks
    from trio_mcp.server.input_round import InputRound, RoundState
    from trio_mcp.server.state_seal import StateSeal
    from trio_mcp.session.used_states import UsedStates

logger = logging.getLogger("trio_mcp.server")


class InputRounds:
    """The rounds of all calls of one running server, which is named `server`."""

    def __init__(self, server: str, settings: ServerSettings) -> None:
        self._server = server
        self._settings = settings
        self._seal: StateSeal | None = None
        self._used: UsedStates | None = settings.used_states

    def find(self, request: ServerRequest) -> InputRound:
        """The round of `request`, which begins now if there is none."""
        found = request.round
        if found is None:
            from trio_mcp.server.input_round import InputRound

            found = request.round = InputRound(request, self.seal, {})
        return cast("InputRound", found)

    async def resume(self, request: ServerRequest) -> None:
        """Begin the round of a request that brings answers or a state; checkpoints.

        Raises ProtocolError for a state that was not given out for this call, has expired, or was used.
        """
        params = request.params
        assert isinstance(params, (CallToolParams, GetPromptParams, ReadResourceParams))
        if not request.era.modern:
            await trio.lowlevel.checkpoint()
            return
        from trio_mcp.server.input_round import InputRound

        answers: dict[str, dict[str, Any]] = {}
        if not isinstance(params.input_responses, UnsetType):
            # What is no object answers nothing, so it is asked for again.
            answers = {key: value for key, value in params.input_responses.items() if isinstance(value, dict)}
        if isinstance(params.request_state, UnsetType):
            await trio.lowlevel.checkpoint()
            request.round = InputRound(request, self.seal, answers)
            return
        state = self._open(request, params.request_state)
        if not await self._find_used().use(state.id, state.expires):
            raise _refuse("was used before: only the newest state of a call can go on, and once")
        # Of two answers to one question the first counts, and what was not asked is no answer.
        new = {key: answers[key] for key in state.asked if key in answers}
        if state.floor is not None:
            request.call_queue.begin_above(state.floor)
        request.round = InputRound(request, self.seal, {**new, **state.answers}, state)

    def seal(self, request: ServerRequest, state: RoundState) -> str:
        """Make the `requestState` of the next round; raises ProtocolError if it becomes too large."""
        state.id = secrets.token_urlsafe(16)
        state.call = self._name_call(request)
        state.expires = time.time() + self._settings.state_ttl
        sealed = self._find_seal().seal(msgspec.json.encode(state))
        if len(sealed) > self._settings.max_state_bytes:
            text = (
                f"the answers so far and what ctx.once remembers make a requestState of {len(sealed)} bytes; "
                f"max_state_bytes of this server is {self._settings.max_state_bytes}"
            )
            logger.error("%s failed: %s", request.method, text)
            raise ProtocolError(INTERNAL_ERROR, text)
        return sealed

    def _open(self, request: ServerRequest, sealed: str) -> RoundState:
        too_large = len(sealed) > self._settings.max_state_bytes
        content = None if too_large else self._find_seal().open(sealed)
        if content is None:
            raise _refuse("was not given out by this server, or was altered")
        from trio_mcp.server.input_round import RoundState

        state = msgspec.json.decode(content, type=RoundState)
        if state.call != self._name_call(request):
            raise _refuse("was given out for another call: other arguments, another name, or another client")
        if state.expires <= time.time():
            raise _refuse("has expired")
        return state

    def _name_call(self, request: ServerRequest) -> str:
        """A digest of all that must be the same in each round of a call."""
        params = request.params
        arguments: Any = None
        if isinstance(params, ReadResourceParams):
            name = params.uri
        else:
            assert isinstance(params, (CallToolParams, GetPromptParams))
            name, arguments = params.name, params.arguments
            if isinstance(arguments, Raw):
                arguments = msgspec.json.decode(arguments)
            elif isinstance(arguments, UnsetType):
                arguments = None
        call = [self._server, request.connection.owner, request.method, name, arguments or {}]
        return hashlib.sha256(msgspec.json.encode(call, order="deterministic")).hexdigest()

    def _find_seal(self) -> StateSeal:
        if self._seal is None:
            from trio_mcp.server.state_seal import StateSeal

            self._seal = StateSeal(self._settings.state_keys)
        return self._seal

    def _find_used(self) -> UsedStates:
        if self._used is None:
            from trio_mcp.session.used_states import MemoryUsedStates

            self._used = MemoryUsedStates()
        return self._used


def _refuse(reason: str) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, f"requestState {reason}")
