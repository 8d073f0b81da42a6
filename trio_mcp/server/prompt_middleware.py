"""Middleware around prompts: what it is given, and the prompt that it runs around.

Knows nothing of requests. It is imported when a server is first given middleware for its prompts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import attrs
import trio

from trio_mcp.server.completers import Completer
from trio_mcp.server.context import Context, share_context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.layers import Layers
from trio_mcp.server.prompt import PromptDefinition
from trio_mcp.wire.prompts import GetPromptResult


class PromptContext(Context):
    """What middleware around prompts is given: the request's Context, with the prompt and its arguments."""

    __slots__ = ("_context", "_limiter", "_max_values", "arguments", "prompt")

    def __init__(
        self,
        context: Context,
        prompt: PromptDefinition,
        arguments: Mapping[str, Any],
        limiter: trio.CapacityLimiter,
        max_values: int,
    ) -> None:
        share_context(context, self)
        self.prompt = prompt
        """The prompt: with its listing and its scopes."""
        self.arguments = dict(arguments)
        """The arguments, as the texts that clients send; what is changed in here counts."""
        self._context = context
        self._limiter = limiter
        self._max_values = max_values

    @property
    def name(self) -> str:
        """The name of the prompt."""
        return self.prompt.listing.name

    def replace(self, *, arguments: Mapping[str, str]) -> PromptContext:
        """The same request with other arguments, for `call_next`; the function's own checks follow."""
        return PromptContext(self._context, self.prompt, arguments, self._limiter, self._max_values)


CallNextPrompt: TypeAlias = Callable[[PromptContext], Awaitable[GetPromptResult]]
PromptMiddleware: TypeAlias = Callable[[PromptContext, CallNextPrompt], Awaitable[GetPromptResult]]
"""An async function of the context and of `call_next`, which calls the prompt."""


async def _get(context: PromptContext) -> GetPromptResult:
    return await context.prompt.get(
        context._context, context.arguments, context._limiter, context._max_values
    )


@attrs.frozen(kw_only=True)
class LayeredPrompt(PromptDefinition):
    """A prompt with middleware around it; `inner` is the prompt itself."""

    inner: PromptDefinition
    layers: Layers[PromptContext, GetPromptResult]

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""
        return self.inner.shows_errors

    def find_completer(self, name: str) -> Completer | None:
        """What completes an argument; None if nothing does."""
        return self.inner.find_completer(name)

    async def get(
        self,
        context: Context | None,
        arguments: Mapping[str, Any],
        limiter: trio.CapacityLimiter,
        max_values: int,
    ) -> GetPromptResult:
        """Run the middleware, and the prompt where they say so; raises what they raise."""
        assert context is not None, "the prompt takes a context"
        return await self.layers.run(PromptContext(context, self.inner, arguments, limiter, max_values))


def make_prompt_layers() -> Layers[PromptContext, GetPromptResult]:
    """Layers around the prompts of one server."""
    return Layers(_get, PromptContext, GetPromptResult)


def put_around_prompts(definition: ServerDefinition, layers: Layers[PromptContext, GetPromptResult]) -> None:
    """Let all prompts of a server, those of later too, run inside of `layers`; once is enough."""

    def wrap(prompt: PromptDefinition) -> PromptDefinition:
        fields = {field.name: getattr(prompt, field.name) for field in attrs.fields(PromptDefinition)}
        return LayeredPrompt(**{**fields, "takes_context": True}, inner=prompt, layers=layers)

    definition.prompts.wrap_all(wrap)
