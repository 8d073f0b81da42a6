"""The methods by which clients list and get prompts, and complete arguments.

Owns the steps from the parameters of such a request to its answer. A server without prompts never
imports this module.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from trio_mcp.errors import ProtocolError
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.context import Context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.pages import mark_list, read_page
from trio_mcp.server.prompt import PromptDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import (
    CompleteParams,
    GetPromptParams,
    ResourceTemplateReference,
    Result,
)
from trio_mcp.wire.prompts import CompleteResult, Completion, ListPromptsResult


class PromptMethods:
    """Answers the prompt methods of one running server, and completion/complete."""

    def __init__(self, definition: ServerDefinition, lifespan: Any, calls: ChildCalls) -> None:
        self._prompts = definition.prompts
        self._settings = definition.settings
        self._lifespan = lifespan
        self._calls = calls

    def list_prompts(self, request: ServerRequest) -> Result:
        """Answer prompts/list."""
        prompts, cursor = read_page(request, self._prompts, self._settings)
        listings = [prompt.listing for prompt in prompts]
        return mark_list(request, ListPromptsResult(prompts=listings, next_cursor=cursor), self._settings)

    async def get_prompt(self, request: ServerRequest) -> Result:
        """Answer prompts/get."""
        assert isinstance(request.params, GetPromptParams)
        prompt = self._find(request.params.name)
        params = request.params
        if params.request_state is not UNSET or params.input_responses is not UNSET:
            await self._calls.rounds.resume(request)
        context = None if prompt.parameters.context_name is None else self._make_context(request)
        arguments = request.params.arguments or {}
        return await prompt.get(context, arguments, self._calls.limiter, self._settings.max_values)

    async def complete(self, request: ServerRequest) -> Result:
        """Answer completion/complete; an argument without a function has no values."""
        params = request.params
        assert isinstance(params, CompleteParams)
        if isinstance(params.ref, ResourceTemplateReference):
            raise ProtocolError(INVALID_PARAMS, f"Unknown resource template: {params.ref.uri}")
        prompt = self._find(params.ref.name)
        argument = params.argument
        if argument.name not in prompt.argument_names:
            raise ProtocolError(
                INVALID_PARAMS, f"prompt {params.ref.name!r} has no argument {argument.name!r}"
            )
        completer = prompt.completers.get(argument.name)
        if completer is None:
            return CompleteResult(completion=Completion([], 0, False))
        known = {} if params.context is None else params.context.arguments or {}
        context = self._make_context(request)
        return CompleteResult(
            completion=await completer.complete(context, argument.value, known, self._calls.limiter)
        )

    def _find(self, name: str) -> PromptDefinition:
        prompt = self._prompts.get(name)
        if prompt is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown prompt: {name}")
        return prompt

    def _make_context(self, request: ServerRequest) -> Context:
        return Context(request, None, self._lifespan, self._calls)
