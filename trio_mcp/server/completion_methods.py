"""The method by which clients complete arguments of prompts and variables of resource templates.

Owns the search for the function that completes one (MCP completion). A server without prompts and resources
never imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trio_mcp.errors import ProtocolError
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.completers import Completer
from trio_mcp.server.context import Context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import CompleteParams, PromptReference, ResourceTemplateReference, Result
from trio_mcp.wire.prompts import CompleteResult, Completion


class CompletionMethods:
    """Answers completion/complete of one running server; `calls` are what its functions may call."""

    def __init__(self, definition: ServerDefinition, lifespan: Any, calls: ChildCalls) -> None:
        self._definition = definition
        self._lifespan = lifespan
        self._calls = calls

    async def complete(self, request: ServerRequest) -> Result:
        """Answer completion/complete; an argument without a function has no values."""
        params = request.params
        assert isinstance(params, CompleteParams)
        completer = self._find(params.ref, params.argument.name)
        if completer is None:
            return CompleteResult(completion=Completion([], 0, False))
        known = {} if params.context is None else params.context.arguments or {}
        context = Context(request, None, self._lifespan, self._calls)
        value = params.argument.value
        return CompleteResult(completion=await completer.complete(context, value, known, self._calls.limiter))

    def _find(self, ref: PromptReference | ResourceTemplateReference, name: str) -> Completer | None:
        """The function that completes `name`; raises ProtocolError for what there is not."""
        if isinstance(ref, PromptReference):
            what, kind, names, completers = self._find_prompt(ref.name)
        else:
            what, kind, names, completers = self._find_template(ref.uri)
        if name not in names:
            raise ProtocolError(INVALID_PARAMS, f"{what} has no {kind} {name!r}")
        return completers.get(name)

    def _find_prompt(self, name: str) -> tuple[str, str, Sequence[str], Mapping[str, Completer]]:
        prompt = self._definition.prompts.enabled.get(name)
        if prompt is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown prompt: {name}")
        return f"prompt {name!r}", "argument", prompt.argument_names, prompt.completers

    def _find_template(self, uri: str) -> tuple[str, str, Sequence[str], Mapping[str, Completer]]:
        table = self._definition.resources
        template = None if table is None else table.templates.enabled.get(uri)
        if template is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown resource template: {uri}")
        return f"resource template {uri!r}", "variable", template.variable_names, template.completers
