"""The methods by which clients list and get prompts.

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
from trio_mcp.server.progress_choice import ProgressChoice
from trio_mcp.server.prompt import PromptDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import (
    GetPromptParams,
    Result,
)
from trio_mcp.wire.prompts import ListPromptsResult


class PromptMethods:
    """Answers the prompt methods of one running server."""

    def __init__(
        self, definition: ServerDefinition, lifespan: Any, calls: ChildCalls, progress: ProgressChoice
    ) -> None:
        self._prompts = definition.prompts
        self._settings = definition.settings
        self._lifespan = lifespan
        self._calls = calls
        self._progress = progress

    def list_prompts(self, request: ServerRequest) -> Result:
        """Answer prompts/list."""
        prompts, cursor = read_page(request, self._prompts, self._settings)
        listings = [prompt.listing for prompt in prompts]
        result = ListPromptsResult(prompts=listings, next_cursor=cursor)
        return mark_list(request, result, self._settings, self._prompts)

    async def get_prompt(self, request: ServerRequest) -> Result:
        """Answer prompts/get."""
        assert isinstance(request.params, GetPromptParams)
        prompt = self._find(request.params.name)
        request.connection.require(prompt.scopes)
        self._settle(request, prompt)
        params = request.params
        if params.request_state is not UNSET or params.input_responses is not UNSET:
            await self._calls.rounds.resume(request)
        context = self._make_context(request) if prompt.takes_context else None
        arguments = request.params.arguments or {}
        return await prompt.get(context, arguments, self._calls.limiter, self._settings.max_values)

    def _find(self, name: str) -> PromptDefinition:
        prompt = self._prompts.get(name)
        if prompt is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown prompt: {name}")
        return prompt

    def _settle(self, request: ServerRequest, prompt: PromptDefinition) -> None:
        if prompt.progress is not None or self._progress.for_all:
            self._progress.settle(request, prompt.progress, prompt.listing.name)

    def _make_context(self, request: ServerRequest) -> Context:
        return Context(request, None, self._lifespan, self._calls)
