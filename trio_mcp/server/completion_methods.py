"""The method by which clients complete arguments of prompts and variables of resource templates.

Owns the search for the function that completes one (MCP completion). A server without prompts and resources
never imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_mcp.errors import ProtocolError
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.server.child_calls import ChildCalls
from trio_mcp.server.completers import Completer
from trio_mcp.server.context import Context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.progress_choice import ProgressChoice
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import CompleteParams, PromptReference, ResourceTemplateReference, Result
from trio_mcp.wire.prompts import CompleteResult, Completion

if TYPE_CHECKING:  # a server may have only one of both kinds
    from trio_mcp.server.prompt import PromptDefinition
    from trio_mcp.server.resource import ResourceDefinition


class CompletionMethods:
    """Answers completion/complete of one running server; `calls` are what its functions may call."""

    def __init__(
        self, definition: ServerDefinition, lifespan: Any, calls: ChildCalls, progress: ProgressChoice
    ) -> None:
        self._definition = definition
        self._lifespan = lifespan
        self._calls = calls
        self._progress = progress

    async def complete(self, request: ServerRequest) -> Result:
        """Answer completion/complete; an argument without a function has no values."""
        params = request.params
        assert isinstance(params, CompleteParams)
        completer, policy = self._find(request, params.ref, params.argument.name)
        if completer is None:
            return CompleteResult(completion=Completion([], 0, False))
        if policy is not None or self._progress.for_all:
            name = params.ref.name if isinstance(params.ref, PromptReference) else params.ref.uri
            self._progress.settle(request, policy, name)
        known = {} if params.context is None else params.context.arguments or {}
        context = Context(request, None, self._lifespan, self._calls)
        value = params.argument.value
        return CompleteResult(completion=await completer.complete(context, value, known, self._calls.limiter))

    def _find(
        self, request: ServerRequest, ref: PromptReference | ResourceTemplateReference, name: str
    ) -> tuple[Completer | None, ServerPolicy | None]:
        """The function that completes `name`, and the policy; raises ProtocolError for what there is not."""
        found: PromptDefinition | ResourceDefinition
        if isinstance(ref, PromptReference):
            found = self._find_prompt(ref.name)
            what, kind, names = f"prompt {ref.name!r}", "argument", found.argument_names
        else:
            found = self._find_template(ref.uri)
            what, kind, names = f"resource template {ref.uri!r}", "variable", found.variable_names
        request.connection.require(found.scopes)
        if name not in names:
            raise ProtocolError(INVALID_PARAMS, f"{what} has no {kind} {name!r}")
        return found.find_completer(name), found.progress

    def _find_prompt(self, name: str) -> PromptDefinition:
        prompt = self._definition.prompts.enabled.get(name)
        if prompt is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown prompt: {name}")
        return prompt

    def _find_template(self, uri: str) -> ResourceDefinition:
        table = self._definition.resources
        template = None if table is None else table.templates.enabled.get(uri)
        if template is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown resource template: {uri}")
        return template
